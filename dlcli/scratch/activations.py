"""Functions of one number, applied to each element; and the softmax, applied to each row.

Source: d2l 5.1 and 5.3; DLFS chapters 1, 2 and 4; GDL chapters 6 and 9. GELU: Hendrycks & Gimpel 2016; SiLU: Elfwing et
al. 2018; PReLU: He et al. 2015; ELU: Clevert et al. 2016; hard sigmoid and swish: Howard et al. 2019.

For y = f(x) the chain rule is **dx = dy * f'(x)**; each class derives its f'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand, refuse, summed_to


@by_hand
class Sigmoid(Function):
    """``y = 1 / (1 + exp(-x))``.

    y' = exp(-x) / (1 + exp(-x))² = y (1 - y), since exp(-x) / (1 + exp(-x)) = 1 - y.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = sigmoid_of(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return dy * y * (1 - y)


@by_hand
class Tanh(Function):
    """``y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))``.

    By the quotient rule y' = 1 - (exp(x) - exp(-x))² / (exp(x) + exp(-x))² = 1 - y².
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = tanh_of(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return dy * (1 - y**2)


@by_hand
class LeakyReLU(Function):
    """``y = x`` where x > 0, else ``slope * x``; slope 0 is the rectifier (ReLU).

    y' is 1 where x > 0 and the slope elsewhere; at the kink x = 0 any number between is a subgradient, and the slope
    is taken, as in torch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x <= 0, LeakyReLU._reduced(x, slope), x)  # what is no number stays one that is none

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x <= 0, LeakyReLU._reduced(dy, ctx.slope), dy), None

    @staticmethod
    def _reduced(x: Tensor, slope: float) -> Tensor:
        return slope * x if slope else torch.zeros_like(x)  # 0 times an infinite number is no number


@by_hand
class PReLU(Function):
    """``y = x`` where x > 0, else ``a x``, where a is learned: one number, or one for each channel (axis 1).

    As for the leaky rectifier; besides dy/da = x where x <= 0, so **da = sum of dy * x over those elements**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor) -> Tensor:
        a = a.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else a  # (channels, 1, …)
        ctx.save_for_backward(x, a)
        return torch.where(x > 0, x, a * x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, a = ctx.saved_tensors
        da = summed_to(torch.where(x > 0, 0, dy * x), a.shape)
        return torch.where(x > 0, dy, a * dy), da.flatten()


@by_hand
class ELU(Function):
    """``y = x`` where x > 0, else ``alpha (exp(x) - 1)``; there y' = alpha exp(x) = y + alpha, elsewhere 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        y = torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))
        ctx.save_for_backward(y)
        ctx.alpha = alpha
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.where(y > 0, dy, dy * (y + ctx.alpha)), None


@by_hand
class GELU(Function):
    """``y = x P(x)``, where P is the distribution function of the standard normal, with density p.

    By the product rule y' = P(x) + x p(x), p(x) = exp(-x²/2) / √(2π).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * normal_distribution(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        density = torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return dy * (normal_distribution(x) + x * density)


@by_hand
class GELUByTanh(Function):
    """``y = x (1 + t) / 2`` with ``t = tanh(u)``, ``u = √(2/π) (x + 0.044715 x³)``: GELU's approximation.

    y' = (1 + t) / 2 + x (1 - t²) u' / 2, u' = √(2/π) (1 + 3 · 0.044715 x²).
    """

    ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        t = tanh_of(GELUByTanh.ROOT * (x + GELUByTanh.CUBIC * x**3))
        ctx.save_for_backward(x, t)
        return x * (1 + t) / 2

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, t = ctx.saved_tensors
        slope = GELUByTanh.ROOT * (1 + 3 * GELUByTanh.CUBIC * x**2)
        return dy * ((1 + t) + x * (1 - t**2) * slope) / 2


@by_hand
class SiLU(Function):
    """``y = x s`` with ``s = sigmoid(x)``, so y' = s + x s (1 - s)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = sigmoid_of(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, s = ctx.saved_tensors
        return dy * s * (1 + x * (1 - s))


