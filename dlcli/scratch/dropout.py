"""Dropout.

Source: Srivastava et al. 2014; d2l 5.6; DLFS chapter 4; GDL chapter 8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand


@by_hand
class Masked(Function):
    """``y = x * m`` with a mask m of 0 where a unit is dropped and 1 / (1 - p) where it is kept, so that E[y] = x.

    The mask is constant, so **dx = dy * m**: no gradient reaches a unit that was dropped.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return dy * mask, None


def draw_mask(x: Tensor, p: float) -> Tensor:
    """A mask of x's shape from torch's generator: on the CPU the same numbers that torch's dropout draws."""
    if p == 1:
        return torch.zeros_like(x)
    return torch.empty_like(x).bernoulli_(1 - p) / (1 - p)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Any:
    """``torch.nn.functional.dropout``: x itself outside training."""
    return apply(Masked, x, draw_mask(x, p)) if training and p > 0 else x


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Any:
    """``torch.nn.functional.dropout2d`` on x (B, C, H, W): whole channels are dropped."""
    return apply(Masked, x, draw_mask(x[:, :, :1, :1], p)) if training and p > 0 else x
