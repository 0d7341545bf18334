"""GoogLeNet: parallel branches of several kernel sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Init, Probability
from dlcli.layers.convolution import channels_of, pooled, shape_after
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


class Branches(NamedTuple):
    """Channels of an inception block: "reduce" are those of the 1×1 convolutions that make the larger ones cheap."""

    one: int
    reduce_three: int
    three: int
    reduce_five: int
    five: int
    pool: int


# The inception blocks between two poolings (Szegedy et al., table 1).
STAGES = (
    (Branches(64, 96, 128, 16, 32, 32), Branches(128, 128, 192, 32, 96, 64)),
    (
        Branches(192, 96, 208, 16, 48, 64),
        Branches(160, 112, 224, 24, 64, 64),
        Branches(128, 128, 256, 24, 64, 64),
        Branches(112, 144, 288, 32, 64, 64),
        Branches(256, 160, 320, 32, 128, 128),
    ),
    (Branches(256, 160, 320, 32, 128, 128), Branches(384, 192, 384, 48, 128, 128)),
)


@MODELS.register("googlenet")
class GoogLeNet(nn.Module):
    """A stem, nine inception blocks in three stages, the mean over all pixels, dropout and a linear layer.

    The auxiliary classifiers of the paper, which batch normalisation made needless, are left out. On 3 channels and
    1,000 classes it has 6,624,904 parameters with batch normalisation and a third branch of 3×3 (as torchvision's), and
    6,998,552 as in the paper.

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions"; Ioffe & Szegedy 2015 (batch norm); d2l 8.4.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        batch_norm: bool,
        third_kernel: Literal[3, 5],
        dropout: Probability,
        init: Init,
    ):
        """
        Args:
            input_shape: (C, H, W).
            num_outputs: classes or targets.
            batch_norm: batch normalisation after each convolution, which then has no bias.
            third_kernel: side of the third branch's kernel: 5 in the paper, 3 in most trained weights.
            dropout: probability of zeroing a feature before the last layer while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.

        Raises:
            ConfigError: the examples are no images, or too small.
        """
        super().__init__()

        def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
            layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not batch_norm)
            norm = [nn.BatchNorm2d(outputs, eps=0.001)] if batch_norm else []
            return nn.Sequential(layer, *norm, nn.ReLU(inplace=True))

        self.stem = nn.Sequential(
            convolution(channels_of("googlenet", input_shape), 64, 7, stride=2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            convolution(64, 64, 1),
            convolution(64, 192, 3),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        self.stages = nn.Sequential()
        inputs = 192
        for number, blocks in enumerate(STAGES):
            if number > 0:
                side = 3 if number == 1 else 2
                self.stages.append(nn.MaxPool2d(side, stride=2, ceil_mode=True))
            for branches in blocks:
                self.stages.append(Inception(inputs, branches, third_kernel, convolution))
                inputs = branches.one + branches.three + branches.five + branches.pool
        poolings = [layer for layer in self.stages if isinstance(layer, nn.MaxPool2d)]
        shape_after("googlenet", input_shape, self.stem, *poolings)  # the blocks keep the size
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_outputs)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        features = self.stages(self.stem(images))  # (B, 1024, H/32, W/32)
        outputs: Tensor = self.head(self.dropout(pooled(features)))
        return outputs


class Inception(nn.Module):
    """Four branches side by side, joined along the channels: 1×1; 1×1 and 3×3; 1×1 and 5×5; 3×3 pooling and 1×1."""

    def __init__(self, inputs: int, branches: Branches, third_kernel: int, convolution: Callable[..., nn.Module]):
        super().__init__()
        self.one = convolution(inputs, branches.one, 1)
        self.three = nn.Sequential(
            convolution(inputs, branches.reduce_three, 1), convolution(branches.reduce_three, branches.three, 3)
        )
        self.five = nn.Sequential(
            convolution(inputs, branches.reduce_five, 1), convolution(branches.reduce_five, branches.five, third_kernel)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convolution(inputs, branches.pool, 1))

    def forward(self, features: Tensor) -> Tensor:
        """features (B, C, H, W) -> (B, C', H, W)."""
        branches = (self.one, self.three, self.five, self.pool)
        return torch.cat([branch(features) for branch in branches], 1)
