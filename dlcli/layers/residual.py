"""Residual blocks: what residual networks, their grouped form and the networks of designed spaces are made of.

Letters of shapes: B pictures, C channels, H × W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.layers.convolution import convolution


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)); the shortcut is x itself, or a 1×1 convolution where the shape changes.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition"; d2l 8.6.
    """

    def __init__(self, branch: nn.Sequential, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.branch = branch
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else convolution(inputs, outputs, 1, stride=stride, activate=False)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, C, H, W) -> (B, C', H', W'), none of them negative."""
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return F.relu(self.branch(features).add_(shortcut), inplace=True)


def basic_block(inputs: int, outputs: int, stride: int) -> ResidualBlock:
    """Two 3×3 convolutions."""
    branch = nn.Sequential(
        *convolution(inputs, outputs, 3, stride=stride),
        *convolution(outputs, outputs, 3, activate=False),
    )
    return ResidualBlock(branch, inputs, outputs, stride)


def bottleneck(inputs: int, width: int, outputs: int, stride: int, groups: int = 1) -> ResidualBlock:
    """1×1 convolution to ``width`` channels, 3×3 in ``groups``, 1×1 to ``outputs``. The stride is the middle one's."""
    branch = nn.Sequential(
        *convolution(inputs, width, 1),
        *convolution(width, width, 3, stride=stride, groups=groups),
        *convolution(width, outputs, 1, activate=False),
    )
    return ResidualBlock(branch, inputs, outputs, stride)
