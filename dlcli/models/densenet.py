"""Densely connected networks."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Count, Init, MinLen
from dlcli.layers.convolution import channels_of, make_stem, pooled, shape_after
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS

BOTTLENECK = 4  # channels of a 1×1 convolution, as a multiple of the growth


class DenseLayer(nn.Module):
    """Batch norm, rectifier and convolution, whose ``growth`` channels are put behind those that came in."""

    def __init__(self, inputs: int, growth: int, *, bottleneck: bool):
        super().__init__()
        layers: list[nn.Module] = []
        if bottleneck:
            layers += normalised(inputs, BOTTLENECK * growth, 1)
            inputs = BOTTLENECK * growth
        self.layers = nn.Sequential(*layers, *normalised(inputs, growth, 3))

    def forward(self, features: Tensor) -> Tensor:
        """features (B, C, H, W) -> (B, C + growth, H, W)."""
        return torch.cat([features, self.layers(features)], 1)


def normalised(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Batch norm, rectifier and a convolution that keeps the size."""
    return [
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
    ]


@MODELS.register("densenet")
class DenseNet(nn.Module):
    """Blocks in which every layer sees all earlier ones; between two, a transition halves channels and picture.

    With 121 layers, 3 channels and 1,000 classes it has 7,978,856 parameters.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks"; d2l 8.7.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        depths: Annotated[list[Count], MinLen(1)],
        growth: Count,
        stem_channels: Count,
        bottleneck: bool,
        stem: Literal["imagenet", "small"],
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W).
            num_outputs: classes or targets.
            depths: layers in each block.
            growth: channels that each layer adds.
            stem_channels: of the first convolution.
            bottleneck: a 1×1 convolution to four times the growth before each 3×3 one.
            stem: for pictures of about 224×224, or "small" for 32×32: no size is lost before the first block.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()
        self.stem = make_stem(stem, channels_of("densenet", input_shape), stem_channels)
        self.blocks = nn.Sequential()
        channels = stem_channels
        for number, depth in enumerate(depths):
            if number > 0:
                self.blocks.append(nn.Sequential(*normalised(channels, channels // 2, 1), nn.AvgPool2d(2)))
                channels //= 2
            layers = nn.Sequential()
            for _ in range(depth):
                layers.append(DenseLayer(channels, growth, bottleneck=bottleneck))
                channels += growth
            self.blocks.append(layers)
        shape_after("densenet", input_shape, self.stem, self.blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.head = nn.Linear(channels, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.last(self.blocks(self.stem(images)))  # (B, C', H/32, W/32) with four blocks, stem "imagenet"
        outputs: Tensor = self.head(pooled(features))
        return outputs
