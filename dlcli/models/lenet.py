"""LeNet-5."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Activation, Init
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.convolution import channels_of, shape_after
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("lenet")
class LeNet(nn.Module):
    """Two convolutions of 5×5, each pooled to half its size, then layers of 120, 84 and ``num_outputs`` units.

    Source: LeCun et al. 1998, in the form of d2l 7.6, with zero padding that keeps the size in the first convolution;
    with batch normalisation d2l 8.5, where no convolution is padded.
    On 28×28 pixels with one channel and 10 classes it has 61,706 parameters, and 44,878 in the form with batch norm.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        activation: Activation,
        pooling: Literal["max", "average"],
        padding: Literal[0, 2],
        batch_norm: bool,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W).
            num_outputs: classes or targets.
            activation: the function after each layer but the last.
            pooling: what is taken of each 2×2 window.
            padding: zeros around the picture; 2 keeps its size in the first convolution.
            batch_norm: batch normalisation before each activation.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        pool = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[pooling]

        def activated(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
            if not batch_norm:
                return [layer, make_activation(activation)]
            outputs = layer.weight.shape[0]
            norm = nn.BatchNorm2d(outputs) if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d(outputs)
            return [layer, norm, make_activation(activation)]

        self.convolutions = nn.Sequential(
            *activated(nn.Conv2d(channels_of("lenet", input_shape), 6, kernel_size=5, padding=padding)),  # (B, 6, H, W)
            pool(2),  # (B, 6, H/2, W/2)
            *activated(nn.Conv2d(6, 16, kernel_size=5)),  # (B, 16, H/2 - 4, W/2 - 4)
            pool(2),  # (B, 16, H/4 - 2, W/4 - 2), with padding 2
        )
        channels, height, width = shape_after("lenet", input_shape, self.convolutions)
        self.dense = nn.Sequential(
            *activated(nn.Linear(channels * height * width, 120)),
            *activated(nn.Linear(120, 84)),
            nn.Linear(84, num_outputs),
        )
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.convolutions(images).flatten(1)  # (B, features)
        outputs: Tensor = self.dense(features)
        return outputs
