"""Residual networks."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Count, Init, MinLen
from dlcli.layers.convolution import channels_of, make_stem, pooled
from dlcli.layers.initialisation import initialise
from dlcli.layers.residual import basic_block, bottleneck
from dlcli.registry import MODELS

EXPANSION = 4  # a bottleneck's outputs, as a multiple of its width


@MODELS.register("resnet")
class ResNet(nn.Module):
    """A stem, four stages (or any number) of residual blocks, the mean over all pixels, and a linear layer.

    Every stage but the first halves the picture in its first block. On 3 channels and 1,000 classes the networks of 18,
    34, 50, 101 and 152 layers have 11,689,512, 21,797,672, 25,557,032, 44,549,160 and 60,192,808 parameters.
    Bottlenecks have their stride in the 3×3 convolution, as nearly everybody's, not in the first 1×1 as the paper's.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition"; d2l 8.6.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        block: Literal["basic", "bottleneck"],
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
        stem: Literal["imagenet", "small"],
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W), of any size.
            num_outputs: classes or targets.
            block: two 3×3 convolutions, or a bottleneck of 1×1, 3×3 and 1×1.
            stages: (blocks, channels of their 3×3 convolutions) of each stage; a bottleneck gives out four times as
                many.
            stem: for pictures of about 224×224, or "small" for 32×32: no size is lost before the first stage.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images.
        """
        super().__init__()
        inputs = stages[0][1]
        self.stem = make_stem(stem, channels_of("resnet", input_shape), inputs)
        self.stages = nn.Sequential()
        for number, (depth, width) in enumerate(stages):
            blocks = nn.Sequential()
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                if block == "basic":
                    blocks.append(basic_block(inputs, width, stride))
                    inputs = width
                else:
                    blocks.append(bottleneck(inputs, width, EXPANSION * width, stride))
                    inputs = EXPANSION * width
            self.stages.append(blocks)
        self.head = nn.Linear(inputs, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.stages(self.stem(images))  # (B, C', H/32, W/32) with four stages and the stem "imagenet"
        outputs: Tensor = self.head(pooled(features))
        return outputs
