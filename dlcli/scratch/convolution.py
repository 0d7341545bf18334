"""Convolution, as the product of a matrix of weights and a matrix whose columns are the windows of a picture.

Letters of shapes: B pictures, G groups, I and O channels in and out, h×w pixels of the kernel, P×Q positions,
K = I/G · h · w numbers in a window.
Source: d2l chapter 7 and 14.10 (transposed convolution); DLFS chapter 5 and its appendix; GDL chapter 10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand
from dlcli.scratch.windows import Sliding, pair

Size = int | tuple[int, ...] | list[int]


@by_hand
class Convolution(Function):
    """``y[b, o, p, q] = sum_{i, u, v} W[o, i, u, v] x[b, i, s p + d u, s q + d v]`` with stride s and dilation d.

    With the windows of a picture as columns X (K, PQ) and the kernels as rows W (O, K) this is **Y = W X**, a matrix
    product as in a dense layer (in each group of channels on its own), so **dW = sum_b dY X'** and **dX = W' dY**.
    Each pixel stands in several columns; by the chain rule its gradient is the sum over its places, which is what
    ``add_windows`` does: **dx = add_windows(dX)**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sliding: Sliding, groups: int) -> Tensor:
        columns = columns_of(x, sliding, groups)  # (B, G, K, PQ)
        ctx.save_for_backward(x, weight)
        ctx.sliding, ctx.groups = sliding, groups
        y = rows_of(weight, groups) @ columns  # (B, G, O/G, PQ)
        return y.reshape(len(x), len(weight), *sliding.positions(*x.shape[2:]))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        sliding, groups = ctx.sliding, ctx.groups
        dy = dy.reshape(len(x), groups, len(weight) // groups, -1)  # (B, G, O/G, PQ)
        dweight = torch.einsum("bgop,bgkp->gok", dy, columns_of(x, sliding, groups)).reshape(weight.shape)
        if not ctx.needs_input_grad[0]:  # the pictures themselves
            return None, dweight, None, None
        dcolumns = rows_of(weight, groups).mT @ dy  # (B, G, K, PQ)
        return picture_of(dcolumns, x.shape[1:], sliding), dweight, None, None


@by_hand
class TransposedConvolution(Function):
    """The transpose of ``Convolution`` as a linear map: there y = W X(x), here ``y = add_windows(W' x)``.

    What was backward is forward now and the reverse: **dx = W X(dy)**, the convolution of dy, and
    **dW = sum_b x X(dy)'**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sliding: Sliding, groups: int, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sliding, ctx.groups = sliding, groups
        pixels = x.reshape(len(x), groups, len(weight) // groups, -1)  # (B, G, I/G, PQ)
        return picture_of(rows_of(weight, groups).mT @ pixels, (groups * weight.shape[1], *size), sliding)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        columns = columns_of(dy, ctx.sliding, ctx.groups)  # (B, G, K, PQ)
        pixels = x.reshape(len(x), ctx.groups, len(weight) // ctx.groups, -1)  # (B, G, I/G, PQ)
        dweight = torch.einsum("bgip,bgkp->gik", pixels, columns).reshape(weight.shape)
        return (rows_of(weight, ctx.groups) @ columns).reshape(x.shape), dweight, None, None, None


def columns_of(x: Tensor, sliding: Sliding, groups: int) -> Tensor:
    """The windows of x (B, I, H, W) as the columns of matrices (B, G, K, PQ)."""
    positions = sliding.positions(*x.shape[2:])
    windows = sliding.windows(sliding.pad(x), positions)  # (B, I, h, w, P, Q)
    return windows.reshape(len(x), groups, -1, positions[0] * positions[1])


def picture_of(columns: Tensor, shape: tuple[int, ...], sliding: Sliding) -> Tensor:
    """The transpose of ``columns_of``: columns (B, G, K, PQ) -> pictures (B, *shape)."""
    channels, height, width = shape
    windows = columns.reshape(len(columns), channels, *sliding.window, *sliding.positions(height, width))
    return sliding.add_windows(windows, height, width)


def rows_of(weight: Tensor, groups: int) -> Tensor:
    """Kernels (O, I/G, h, w) as the rows of matrices (G, O/G, K)."""
    return weight.reshape(groups, len(weight) // groups, -1)


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """y (B, O, P, Q) + bias (O); the derivative of a sum is that of its terms."""
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d``: x (B, I, H, W) or (I, H, W), weight (O, I/G, h, w), bias (O)."""
    if x.ndim == 3:
        return conv2d(x[None], weight, bias, stride, padding, dilation, groups)[0]
    window = pair(tuple(weight.shape[2:]))
    if isinstance(padding, str):  # of total dilation · (window - 1); an odd rest goes to the far side
        total = [d * (w - 1) if padding == "same" else 0 for d, w in zip(pair(dilation), window, strict=True)]
        odd = [size % 2 for size in total]
        if any(odd):
            x = torch.cat([x, x.new_zeros(*x.shape[:2], odd[0], x.shape[3])], 2) if odd[0] else x
            x = torch.cat([x, x.new_zeros(*x.shape[:3], odd[1])], 3) if odd[1] else x
        padding = (total[0] // 2, total[1] // 2)
    sliding = Sliding(window, pair(stride), pair(padding), pair(dilation))
    return with_bias(apply(Convolution, x, weight, sliding, groups), bias)


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv1d``: x (B, I, W) is a picture of height 1."""
    stride, dilation = (1, pair(stride)[1]), (1, pair(dilation)[1])
    padding = padding if isinstance(padding, str) else (0, pair(padding)[1])
    return conv2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, stride, padding, dilation, groups).squeeze(-2)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``: x (B, I, P, Q), weight (I, O/G, h, w), bias (O)."""
    sliding = Sliding(pair(tuple(weight.shape[2:])), pair(stride), pair(padding), pair(dilation))
    sizes = [
        (count - 1) * step - 2 * edge + dilate * (window - 1) + 1 + extra
        for count, step, edge, dilate, window, extra in zip(
            *(x.shape[2:], sliding.stride, sliding.padding, sliding.dilation, sliding.window, pair(output_padding)),
            strict=True,
        )
    ]
    return with_bias(apply(TransposedConvolution, x, weight, sliding, groups, (sizes[0], sizes[1])), bias)
