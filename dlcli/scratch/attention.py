"""Attention: a mean of values, weighted by how well their keys fit a query.

Letters of shapes: … batch and heads, Q queries, K keys, D numbers of a query or key, E of a value.
Source: Vaswani et al. 2017; d2l 11.3 (scaled dot product) and 11.5 (several heads).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.scratch.activations import softmax_of
from dlcli.scratch.dense import linear
from dlcli.scratch.dropout import draw_mask
from dlcli.scratch.function import apply, by_hand, refuse, summed_to


@by_hand
class ScaledDotProductAttention(Function):
    """``y = (m * P) v`` with ``P = softmax(s q k' + bias)`` over the keys, a scale s and dropout's mask m.

    Backwards through the four steps: **dv = (m * P)' dy**; dP = m * (dy v'); through the softmax of each row
    dS = P * (dP - sum_k dP_k P_k); and through the product **dq = s dS k**, **dk = s dS' q**, **dbias = dS**.
    A bias of -inf hides a key: there P = 0, so dS = 0.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None, scale: float
    ) -> Tensor:
        scores = scale * q @ k.mT  # (…, Q, K)
        weights = softmax_of(scores if bias is None else scores + bias)
        ctx.save_for_backward(q, k, v, weights, mask)
        ctx.scale, ctx.bias_shape = scale, None if bias is None else bias.shape
        return (weights if mask is None else weights * mask) @ v

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None, None]:
        q, k, v, weights, mask = ctx.saved_tensors
        dv = (weights if mask is None else weights * mask).mT @ dy
        dweights = dy @ v.mT if mask is None else mask * (dy @ v.mT)
        dscores = weights * (dweights - (dweights * weights).sum(-1, keepdim=True))  # (…, Q, K)
        dbias = summed_to(dscores, ctx.bias_shape) if ctx.needs_input_grad[3] else None
        gradients = ctx.scale * dscores @ k, ctx.scale * dscores.mT @ q, dv
        dq, dk, dv = (summed_to(d, tensor.shape) for d, tensor in zip(gradients, (q, k, v), strict=True))
        return dq, dk, dv, dbias, None, None


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``torch.nn.functional.scaled_dot_product_attention``.

    query (…, Q, D), key (…, K, D), value (…, K, E) -> (…, Q, E). ``attn_mask`` is added to
    the scores, or, if boolean, True where a query may look.
    """
    refuse("scaled_dot_product_attention", "both attn_mask and is_causal", attn_mask is not None and is_causal)
    if enable_gqa:  # several heads of queries share one of keys and values
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    shape = (query.shape[-2], key.shape[-2])
    if is_causal:
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=query.dtype, device=query.device).masked_fill(
            ~attn_mask, -torch.inf
        )
    mask = None
    if dropout_p > 0:
        leading = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])  # type: ignore[no-untyped-call]
        mask = draw_mask(query.new_empty(*leading, *shape), dropout_p)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return apply(ScaledDotProductAttention, query, key, value, attn_mask, mask, scale)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, None]:
    """What ``nn.MultiheadAttention`` computes: projections, attention in each head, and one more projection.

    query (Q, B, C), key and value (K, B, …) -> (Q, B, C), and None for the weights, which are not returned.
    """
    name = "multi_head_attention_forward"
    refuse(name, "unbatched inputs", query.ndim != 3)
    refuse(name, "extra keys", bias_k is not None or static_k is not None or add_zero_attn)
    refuse(name, "need_weights=True", need_weights)
    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        assert in_proj_weight is not None
        weights = in_proj_weight.chunk(3)
    biases: Any = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = (
        linear(x, weight, bias).reshape(*x.shape[:2], num_heads, -1).permute(1, 2, 0, 3)  # (B, heads, Q or K, D)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    hidden = None
    if attn_mask is not None:
        hidden = added(attn_mask, query.dtype)
        hidden = (
            hidden.reshape(-1, num_heads, *hidden.shape[1:]) if hidden.ndim == 3 else hidden
        )  # (B, heads, Q, K) or (Q, K)
    if key_padding_mask is not None:
        padding = added(key_padding_mask, query.dtype)[:, None, None]  # (B, 1, 1, K)
        hidden = padding if hidden is None else hidden + padding
    mixed = scaled_dot_product_attention(query, key, value, hidden, dropout_p if training else 0.0)  # (B, heads, Q, D)
    return linear(mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias), None


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """``nn.MultiheadAttention``'s masks as numbers to add: a boolean one is True where a key is hidden."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
