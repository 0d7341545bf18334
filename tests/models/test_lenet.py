import pytest
import torch
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.models.lenet import LeNet


def build(input_shape=(1, 28, 28), **changes):
    options = {"activation": "relu", "pooling": "max", "padding": 2, "batch_norm": False, "init": "he"}
    return LeNet(input_shape=input_shape, num_outputs=10, **(options | changes))


def test_parameter_count_of_the_classic_network():
    assert sum(parameter.numel() for parameter in build().parameters()) == 61_706


@pytest.mark.parametrize(
    ("pooling", "pool", "activation", "function"),
    [("max", F.max_pool2d, "relu", torch.relu), ("average", F.avg_pool2d, "sigmoid", torch.sigmoid)],
)
def test_equals_the_layers_written_out(pooling, pool, activation, function):
    model = build(pooling=pooling, activation=activation)
    p = dict(model.named_parameters())
    images = torch.rand(2, 1, 28, 28)
    hidden = function(F.conv2d(images, p["convolutions.0.weight"], p["convolutions.0.bias"], padding=2))
    hidden = function(F.conv2d(pool(hidden, 2), p["convolutions.3.weight"], p["convolutions.3.bias"]))
    hidden = pool(hidden, 2).reshape(2, 400)
    for layer in ("dense.0", "dense.2"):
        hidden = function(hidden @ p[f"{layer}.weight"].T + p[f"{layer}.bias"])
    expected = hidden @ p["dense.4.weight"].T + p["dense.4.bias"]
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("input_shape", [(1, 12, 12), (3, 13, 27), (1, 32, 32), (3, 96, 15)])
def test_any_size_from_the_smallest(input_shape):
    assert build(input_shape)(torch.rand(2, *input_shape)).shape == (2, 10)


@pytest.mark.parametrize(("input_shape", "size"), [((1, 8, 8), "8×8"), ((3, 28, 11), "28×11"), ((1, 1, 40), "1×40")])
def test_smaller_images_are_refused(input_shape, size):
    message = f"model 'lenet' needs images of at least 12×12 pixels, got {size}; use larger images"
    with pytest.raises(ConfigError, match=message):
        build(input_shape)


def test_tables_are_refused():
    with pytest.raises(ConfigError, match=r"needs images, input_shape \(channels, height, width\), got \(13,\); use"):
        build((13,))


def test_batch_norm_stands_before_each_activation():
    model = build(batch_norm=True, padding=0, activation="sigmoid", pooling="average").train()
    kinds = [type(layer).__name__ for layer in [*model.convolutions, *model.dense]]
    block = ["BatchNorm2d", "Sigmoid", "AvgPool2d"]
    dense = ["Linear", "BatchNorm1d", "Sigmoid"]
    assert kinds == ["Conv2d", *block, "Conv2d", *block, *dense, *dense, "Linear"]
    hidden = model.convolutions[:2](torch.randn(8, 1, 28, 28))
    torch.testing.assert_close(hidden.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.var((0, 2, 3), correction=0), torch.ones(6), rtol=0, atol=1e-2)
