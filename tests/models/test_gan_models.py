"""The adversarial models: shapes at every size, and how their weights begin."""

import pytest
import torch
from torch import nn

from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.errors import ConfigError
from dlcli.registry import MODELS
from dlcli.spec import DataSpec


def make(name: str, shape: tuple[int, ...], **options: object) -> nn.Module:
    config = load_yaml(CONFIGS / "model" / f"{name}.yaml")
    torch.manual_seed(0)
    return MODELS.build({**config, **options}, spec=DataSpec(input_shape=shape), label="data")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 32, 32), (3, 64, 64)])
def test_dcgan_makes_and_judges_pictures_of_any_such_side(shape: tuple[int, ...]) -> None:
    model = make("dcgan", shape, channels=4, latent_size=7)
    made = model.generator(torch.randn(2, 7))
    assert made.shape == (2, *shape)
    assert made.abs().max() <= 1
    assert model.discriminator(made).shape == (2,)


def test_dcgan_has_the_books_layers_for_the_books_pictures() -> None:
    """d2l 20.2: 512, 256, 128 and 64 maps from 100 numbers, for pictures of 3×64×64."""
    model = make("dcgan", (3, 64, 64))
    up = [layer.weight.shape[:2] for layer in model.generator if isinstance(layer, nn.ConvTranspose2d)]
    assert up == [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    down = [layer.weight.shape[:2] for layer in model.discriminator if isinstance(layer, nn.Conv2d)]
    assert down == [(64, 3), (128, 64), (256, 128), (512, 256), (1, 512)]


@pytest.mark.parametrize(("init", "middle"), [("normal", 0.0), ("normal_around_one", 1.0)])
def test_dcgan_begins_as_the_book_or_as_the_paper_says(init: str, middle: float) -> None:
    model = make("dcgan", (1, 32, 32), init=init)
    convolution, norm = model.requires_grad_(False).generator[4:6]
    assert float(convolution.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(norm.weight.mean()) == pytest.approx(middle, abs=0.01)
    assert float(norm.weight.std()) == pytest.approx(0.02, rel=0.3)
    assert bool(norm.bias.any()) is (init == "normal")


def test_without_norms_the_discriminator_has_biases() -> None:
    model = make("dcgan", (1, 16, 16), discriminator_norm=False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.discriminator)
    assert model.discriminator[0].bias is not None
    assert make("dcgan", (1, 16, 16)).discriminator[0].bias is None


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 28, 28), r"8, 16, 32, 64 or another 4·2\^k pixels, got 28×28; use data.resize=32"),
        ((3, 32, 48), "got 32×48; use data.resize=64"),
        ((1, 4, 4), "got 4×4; use data.resize=8"),
        ((12,), r"model 'dcgan' needs images, input_shape \(channels, height, width\), got \(12,\)"),
    ],
)
def test_other_pictures_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("dcgan", shape)


def test_the_perceptrons_have_the_books_sizes() -> None:
    """d2l 20.1: a linear generator 2 → 2, a discriminator 2 → 5 → 3 → 1."""
    model = make("gan_mlp", (2,))
    assert sum(parameter.numel() for parameter in model.generator.parameters()) == 2 * 2 + 2
    assert [layer.weight.shape for layer in model.discriminator if isinstance(layer, nn.Linear)] == [
        *((5, 2), (3, 5), (1, 3)),
    ]
    pictures = make("gan_mlp", (1, 4, 4), generator_sizes=[6], output="tanh")
    assert pictures.generator(torch.randn(3, 2)).shape == (3, 1, 4, 4)
    assert pictures.output_range == (-1, 1)
