"""Normalisation: mean 0 and variance 1 over some axes, then a learned scale and shift; and vectors to length 1.

Source: batch: Ioffe & Szegedy 2015, d2l 8.5; layer: Ba et al. 2016, d2l 8.5 and 11.7; group: Wu & He 2018; root mean
square: Zhang & Sennrich 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand, refuse, summed_to


@by_hand
class Standardise(Function):
    """``y = (x - m) / s`` with m the mean of x over some axes and ``s = √(mean of (x - m)² + eps)``.

    Let n numbers share m and s. x_j moves y_i directly, by δ_ij / s; through the mean, by -1 / (n s); and through s:
    ds/dx_j = (x_j - m) / (n s) = y_j / n, and dy_i/ds = -y_i / s, so by -y_i y_j / (n s). The sum over i is
    **dx = (dy - mean(dy) - y * mean(dy * y)) / s**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        s = ((centred**2).mean(axes, keepdim=True) + eps).sqrt()
        y = centred / s
        ctx.save_for_backward(y, s)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        y, s = ctx.saved_tensors
        mean, along = dy.mean(ctx.axes, keepdim=True), (dy * y).mean(ctx.axes, keepdim=True)
        return (dy - mean - y * along) / s, None, None


@by_hand
class RootMeanSquare(Function):
    """``y = x / s`` with ``s = √(mean of x² + eps)``.

    As ``Standardise`` without the way through the mean: **dx = (dy - y * mean(dy * y)) / s**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
        s = ((x**2).mean(axes, keepdim=True) + eps).sqrt()
        y = x / s
        ctx.save_for_backward(y, s)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        y, s = ctx.saved_tensors
        return (dy - y * (dy * y).mean(ctx.axes, keepdim=True)) / s, None, None


@by_hand
class UnitLength(Function):
    """``y = x / s`` along one axis, with ``s = max(|x|, eps)`` and |x| the Euclidean length.

    Where |x| > eps, ds/dx_j = x_j / s = y_j, so dy_i/dx_j = (δ_ij - y_i y_j) / s: what lengthens x is taken away,
    **dx = (dy - y * sum(dy * y)) / s**. Elsewhere s is a constant: dx = dy / s.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, eps: float) -> Tensor:
        length = (x**2).sum(axis, keepdim=True).sqrt()
        s = length.clamp(min=eps)
        y = x / s
        ctx.save_for_backward(y, s, length > eps)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        y, s, long = ctx.saved_tensors
        lengthening = y * (dy * y).sum(ctx.axis, keepdim=True)
        return (dy - torch.where(long, lengthening, 0)) / s, None, None


@by_hand
class ScaleAndShift(Function):
    """``y = a * x + b``, where a and b are repeated over the axes that they do not have.

    **dx = dy * a**, **da = sum of dy * x** and **db = sum of dy**, over the axes along which they were repeated.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.shift_shape = None if shift is None else shift.shape
        y = x if scale is None else x * scale
        return y.clone() if shift is None else y + shift

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, scale = ctx.saved_tensors
        dshift = None if ctx.shift_shape is None else summed_to(dy, ctx.shift_shape)
        if scale is None:
            return dy, None, dshift
        return dy * scale, summed_to(dy * x, scale.shape), dshift


def scale_and_shift(x: Tensor, scale: Tensor | None, shift: Tensor | None, shape: tuple[int, ...]) -> Any:
    """a * x + b with a and b in a shape that broadcasts over x; x itself where there is neither."""
    if scale is None and shift is None:
        return x
    return apply(
        ScaleAndShift, x, None if scale is None else scale.view(shape), None if shift is None else shift.view(shape)
    )


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``torch.nn.functional.batch_norm``: each channel of x (B, C, …) over the batch and all positions.

    In training also moves the running mean and the running (unbiased) variance by the share ``momentum``; outside it
    these take the batch's place, and x is only scaled and shifted.

    Raises:
        ValueError: one value for each channel, as torch: it would become 0 whatever it is.
    """
    axes = (0, *range(2, x.ndim))
    shape = (-1, *[1] * (x.ndim - 2))
    if not training and running_mean is not None and running_var is not None:
        deviation = (running_var + eps).sqrt()
        fixed = apply(ScaleAndShift, x, (1 / deviation).view(shape), (-running_mean / deviation).view(shape))
        return scale_and_shift(fixed, weight, bias, shape)
    if x.numel() == x.shape[1]:
        raise ValueError(f"batch_norm: expected more than 1 value for each channel in training, got {tuple(x.shape)}")
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(x.mean(axes).to(running_mean.dtype), momentum)
            running_var.lerp_(x.var(axes, unbiased=True).to(running_var.dtype), momentum)
    return scale_and_shift(apply(Standardise, x, axes, eps), weight, bias, shape)


def layer_norm(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """``torch.nn.functional.layer_norm``: over the last axes, each example and position on its own."""
    axes = tuple(range(-len(normalized_shape), 0))
    return scale_and_shift(apply(Standardise, x, axes, eps), weight, bias, tuple(normalized_shape))


def rms_norm(
    x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None = None, eps: float | None = None
) -> Any:
    """``torch.nn.functional.rms_norm``: over the last axes."""
    axes = tuple(range(-len(normalized_shape), 0))
    small = torch.finfo(x.dtype).eps if eps is None else eps
    return scale_and_shift(apply(RootMeanSquare, x, axes, small), weight, None, tuple(normalized_shape))


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Any:
    """``torch.nn.functional.group_norm``: over the channels of a group and all positions of x (B, C, …)."""
    grouped = x.reshape(len(x), num_groups, -1)
    standard = apply(Standardise, grouped, (2,), eps).view(x.shape)
    return scale_and_shift(standard, weight, bias, (-1, *[1] * (x.ndim - 2)))


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``torch.nn.functional.instance_norm``: each channel of each example on its own."""
    refuse("instance_norm", "running statistics", running_mean is not None or not use_input_stats)
    return group_norm(x, x.shape[1], weight, bias, eps)


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Any:
    """``torch.nn.functional.normalize`` by the Euclidean length."""
    refuse("normalize", f"p={p}", p != 2)
    refuse("normalize", "out", out is not None)
    return apply(UnitLength, x, dim, eps)
