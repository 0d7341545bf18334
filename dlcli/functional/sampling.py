"""Drawing tokens from logits: temperature, top-k (Fan et al. 2018) and top-p, "nucleus" (Holtzman et al. 2020).

A draw is an argmax. With independent Gumbel noise g, ``argmax(logits / T + g)`` has the distribution
``softmax(logits / T)``, and so has ``argmax(logits + T g)``, which needs no division and is greedy at T = 0 (Gumbel
1954; Maddison, Tarlow and Minka 2014). The noise does not depend on the logits: it is drawn for many tokens at once.

Letters: B samples, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest logits of each row (B, V); the others become -inf. Of equal logits the first ones are kept."""
    order = logits.argsort(dim=-1, descending=True, stable=True)  # (B, V)
    return logits.scatter(-1, order[:, k:], float("-inf"))


def keep_top_p(logits: Tensor, p: float, temperature: float = 1.0) -> Tensor:
    """The fewest largest logits of each row (B, V) whose probabilities add up to at least ``p``; others become -inf.

    At least one is always kept. Of equal logits the first ones are kept. Probabilities are those at ``temperature``.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # (B, V) both
    # With the largest at 0, a tiny temperature underflows to -inf instead of overflowing to NaN.
    probabilities = ((ordered - ordered[:, :1]).double() / temperature).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # (B, V) what the larger ones already add up to
    drop = before >= p
    drop[:, 0] = False
    return logits.scatter(-1, order, ordered.masked_fill(drop, float("-inf")))


def keep(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The logits (B, V) that may be drawn; the others become -inf. First top-k, then top-p of what that leaves.

    Args:
        logits: (B, V).
        temperature: of the probabilities that top-p adds up.
        top_k: keep this many tokens; None or at least V keeps all.
        top_p: keep the fewest tokens that make up this probability; None or 1 keeps all.
    """
    if temperature == 0:  # the likeliest one is kept in any case
        return logits
    if top_k is not None and top_k < logits.shape[-1]:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p, temperature)
    return logits


def gumbel_noise(generators: Sequence[torch.Generator], count: int, vocab_size: int) -> Tensor:
    """Independent standard Gumbel numbers, (count, B, V) float64 on the CPU: row b comes from ``generators[b]`` alone.

    The numbers of one generator do not depend on how many are asked for at a time.
    """
    uniform = [torch.rand(count, vocab_size, dtype=torch.float64, generator=g) for g in generators]  # in [0, 1)
    return torch.stack(uniform, 1).clamp_(min=1e-300).log_().neg_().log_().neg_()


def draw(logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row.

    Args:
        logits: (B, V), -inf for tokens that must not be drawn.
        noise: (B, V) Gumbel numbers times the temperature.

    Returns:
        tokens (B,) int64, and the winning sums (B,), which are finite unless a row of logits is not: one number to
        check instead of V.
    """
    sums, tokens = (logits + noise).max(-1)
    return tokens, sums
