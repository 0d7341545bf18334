"""Drawing tokens from logits: temperature, top-k (Fan et al. 2018) and top-p, "nucleus" (Holtzman et al. 2020).

Letters: B samples, V tokens of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest logits of each row (B, V); the others become -inf. Of equal logits the first ones are kept."""
    order = logits.argsort(dim=-1, descending=True, stable=True)  # (B, V)
    return logits.scatter(-1, order[:, k:], float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The fewest largest logits of each row (B, V) whose probabilities add up to at least ``p``; others become -inf.

    At least one is always kept. Of equal logits the first ones are kept.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # (B, V) both
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # (B, V) what the larger ones already add up to
    drop = before >= p
    drop[:, 0] = False
    return logits.scatter(-1, order, ordered.masked_fill(drop, float("-inf")))


def probabilities(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The distribution to draw from, (B, V) float64: temperature first, then top-k, then top-p.

    Args:
        logits: (B, V) of any floating type.
        temperature: divides the logits; 0 puts everything on the largest logit (the first of equal ones).
        top_k: keep this many tokens; None or at least V keeps all.
        top_p: keep the fewest tokens that make up this probability, after top-k; None or 1 keeps all.
    """
    logits = logits.double()
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    # With the largest at 0, a tiny temperature underflows to -inf instead of overflowing to NaN.
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    return logits.softmax(-1)


def draw(
    logits: Tensor, *, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> Tensor:
    """One token per row of ``logits`` (B, V), as (B, 1) int64. Randomness comes from ``generator`` alone."""
    return torch.multinomial(probabilities(logits, temperature, top_k, top_p), 1, generator=generator)
