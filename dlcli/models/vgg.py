"""VGG: networks of blocks."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from dlcli.hyperparameters import Count, Init, MinLen, Probability
from dlcli.layers.convolution import channels_of, shape_after
from dlcli.layers.dense_head import DenseHead
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("vgg")
class VGG(nn.Module):
    """Blocks of 3×3 convolutions, each pooled to half its size, and three dense layers with dropout.

    On 3 channels of 224×224 and 1,000 classes the networks of 11, 13, 16 and 19 layers have 132,863,336, 133,047,848,
    138,357,544 and 143,667,240 parameters.

    Source: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"; d2l 8.2.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        blocks: Annotated[list[tuple[Count, Count]], MinLen(1)],
        batch_norm: bool,
        pooled_side: Count | None,
        hidden_size: Count,
        dropout: Probability,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W), with H and W at least 2 to the power of the number of blocks.
            num_outputs: classes or targets.
            blocks: (convolutions, channels) of each block.
            batch_norm: batch normalisation after each convolution.
            pooled_side: the convolutions' result is averaged (or repeated) to this side before the dense layers, so
                that their size does not depend on the picture's; None takes it as it is.
            hidden_size: units of each of the two hidden dense layers.
            dropout: probability of zeroing a hidden dense unit while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        self.features = nn.Sequential()
        inputs = channels_of("vgg", input_shape)
        for convolutions, channels in blocks:
            for _ in range(convolutions):
                self.features.append(nn.Conv2d(inputs, channels, 3, padding=1))
                if batch_norm:
                    self.features.append(nn.BatchNorm2d(channels))
                self.features.append(nn.ReLU(inplace=True))
                inputs = channels
            self.features.append(nn.MaxPool2d(2))
        shape = shape_after("vgg", input_shape, self.features)
        self.dense = DenseHead(shape, pooled_side, hidden_size, dropout, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.dense(self.features(images))
        return outputs
