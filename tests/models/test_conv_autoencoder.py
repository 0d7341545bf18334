"""The convolutional autoencoder: shapes, sizes, and its way through a narrow code."""

import pytest
import torch

from dlcli.errors import ConfigError
from dlcli.models.conv_autoencoder import ConvAutoencoder


def build(**changes):
    options = {"channels": [4, 3], "kernel_size": 5, "code_size": 2, "activation": "tanh", "init": "xavier"}
    return ConvAutoencoder(**({"input_shape": (1, 8, 6)} | options | changes))


def test_images_come_back_through_the_code():
    model, images = build(), torch.rand(7, 1, 8, 6) * 2 - 1
    assert model.encoder(images).shape == (7, 2)
    assert model(images).shape == images.shape
    assert model(images).abs().max() < 1
    torch.testing.assert_close(model(images), model.decoder(model.encoder(images)))


def test_parameter_count_of_the_books_network():
    model = build(input_shape=(1, 28, 28), channels=[14, 7], code_size=28)
    size = 7 * 28 * 28
    convolutions = (25 * 14 + 14) + (25 * 14 * 7 + 7) + (25 * 7 * 14 + 14) + (25 * 14 + 1)
    assert sum(p.numel() for p in model.parameters()) == convolutions + (size * 28 + 28) + (28 * size + size)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"model.kernel_size=4: expected an odd number"):
        build(kernel_size=4)
    with pytest.raises(ConfigError, match=r"model 'conv_autoencoder' needs images \(C, H, W\), not inputs of shape"):
        build(input_shape=(13,))
