"""Losses.

Letters of shapes: N rows (examples, or positions of texts and pictures), C classes.
Source: d2l 3.1 (squared error), 4.1 (softmax cross-entropy); DLFS chapters 2 and 4; GDL chapters 4
and 9; Huber 1964; label smoothing: Szegedy et al. 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.activations import log_softmax_of, sigmoid_of, softplus_of
from dlcli.scratch.function import apply, by_hand, refuse


@by_hand
class SoftmaxCrossEntropy(Function):
    """``loss_n = -sum_c q_nc log p_nc`` with ``p = softmax(x)`` and a constant q whose rows sum to s_n.

    log p_nc = x_nc - log sum_k exp(x_nk), whose derivative by x_nj is δ_cj - p_nj. So dloss_n/dx_nj =
    -q_nj + p_nj sum_c q_nc: **dx = dloss * (s p - q)**, for a probability q the famous p - q.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        log_p = log_softmax_of(logits, 1)  # (N, C)
        ctx.save_for_backward(log_p, target)
        return -torch.where(target == 0, 0, target * log_p).sum(1)  # 0 log 0 = 0: a logit may be -inf

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, None]:
        log_p, target = ctx.saved_tensors
        return dloss[:, None] * (target.sum(1, keepdim=True) * log_p.exp() - target), None


@by_hand
class SigmoidCrossEntropy(Function):
    """``loss = -w t log s - (1 - t) log(1 - s)`` with ``s = sigmoid(x)``, a target t and a weight w of the positive.

    log s = -softplus(-x) has the slope 1 - s, and log(1 - s) = -softplus(x) has -s. So
    **dx = dloss * ((1 - t) s - w t (1 - s))**, for w = 1 simply s - t.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, positive: Tensor) -> Tensor:
        ctx.save_for_backward(x, target, positive)
        return positive * target * softplus_of(-x) + (1 - target) * softplus_of(x)

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, None, None]:
        x, target, positive = ctx.saved_tensors
        s = sigmoid_of(x)
        return dloss * ((1 - target) * s - positive * target * (1 - s)), None, None


@by_hand
class SquaredError(Function):
    """``loss = e²`` with ``e = x - t``: **dx = 2 e dloss** and **dt = -dx**."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        error = x - target
        ctx.save_for_backward(error)
        return error**2

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, Tensor]:
        (error,) = ctx.saved_tensors
        dx = 2 * error * dloss
        return dx, -dx


@by_hand
class AbsoluteError(Function):
    """``loss = |e|`` with ``e = x - t``: **dx = sign(e) dloss**, 0 at the kink, and **dt = -dx**."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        error = x - target
        ctx.save_for_backward(error)
        return error.abs()

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, Tensor]:
        (error,) = ctx.saved_tensors
        dx = torch.sign(error) * dloss
        return dx, -dx


@by_hand
class HuberError(Function):
    """``loss = e²/2`` where |e| <= delta, else ``delta (|e| - delta/2)``, with ``e = x - t``.

    The slope is e inside and delta sign(e) outside: **dx = clamp(e, -delta, delta) dloss** and **dt = -dx**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, delta: float) -> Tensor:
        error = x - target
        ctx.save_for_backward(error)
        ctx.delta = delta
        size = error.abs()
        return torch.where(size <= delta, error**2 / 2, delta * (size - delta / 2))

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, Tensor, None]:
        (error,) = ctx.saved_tensors
        dx = error.clamp(-ctx.delta, ctx.delta) * dloss
        return dx, -dx, None


def reduced(losses: Tensor, reduction: str, number: Any = None) -> Any:
    """The losses themselves ("none"), their "sum", or their "mean": the sum over ``number`` (all elements if None)."""
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / (losses.numel() if number is None else number)


def alike(x: Tensor, target: Tensor) -> list[Tensor]:
    """Both in the shape that they are broadcast to."""
    return list(torch.broadcast_tensors(x, target))  # type: ignore[no-untyped-call]


