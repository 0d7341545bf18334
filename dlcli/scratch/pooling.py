"""Pooling: one number for each window of each channel.

Letters of shapes: B pictures, C channels, H×W pixels, h×w pixels of a window, P×Q positions.
Source: d2l 7.5; DLFS chapter 5; GDL chapter 10. Adaptive pooling: d2l 8.3 (global average pooling).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand
from dlcli.scratch.windows import Sliding, ones_like_picture, pair

Size = int | tuple[int, ...] | list[int]


@by_hand
class MaxPooling(Function):
    """The largest number of each window.

    y = x at the place of the maximum, so dy goes there and nowhere else: dX = dy at the first largest place of the
    window, else 0. A pixel that is the largest of several windows adds up: **dx = add_windows(dX)**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sliding: Sliding) -> Tensor:
        positions = sliding.positions(*x.shape[2:])
        windows = sliding.windows(sliding.pad(x, -torch.inf), positions)  # (B, C, h, w, P, Q)
        y, place = windows.flatten(2, 3).max(2)  # (B, C, P, Q); the place is in 0 … hw - 1
        ctx.save_for_backward(place)
        ctx.sliding, ctx.shape = sliding, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        height, width = ctx.sliding.window
        windows = dy.new_zeros(*dy.shape[:2], height * width, *dy.shape[2:])
        windows.scatter_(2, place.unsqueeze(2), dy.unsqueeze(2))
        windows = windows.reshape(*dy.shape[:2], height, width, *dy.shape[2:])  # (B, C, h, w, P, Q)
        return ctx.sliding.add_windows(windows, *ctx.shape[2:]), None


@by_hand
class AveragePooling(Function):
    """The sum over each window divided by n, how many pixels count.

    dy/dx = 1/n for each pixel of the window: **dx = add_windows(dy / n at every place)**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Tensor, sliding: Sliding) -> Tensor:
        ctx.save_for_backward(counts)
        ctx.sliding, ctx.shape = sliding, x.shape
        return sliding.windows(sliding.pad(x), sliding.positions(*x.shape[2:])).sum((2, 3)) / counts

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (counts,) = ctx.saved_tensors
        share = (dy / counts)[:, :, None, None].expand(-1, -1, *ctx.sliding.window, -1, -1)  # (B, C, h, w, P, Q)
        return ctx.sliding.add_windows(share, *ctx.shape[2:]), None, None


@by_hand
class AdaptiveAveragePooling(Function):
    """The mean of each of P×Q parts that divide the picture as evenly as they can: part p has the rows from
    floor(p H / P) to ceil((p + 1) H / P).

    A mean over rows is a product with a matrix R (P, H) of entries 1/n, and one over columns likewise:
    ``y = R x C'``. So **dx = R' dy C**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns)
        return rows @ x @ columns.T

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.saved_tensors
        return rows.T @ dy @ columns, None, None


def averaging_matrix(size: int, parts: int, like: Tensor) -> Tensor:
    """(parts, size): row p has 1/n at the n places of part p, else 0."""
    matrix = like.new_zeros(parts, size)
    for part in range(parts):
        start, stop = part * size // parts, -(-(part + 1) * size // parts)
        matrix[part, start:stop] = 1 / (stop - start)
    return matrix


def max_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool2d``: x (B, C, H, W) -> (B, C, P, Q), or both without B."""
    if x.ndim == 3:
        return max_pool2d(x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode).squeeze(0)
    window = pair(kernel_size)
    sliding = Sliding(window, pair(stride) if stride else window, pair(padding), pair(dilation), ceil_mode)
    return apply(MaxPooling, x, sliding)


def max_pool1d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool1d``: x (B, C, W) or (C, W) is a picture of height 1."""
    window, step = (1, pair(kernel_size)[1]), (1, pair(stride or kernel_size)[1])
    across = max_pool2d(x.unsqueeze(-2), window, step, (0, pair(padding)[1]), (1, pair(dilation)[1]), ceil_mode)
    return across.squeeze(-2)


def avg_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """``torch.nn.functional.avg_pool2d``: x (B, C, H, W) -> (B, C, P, Q), or both without B."""
    if x.ndim == 3:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return avg_pool2d(x.unsqueeze(0), *options).squeeze(0)
    window = pair(kernel_size)
    sliding = Sliding(window, pair(stride) if stride else window, pair(padding), ceil=ceil_mode)
    positions = sliding.positions(*x.shape[2:])
    counted = sliding.pad(ones_like_picture(x))  # 1 where a pixel counts
    if count_include_pad:
        top, left = sliding.padding
        counted[:, :, : x.shape[2] + 2 * top, : x.shape[3] + 2 * left] = 1
    counts = sliding.windows(counted, positions).sum((2, 3))  # (1, 1, P, Q)
    if divisor_override:
        counts = torch.full_like(counts, divisor_override)
    return apply(AveragePooling, x, counts, sliding)


def adaptive_avg_pool2d(x: Tensor, output_size: Size) -> Any:
    """``torch.nn.functional.adaptive_avg_pool2d``: x (…, H, W) -> (…, P, Q)."""
    sizes = [size or x.shape[axis] for size, axis in zip(pair(output_size), (-2, -1), strict=True)]
    rows, columns = (averaging_matrix(x.shape[axis], size, x) for size, axis in zip(sizes, (-2, -1), strict=True))
    return apply(AdaptiveAveragePooling, x, rows, columns)
