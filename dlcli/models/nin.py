"""Networks in networks."""

from __future__ import annotations

from torch import Tensor, nn

from dlcli.hyperparameters import Count, Init, Probability
from dlcli.layers.convolution import channels_of, pooled, shape_after
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("nin")
class NiN(nn.Module):
    """Four blocks of a convolution and two 1×1 convolutions, a small perceptron at every pixel; no dense layer at all.

    The last block has a channel for each output, and the mean over its pixels is the output. A rectifier follows every
    convolution, the last one too, so that no output is negative (as in the book and the paper).

    Source: Lin et al. 2014, "Network In Network"; d2l 8.3.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        channels: tuple[Count, Count, Count],
        dropout: Probability,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W).
            num_outputs: classes or targets.
            channels: of the blocks but the last.
            dropout: probability of zeroing a value before the last block while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        first, second, third = channels
        self.features = nn.Sequential(
            *block(channels_of("nin", input_shape), first, 11, stride=4, padding=0),
            nn.MaxPool2d(3, stride=2),
            *block(first, second, 5, stride=1, padding=2),
            nn.MaxPool2d(3, stride=2),
            *block(second, third, 3, stride=1, padding=1),
            nn.MaxPool2d(3, stride=2),
            nn.Dropout(dropout),
        )
        self.head = nn.Sequential(*block(third, num_outputs, 3, stride=1, padding=1))
        shape_after("nin", input_shape, self.features, self.head)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores (B, num_outputs), at least 0."""
        return pooled(self.head(self.features(images)))


def block(inputs: int, outputs: int, kernel: int, *, stride: int, padding: int) -> list[nn.Module]:
    """A convolution and two 1×1 convolutions, each with a rectifier."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.ReLU(inplace=True),
    ]
