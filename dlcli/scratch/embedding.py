"""Embedding: a table whose rows are looked up by number.

Source: d2l 10.7 and 15.4; GDL chapters 11 and 13 (where it is called index_select).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand, refuse


@by_hand
class Embedding(Function):
    """``y_n = W[t_n]``: the product of one-hot vectors with the table, without the products with 0.

    Row r collects the gradients of all places where its number stood: **dW_r = sum of dy_n over the n with t_n = r**.
    The row of padding, if there is one, learns nothing.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.padding, ctx.shape = padding, weight.shape
        return weight[tokens]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor, None]:
        (tokens,) = ctx.saved_tensors
        dweight = dy.new_zeros(ctx.shape).index_add_(0, tokens.flatten(), dy.reshape(-1, ctx.shape[1]))
        if ctx.padding is not None:
            dweight[ctx.padding] = 0
        return None, dweight, None


def embedding(
    tokens: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """``torch.nn.functional.embedding``: tokens (…) int64, weight (V, E) -> (…, E)."""
    refuse("embedding", "max_norm, scale_grad_by_freq or sparse", max_norm is not None or scale_grad_by_freq or sparse)
    return apply(Embedding, tokens, weight, padding_idx)
