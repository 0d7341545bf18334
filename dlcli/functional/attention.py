"""Scaled dot-product attention through torch's fused kernel, in the precision in which it is quick.

Letters: B sequences, N heads, T queries, S keys, D units of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """``softmax(query key^T / sqrt(D)) value`` for each head (Vaswani et al. 2017; d2l 11.3).

    On a CPU bfloat16 is computed in float32: the backward pass of torch's kernel for it takes several times as long.

    Args:
        query: (B, N, T, D). key, value: (B, N, S, D).
        mask: (T, S), or more axes in front, bool: which keys a query may see.
        dropout: probability of zeroing a weight.
        causal: query t sees keys 0 … t only; not together with a mask.

    Returns:
        (B, N, T, D).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, causal)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask, dropout, causal)