@by_hand
class HardSigmoid(Function):
    """``y = (x + 3) / 6``, cut off at 0 and 1: three straight lines, with y' = 1/6 where -3 < x < 3 and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return hard_sigmoid_of(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() < 3, dy / 6, 0)


@by_hand
class HardSwish(Function):
    """``y = x h`` with h the hard sigmoid of x.

    By the product rule y' = h + x h': 0 where x <= -3, 1 where x >= 3, and (x + 3) / 6 + x / 6 between.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * hard_sigmoid_of(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return dy * (hard_sigmoid_of(x) + torch.where(x.abs() < 3, x / 6, 0))


@by_hand
class Softplus(Function):
    """``y = log(1 + exp(beta x)) / beta``, whose slope is sigmoid(beta x); x itself where beta x > threshold."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: float, threshold: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.beta, ctx.threshold = beta, threshold
        return torch.where(beta * x > threshold, x, softplus_of(beta * x) / beta)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.where(ctx.beta * x > ctx.threshold, dy, dy * sigmoid_of(ctx.beta * x)), None, None


@by_hand
class Softmax(Function):
    """``y_i = exp(x_i) / sum_j exp(x_j)`` along one axis.

    dy_i/dx_j = y_i (δ_ij - y_j), so dx_j = sum_i dy_i y_i (δ_ij - y_j): **dx = y * (dy - sum_i dy_i y_i)**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int) -> Tensor:
        y = softmax_of(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return y * (dy - (dy * y).sum(ctx.axis, keepdim=True)), None


@by_hand
class LogSoftmax(Function):
    """``y_i = x_i - log sum_j exp(x_j)`` along one axis.

    dy_i/dx_j = δ_ij - p_j with p = softmax(x), so **dx = dy - p * sum_i dy_i**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int) -> Tensor:
        y = log_softmax_of(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return dy - y.exp() * dy.sum(ctx.axis, keepdim=True), None


# ---------------------------------------------------------------------- values alone, also for other layers


def sigmoid_of(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)) = exp(x) / (1 + exp(x)): the one that takes no exponential of a positive number."""
    small = torch.exp(-x.abs())  # in (0, 1]
    return torch.where(x >= 0, 1.0, small) / (1 + small)


def hard_sigmoid_of(x: Tensor) -> Tensor:
    """(x + 3) / 6, cut off at 0 and 1."""
    return ((x + 3) / 6).clamp(0, 1)


def tanh_of(x: Tensor) -> Tensor:
    """(1 - e) / (1 + e) with e = exp(-2|x|), and the sign of x; expm1 keeps the digits of a small x."""
    less = torch.expm1(-2 * x.abs())  # e - 1, in (-1, 0]
    return torch.sign(x) * -less / (2 + less)


def softplus_of(x: Tensor) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def softmax_of(x: Tensor, axis: int = -1) -> Tensor:
    """With the largest element subtracted first, against overflow; a row of -inf alone becomes one of 0."""
    largest = x.amax(axis, keepdim=True)
    shares = torch.exp(x - torch.where(largest.isneginf(), 0, largest))
    total = shares.sum(axis, keepdim=True)
    return shares / torch.where(total == 0, 1, total)


def log_softmax_of(x: Tensor, axis: int = -1) -> Tensor:
    """x - log sum exp(x), with the largest element subtracted first."""
    shifted = x - x.amax(axis, keepdim=True)
    return shifted - shifted.exp().sum(axis, keepdim=True).log()


def normal_distribution(x: Tensor) -> Tensor:
    """P(X <= x) of the standard normal distribution; the error function is taken as given."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


# ---------------------------------------------------------------------- torch's calls


def sigmoid(x: Tensor) -> Any:
    """``torch.sigmoid``."""
    return apply(Sigmoid, x)


def tanh(x: Tensor) -> Any:
    """``torch.tanh``."""
    return apply(Tanh, x)


def relu(x: Tensor) -> Any:
    """``torch.relu``."""
    return apply(LeakyReLU, x, 0.0)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Any:
    """``torch.nn.functional.leaky_relu``."""
    return apply(LeakyReLU, x, negative_slope)


def prelu(x: Tensor, weight: Tensor) -> Any:
    """``torch.prelu``: weight (1) or (channels)."""
    return apply(PReLU, x, weight)


def elu(x: Tensor, alpha: float = 1.0) -> Any:
    """``torch.nn.functional.elu``."""
    return apply(ELU, x, alpha)


def gelu(x: Tensor, approximate: str = "none") -> Any:
    """``torch.nn.functional.gelu``, exact or approximated by tanh."""
    return apply(GELU if approximate == "none" else GELUByTanh, x)


def silu(x: Tensor) -> Any:
    """``torch.nn.functional.silu``."""
    return apply(SiLU, x)


def hardsigmoid(x: Tensor) -> Any:
    """``torch.nn.functional.hardsigmoid``."""
    return apply(HardSigmoid, x)


def hardswish(x: Tensor) -> Any:
    """``torch.nn.functional.hardswish``."""
    return apply(HardSwish, x)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """``torch.nn.functional.softplus``."""
    return apply(Softplus, x, beta, threshold)


def logsigmoid(x: Tensor) -> Any:
    """``torch.nn.functional.logsigmoid``: log(1 / (1 + exp(-x))) = -softplus(-x)."""
    return -apply(Softplus, -x, 1.0, math.inf)


def softmax(x: Tensor, dim: int, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Any:
    """``torch.softmax``."""
    refuse("softmax", "a dtype", dtype is not None)
    return apply(Softmax, x, dim)


def log_softmax(x: Tensor, dim: int, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Any:
    """``torch.log_softmax``."""
    refuse("log_softmax", "a dtype", dtype is not None)
    return apply(LogSoftmax, x, dim)
