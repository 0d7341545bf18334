"""The convolutional autoencoder of DLFS chapter 7."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Activation, Count, Init
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("conv_autoencoder")
class ConvAutoencoder(nn.Module):
    """Convolutions and a linear layer down to a short code, and the same way back to an image in [-1, 1].

    Source: DLFS chapter 7 (14 and 7 channels, a code of 28 numbers).
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("reconstruction",)}

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        channels: list[Count],
        kernel_size: Count,
        code_size: Count,
        activation: Activation,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W) of one image.
            channels: of each convolution on the way to the code.
            kernel_size: the side of every window; odd, so that images keep their size.
            code_size: numbers that an image is squeezed into.
            activation: the function after each layer but those that make the code and the image.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: no images, or an even kernel_size.
        """
        super().__init__()
        self.code_size = code_size
        if len(input_shape) != 3:
            raise ConfigError(f"model 'conv_autoencoder' needs images (C, H, W), not inputs of shape {input_shape}")
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"model.kernel_size={kernel_size}: expected an odd number, so that images keep their size"
            )
        depth, height, width = input_shape
        depths = [depth, *channels]
        padding = kernel_size // 2
        encoder: list[nn.Module] = []
        for before, after in pairwise(depths):
            encoder += [nn.Conv2d(before, after, kernel_size, padding=padding), make_activation(activation)]
        size = depths[-1] * height * width
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(size, code_size))
        decoder: list[nn.Module] = [nn.Linear(code_size, size), make_activation(activation)]
        decoder.append(nn.Unflatten(1, (depths[-1], height, width)))
        for before, after in pairwise(depths[::-1]):
            decoder += [nn.Conv2d(before, after, kernel_size, padding=padding), make_activation(activation)]
        decoder[-1] = nn.Tanh()
        self.decoder = nn.Sequential(*decoder)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> their reconstructions, the same shape, in [-1, 1]."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions
