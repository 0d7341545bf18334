"""AnyNet: a stem, a body of designed stages, a head; RegNets are the good members of that family."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, Init, MinLen
from dlcli.layers.convolution import channels_of, convolution, pooled
from dlcli.layers.initialisation import initialise
from dlcli.layers.residual import bottleneck
from dlcli.registry import MODELS


@MODELS.register("regnet")
class RegNet(nn.Module):
    """A 3×3 stem with stride 2, then stages of grouped bottlenecks as wide inside as outside; each halves the picture.

    A RegNet is an AnyNet whose widths and depths grow along a line. RegNetX-400MF, on 3 channels and 1,000 classes, has
    5,495,976 parameters.

    Source: Radosavovic et al. 2020, "Designing Network Design Spaces"; d2l 8.8.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        stem_channels: Count,
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
        group_width: Count,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W), of any size.
            num_outputs: classes or targets.
            stem_channels: of the first convolution.
            stages: (blocks, channels) of each stage.
            group_width: channels in each group of the 3×3 convolutions.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or channels that cannot be divided into groups.
        """
        super().__init__()
        for _, width in stages:
            if width % group_width:
                raise ConfigError(
                    f"model.group_width={group_width} does not divide the {width} channels of a stage of "
                    "model.stages; use a multiple of it"
                )
        self.stem = convolution(channels_of("regnet", input_shape), stem_channels, 3, stride=2)
        self.stages = nn.Sequential()
        inputs = stem_channels
        for depth, width in stages:
            blocks = nn.Sequential()
            for position in range(depth):
                stride = 2 if position == 0 else 1
                blocks.append(bottleneck(inputs, width, width, stride, width // group_width))
                inputs = width
            self.stages.append(blocks)
        self.head = nn.Linear(inputs, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.stages(self.stem(images))  # (B, C', H/2^(1 + stages), …)
        outputs: Tensor = self.head(pooled(features))
        return outputs
