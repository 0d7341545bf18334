"""Sliding windows over pictures, which convolution and pooling share.

Letters of shapes: B pictures, C channels, H×W pixels, h×w pixels of a window, P×Q positions of the window.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Pair = tuple[int, int]


def pair(value: int | tuple[int, ...] | list[int]) -> Pair:
    """One number for both axes, or one for each."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


class Sliding(NamedTuple):
    """How a window slides. All pairs are (along H, along W)."""

    window: Pair  # h, w
    stride: Pair
    padding: Pair  # pixels on each side
    dilation: Pair = (1, 1)  # distance of neighbouring pixels of the window
    ceil: bool = False  # let the last window stand over the edge if the stride does not come out even

    def positions(self, height: int, width: int) -> Pair:
        """P, Q: how many windows fit."""
        return self._along(0, height), self._along(1, width)

    def _along(self, axis: int, size: int) -> int:
        free = size + 2 * self.padding[axis] - self.dilation[axis] * (self.window[axis] - 1) - 1
        steps = math.ceil(free / self.stride[axis]) if self.ceil else free // self.stride[axis]
        if self.ceil and steps * self.stride[axis] >= size + self.padding[axis]:
            steps -= 1  # that window would see nothing but padding
        return steps + 1

    def padded_size(self, height: int, width: int) -> Pair:
        """Pixels of the picture with its padding, up to what the last window reaches."""
        sizes = [
            max(size + 2 * padding, (count - 1) * stride + dilation * (window - 1) + 1)
            for size, padding, count, stride, dilation, window in zip(
                *((height, width), self.padding, self.positions(height, width)),
                *(self.stride, self.dilation, self.window),
                strict=True,
            )
        ]
        return sizes[0], sizes[1]

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """x (B, C, H, W) in the middle of a larger picture that is ``value`` elsewhere."""
        height, width = x.shape[2:]
        padded = x.new_full((*x.shape[:2], *self.padded_size(height, width)), value)
        self.unpad(padded, height, width).copy_(x)
        return padded

    def unpad(self, padded: Tensor, height: int, width: int) -> Tensor:
        """The picture within its padding, a view."""
        top, left = self.padding
        return padded[:, :, top : top + height, left : left + width]

    def windows(self, padded: Tensor, positions: Pair) -> Tensor:
        """Every window of a padded picture, as a view (B, C, h, w, P, Q) that copies nothing."""
        batch, channel, row, column = padded.stride()
        strides = [batch, channel, row * self.dilation[0], column * self.dilation[1]]
        strides += [row * self.stride[0], column * self.stride[1]]
        return padded.as_strided((*padded.shape[:2], *self.window, *positions), strides)

    def add_windows(self, windows: Tensor, height: int, width: int) -> Tensor:
        """The transpose of ``windows``: windows (B, C, h, w, P, Q) -> (B, C, H, W), where each pixel is the sum of its
        places in all windows."""
        rows, columns = windows.shape[4:]
        padded = windows.new_zeros(*windows.shape[:2], *self.padded_size(height, width))
        for i in range(self.window[0]):
            for j in range(self.window[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                bottom, right = top + self.stride[0] * rows, left + self.stride[1] * columns
                padded[:, :, top : bottom : self.stride[0], left : right : self.stride[1]] += windows[:, :, i, j]
        return self.unpad(padded, height, width)


def ones_like_picture(x: Tensor) -> Tensor:
    """One picture (1, 1, H, W) of ones."""
    return torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
