"""What convolutional networks share: the check of their inputs, normalised convolutions, and stems.

Letters of shapes: B pictures, C channels, H × W pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from dlcli.errors import ConfigError

Window = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def channels_of(model: str, input_shape: tuple[int, ...]) -> int:
    """C of pictures (C, H, W).

    Raises:
        ConfigError: the examples are no images.
    """
    if len(input_shape) != 3:
        raise ConfigError(
            f"model '{model}' needs images, input_shape (channels, height, width), got {tuple(input_shape)}; "
            "use model=mlp or data of images"
        )
    return input_shape[0]


def shape_after(model: str, input_shape: tuple[int, ...], *path: nn.Module) -> tuple[int, int, int]:
    """The shape (C, H, W) of what comes out of ``path``.

    Args:
        model: what people call the network, for the message.
        input_shape: (C, H, W) of one example.
        path: what the pictures go through one after another; of a block with branches, one branch. Counted are the
            convolutions and poolings in it, however deep.

    Raises:
        ConfigError: no images, or smaller than the path can take; the message names the smallest that it can.
    """
    channels, (height, width) = channels_of(model, input_shape), input_shape[1:]
    windows = [module for part in path for module in part.modules() if isinstance(module, Window)]
    rows, columns = _side_after(windows, height), _side_after(windows, width)
    if rows is None or columns is None:
        smallest = next(side for side in itertools.count(1) if _side_after(windows, side) is not None)
        raise ConfigError(
            f"model '{model}' needs images of at least {smallest}×{smallest} pixels, got {height}×{width}; "
            f"use larger images (data.resize={smallest}, or data.size={smallest} for folders of images) or a smaller "
            "model"
        )
    made = [window.out_channels for window in windows if isinstance(window, nn.Conv2d)]
    return (made[-1] if made else channels), rows, columns


def _side_after(windows: Sequence[Window], side: int) -> int | None:
    """The pixels that are left of ``side``; None where a window finds none to stand on."""
    for window in windows:
        kernel, stride, padding = (
            int(value[0] if isinstance(value, tuple) else value)
            for value in (window.kernel_size, window.stride, window.padding)
        )
        rounded = math.ceil if getattr(window, "ceil_mode", False) else math.floor
        side = rounded((side + 2 * padding - kernel) / stride) + 1
        if side < 1:
            return None
    return side


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activate: bool = True
) -> nn.Sequential:
    """Convolution without bias (padded so that only the stride shrinks the picture), batch norm, and a rectifier."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activate else []))


def make_stem(kind: str, inputs: int, outputs: int) -> nn.Sequential:
    """The first layers of a residual or densely connected network.

    ``imagenet``: a 7×7 convolution and a maximum pooling, each with stride 2. ``small``: a 3×3 convolution that keeps
    the size, for pictures of about 32×32 (He et al. 2016, section 4.2).
    """
    if kind == "small":
        return convolution(inputs, outputs, 3)
    return nn.Sequential(
        *convolution(inputs, outputs, 7, stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def pooled(features: Tensor) -> Tensor:
    """The mean over all pixels: features (B, C, H, W) -> (B, C)."""
    return features.mean((2, 3))
