"""Residual networks whose bottlenecks are divided into groups."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, Init, MinLen
from dlcli.layers.convolution import channels_of, make_stem, pooled
from dlcli.layers.initialisation import initialise
from dlcli.layers.residual import bottleneck
from dlcli.registry import MODELS


@MODELS.register("resnext")
class ResNeXt(nn.Module):
    """A residual network of bottlenecks with a 3×3 convolution in ``groups``, of twice the width at equal cost.

    With 50 layers and 32 groups of 4 channels, 3 channels and 1,000 classes it has 25,028,904 parameters.

    Source: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks"; d2l 8.6.5.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
        groups: Count,
        stem: Literal["imagenet", "small"],
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W), of any size.
            num_outputs: classes or targets.
            stages: (blocks, channels of their 3×3 convolutions) of each stage; a block gives out twice as many.
            groups: of the 3×3 convolutions; each sees only the channels of its own.
            stem: for pictures of about 224×224, or "small" for 32×32: no size is lost before the first stage.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or channels that the groups cannot share.
        """
        super().__init__()
        for _, width in stages:
            if width % groups:
                raise ConfigError(
                    f"model.groups={groups} cannot share the {width} channels of a stage of model.stages; "
                    "use a multiple of the groups"
                )
        inputs = max(1, stages[0][1] // 2)
        self.stem = make_stem(stem, channels_of("resnext", input_shape), inputs)
        self.stages = nn.Sequential()
        for number, (depth, width) in enumerate(stages):
            blocks = nn.Sequential()
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                blocks.append(bottleneck(inputs, width, 2 * width, stride, groups))
                inputs = 2 * width
            self.stages.append(blocks)
        self.head = nn.Linear(inputs, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.stages(self.stem(images))  # (B, C', H/32, W/32) with four stages and the stem "imagenet"
        outputs: Tensor = self.head(pooled(features))
        return outputs
