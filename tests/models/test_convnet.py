"""The plain convolutional network, by its formula and by its counts."""

import pytest
import torch
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.models.convnet import ConvNet


def build(**changes):
    options = {"channels": [4, 3], "kernel_size": 3, "padding": 0, "hidden_sizes": [5], "activation": "tanh"}
    options |= {"bias": True, "dropout": 0.0, "init": "xavier", "init_range": None, "init_numpy_seed": None}
    return ConvNet(**({"input_shape": (2, 8, 7), "num_outputs": 6} | options | changes))


def test_equals_the_formula():
    model = build()
    first, second, dense = model.hidden[0], model.hidden[3], model.hidden[7]
    images = torch.randn(3, 2, 8, 7)
    maps = torch.tanh(F.conv2d(images, first.weight, first.bias))
    maps = torch.tanh(F.conv2d(maps, second.weight, second.bias))  # (3, 3, 4, 3)
    hidden = torch.tanh(maps.flatten(1) @ dense.weight.T + dense.bias)
    torch.testing.assert_close(model(images), hidden @ model.output.weight.T + model.output.bias)


def test_the_books_networks():
    count = lambda model: sum(parameter.numel() for parameter in model.parameters())  # noqa: E731
    mnist = {"input_shape": (1, 28, 28), "num_outputs": 10}
    dlfs = build(**mnist, channels=[16], kernel_size=5, padding=2, hidden_sizes=[])
    assert count(dlfs) == 16 * 25 + 16 + 28 * 28 * 16 * 10 + 10
    gdl = build(**mnist, channels=[16], kernel_size=3, hidden_sizes=[], bias=False, init_range=[0.01, 0.1])
    assert count(gdl) == 16 * 9 + 26 * 26 * 16 * 10
    assert gdl.hidden[0].weight.abs().max() <= 0.01
    assert 0.09 < gdl.output.weight.abs().max() <= 0.1


def test_dropout_follows_every_activation_and_acts_in_training_only():
    model, images = build(dropout=0.5), torch.randn(3, 2, 8, 7)
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in model.hidden) == 3
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"model.kernel_size=5: 2 convolutions leave nothing of images of 8x7"):
        build(kernel_size=5)
    with pytest.raises(ConfigError, match=r"model 'convnet' needs images \(C, H, W\), not inputs of shape \(13,\)"):
        build(input_shape=(13,))
