"""DCGAN: a generative adversarial network of convolutions."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, NonNegativeFloat
from dlcli.layers.convolution import channels_of
from dlcli.registry import MODELS

SMALLEST_SIDE = 4  # of the maps between the convolutions and the noise, or the score
KERNEL = 4


@MODELS.register("dcgan")
class DCGAN(nn.Module):
    """Transposed convolutions that double noise to a picture in [-1, 1], and convolutions that halve it to a score.

    Each has 4×4 windows and is followed by batch norm and a rectifier, a leaky one in the discriminator. Next to the
    picture there are ``channels`` maps, and twice as many with every halving of the side, down to 4×4.

    Source: Radford, Metz, Chintala 2016, "Unsupervised representation learning with deep convolutional generative
    adversarial networks"; d2l 20.2 (64 channels for pictures of 64×64).
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("gan",)}
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        latent_size: Count,
        channels: Count,
        slope: NonNegativeFloat,
        discriminator_norm: bool,
        init: Literal["normal", "normal_around_one"],
    ):
        """
        Args:
            input_shape: (C, H, W) of one picture; H = W = 4·2^k with k > 0.
            latent_size: numbers of noise that a picture is made of.
            channels: maps next to the picture, in both networks.
            slope: of the discriminator's rectifiers below zero.
            discriminator_norm: batch norm in the discriminator; a gradient penalty needs one without.
            init: weights of convolutions begin as N(0, 0.02²); with normal those of the norms and their biases too, as
                in d2l, with normal_around_one these as N(1, 0.02²) and 0, as in Radford et al.

        Raises:
            ConfigError: no pictures, or of another size.
        """
        super().__init__()
        depth, side = channels_of("dcgan", input_shape), input_shape[1]
        halvings = (side // SMALLEST_SIDE).bit_length() - 1
        if input_shape[1:] != (side, side) or side != SMALLEST_SIDE << max(1, halvings):
            larger = next(SMALLEST_SIDE << k for k in range(1, 32) if SMALLEST_SIDE << k >= max(input_shape[1:]))
            raise ConfigError(
                f"model 'dcgan' needs square pictures with a side of 8, 16, 32, 64 or another 4·2^k pixels, got "
                f"{'×'.join(map(str, input_shape[1:]))}; use data.resize={larger} (data.size={larger} for folders of "
                "images)"
            )
        self.latent_size = latent_size
        widths = [channels << k for k in range(halvings)]  # from the picture's side to the smallest one

        self.generator = nn.Sequential(
            nn.Unflatten(1, (latent_size, 1, 1)),
            *_doubling(latent_size, widths[-1], stride=1, padding=0),
            *(layer for wide, narrow in pairwise(widths[::-1]) for layer in _doubling(wide, narrow)),
            nn.ConvTranspose2d(channels, depth, KERNEL, 2, 1, bias=False),
            nn.Tanh(),
        )
        halving = [
            layer
            for inputs, outputs in pairwise([depth, *widths])
            for layer in _halving(inputs, outputs, slope, norm=discriminator_norm)
        ]
        self.discriminator = nn.Sequential(*halving, nn.Conv2d(widths[-1], 1, KERNEL, bias=False), nn.Flatten(0))
        self._initialise(init)

    def _initialise(self, rule: str) -> None:
        for module in self.modules():
            norm = isinstance(module, nn.BatchNorm2d)
            for name, parameter in module.named_parameters(recurse=False):
                if norm and rule == "normal_around_one":
                    nn.init.normal_(parameter, 1.0, 0.02) if name == "weight" else nn.init.zeros_(parameter)
                else:
                    nn.init.normal_(parameter, std=0.02)

    def forward(self, noise: Tensor) -> Tensor:
        """noise (B, latent_size) -> the discriminator's score (B,) of each picture that is generated from it."""
        scores: Tensor = self.discriminator(self.generator(noise))
        return scores


def _doubling(inputs: int, outputs: int, stride: int = 2, padding: int = 1) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(inputs, outputs, KERNEL, stride, padding, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _halving(inputs: int, outputs: int, slope: float, *, norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, KERNEL, 2, 1, bias=not norm)
    return [convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(slope, inplace=True)]
