"""LeNet-5."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Init
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS

SMALLEST = 12  # a side of 12 is halved to 6, cut to 2 by the second convolution and halved to 1


@MODELS.register("lenet")
class LeNet(nn.Module):
    """Two convolutions of 5×5, each pooled to half its size, then layers of 120, 84 and ``num_outputs`` units.

    Source: LeCun et al. 1998, in the form of d2l 7.6, with zero padding that keeps the size in the first convolution.
    On 28×28 pixels with one channel and 10 classes it has 61,706 parameters.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        activation: Literal["relu", "tanh", "sigmoid", "gelu", "silu", "prelu"],
        pooling: Literal["max", "average"],
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W), with H and W at least 12.
            num_outputs: classes or targets.
            activation: the function after each layer but the last.
            pooling: what is taken of each 2×2 window.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        if len(input_shape) != 3:
            raise ConfigError(
                f"model 'lenet' needs images, input_shape (channels, height, width), got {tuple(input_shape)}; "
                "use model=mlp or data of images"
            )
        channels, height, width = input_shape
        if min(height, width) < SMALLEST:
            raise ConfigError(
                f"model 'lenet' needs images of at least {SMALLEST}×{SMALLEST} pixels, got {height}×{width}; "
                "use model=mlp or larger images"
            )
        pool = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[pooling]
        features = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),  # (B, 6, H, W)
            make_activation(activation),
            pool(2),  # (B, 6, H/2, W/2)
            nn.Conv2d(6, 16, kernel_size=5),  # (B, 16, H/2 - 4, W/2 - 4)
            make_activation(activation),
            pool(2),  # (B, 16, H/4 - 2, W/4 - 2)
        )
        self.dense = nn.Sequential(
            nn.Linear(features, 120),
            make_activation(activation),
            nn.Linear(120, 84),
            make_activation(activation),
            nn.Linear(84, num_outputs),
        )
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.convolutions(images).flatten(1)  # (B, features)
        outputs: Tensor = self.dense(features)
        return outputs
