"""Matrix products.

Letters of shapes: B examples (any number of leading axes), I inputs, O outputs.
Source: d2l 3.4 and 5.3 (back-propagation); DLFS chapters 1 (derivatives of matrix products) and 3; GDL chapter 6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.function import apply, by_hand, summed_to


@by_hand
class Linear(Function):
    """``y = x W' + b`` with x (…, I), W (O, I), b (O) and y (…, O).

    Element by element y_no = sum_i x_ni W_oi + b_o. The loss depends on x_ni through all outputs of the same example,
    so dL/dx_ni = sum_o dy_no W_oi: **dx = dy W**. It depends on W_oi through all examples, so
    dL/dW_oi = sum_n dy_no x_ni: **dW = dy' x**, and likewise **db = sum_n dy_n**.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        y = x @ weight.T  # (…, O)
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, inputs = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])  # (B, O), (B, I)
        return dy @ weight, rows.T @ inputs, rows.sum(0) if ctx.has_bias else None


@by_hand
class MatrixProduct(Function):
    """``c = a b`` with a (…, N, K), b (…, K, M) and c (…, N, M); the leading axes are broadcast.

    c_nm = sum_k a_nk b_km, so dL/da_nk = sum_m dc_nm b_km: **da = dc b'**, and **db = a' dc**. A leading axis that was
    repeated to fit the other factor collects the sum over its copies.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, dc: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return summed_to(dc @ b.mT, a.shape), summed_to(a.mT @ dc, b.shape)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``: x (…, I), weight (O, I), bias (O) -> (…, O)."""
    result: Tensor = apply(Linear, x, weight, bias)
    return result


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """``torch.matmul``, ``mm``, ``bmm`` and ``@``: matrices, stacks of matrices, and vectors."""
    rows, columns = a.ndim == 1, b.ndim == 1
    c: Tensor = apply(MatrixProduct, a[None] if rows else a, b[:, None] if columns else b)
    c = c.squeeze(-1) if columns else c
    return c.squeeze(-1 if columns else -2) if rows else c


def matmul_from_right(b: Tensor, a: Tensor) -> Tensor:
    """``a @ b`` as Python calls it on ``b``."""
    return matmul(torch.as_tensor(a), b)