def outdated(function: str, *options: Any) -> None:
    """Refuse the options that torch itself has replaced by ``reduction``."""
    refuse(function, "size_average or reduce", any(option is not None for option in options))


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """``torch.nn.functional.cross_entropy``.

    Args:
        logits: (N, C), (C) or (N, C, …) of positions.
        target: classes, of the shape of the logits without C, or probabilities, of the shape of the logits.
        weight: (C) of the classes.
        ignore_index: the class of rows that do not count.
        reduction: "mean" divides by the weights of the rows' classes, or by N for probabilities.
        label_smoothing: the share of the target that is spread evenly over the classes.
    """
    outdated("cross_entropy", size_average, reduce)
    if logits.ndim == 1:
        logits, target = logits[None], target[None]
        result = cross_entropy(logits, target, weight, None, ignore_index, None, reduction, label_smoothing)
        return result[0] if reduction == "none" else result
    classes = logits.shape[1]
    rows = logits.movedim(1, -1).reshape(-1, classes)  # (N, C)
    class_weights = torch.ones(classes, dtype=rows.dtype, device=rows.device) if weight is None else weight
    if target.shape == logits.shape and target.is_floating_point():
        shape = (len(target), *target.shape[2:])
        probabilities = target.movedim(1, -1).reshape(-1, classes)
        number: Any = len(rows)
    else:
        shape = tuple(target.shape)
        counted = target.flatten() != ignore_index  # (N,)
        labels = torch.where(counted, target.flatten(), 0)
        probabilities = torch.zeros_like(rows).scatter_(1, labels[:, None], counted[:, None].to(rows.dtype))
        number = (class_weights[labels] * counted).sum()
    smooth = probabilities.sum(1, keepdim=True) * label_smoothing / classes
    q = ((1 - label_smoothing) * probabilities + smooth) * class_weights  # (N, C)
    losses = apply(SoftmaxCrossEntropy, rows, q)
    return losses.reshape(shape) if reduction == "none" else reduced(losses, reduction, number)


def nll_loss(
    log_p: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """``torch.nn.functional.nll_loss``: the logarithm at the label, picked out and negated."""
    outdated("nll_loss", size_average, reduce)
    counted = target != ignore_index
    labels = torch.where(counted, target, 0)
    weights = counted.to(log_p.dtype) * (1 if weight is None else weight[labels])
    losses = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1) * weights
    return reduced(losses, reduction, weights.sum())


def mse_loss(
    x: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Any:
    """``torch.nn.functional.mse_loss``, without the factor 1/2."""
    outdated("mse_loss", size_average, reduce)
    refuse("mse_loss", "weight", weight is not None)
    return reduced(apply(SquaredError, *alike(x, target)), reduction)


def l1_loss(
    x: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Any:
    """``torch.nn.functional.l1_loss``."""
    outdated("l1_loss", size_average, reduce)
    refuse("l1_loss", "weight", weight is not None)
    return reduced(apply(AbsoluteError, *alike(x, target)), reduction)


def huber_loss(
    x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Any:
    """``torch.nn.functional.huber_loss``."""
    refuse("huber_loss", "weight", weight is not None)
    return reduced(apply(HuberError, *alike(x, target), delta), reduction)


def smooth_l1_loss(
    x: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean", beta: float = 1.0
) -> Any:
    """``torch.nn.functional.smooth_l1_loss``: Huber's divided by beta."""
    outdated("smooth_l1_loss", size_average, reduce)
    return huber_loss(x, target, reduction, beta) / beta if beta else l1_loss(x, target, reduction=reduction)


def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Any:
    """``torch.nn.functional.binary_cross_entropy_with_logits``."""
    outdated("binary_cross_entropy_with_logits", size_average, reduce)
    positive = torch.ones_like(x) if pos_weight is None else pos_weight.expand_as(x)
    losses = apply(SigmoidCrossEntropy, x, target, positive)
    return reduced(losses if weight is None else losses * weight, reduction)
