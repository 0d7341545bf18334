"""AlexNet."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Count, Init, Probability
from dlcli.layers.convolution import channels_of, shape_after
from dlcli.layers.dense_head import DenseHead
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("alexnet")
class AlexNet(nn.Module):
    """Five convolutions, three of them followed by overlapping maximum pooling, and three dense layers with dropout.

    On 3 channels of 224×224 and 1,000 classes, with the channels 64, 192, 384, 256 and 256 of the form without two
    halves (2014), it has 61,100,840 parameters.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks"; Krizhevsky 2014,
    "One weird trick for parallelizing convolutional neural networks"; d2l 8.1.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        channels: tuple[Count, Count, Count, Count, Count],
        first_padding: Literal[0, 1, 2],
        pooled_side: Count | None,
        hidden_size: Count,
        dropout: Probability,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W).
            num_outputs: classes or targets.
            channels: of the convolutions.
            first_padding: zeros around the picture.
            pooled_side: the convolutions' result is averaged (or repeated) to this side before the dense layers, so
                that their size does not depend on the picture's; None takes it as it is.
            hidden_size: units of each of the two hidden dense layers.
            dropout: probability of zeroing a hidden dense unit while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        a, b, c, d, e = channels
        self.features = nn.Sequential(
            nn.Conv2d(channels_of("alexnet", input_shape), a, 11, stride=4, padding=first_padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        shape = shape_after("alexnet", input_shape, self.features)
        self.dense = DenseHead(shape, pooled_side, hidden_size, dropout, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.dense(self.features(images))
        return outputs
