"""Ways from one factor to another, which several schedules share."""

from __future__ import annotations

import math


def progress(step: int, steps: int) -> float:
    """The share of the way that is done at ``step`` of ``steps``: 0 at the first, 1 at the last and ever after.

    With a single step it stays at the start: the end's rate may be zero, which would be no training.
    """
    return min(step / (steps - 1), 1.0) if steps > 1 else 0.0


def linear(start: float, end: float, share: float) -> float:
    """``share`` (0 to 1) of the straight way from ``start`` to ``end``; exact at both."""
    return start * (1 - share) + end * share


def cosine(start: float, end: float, share: float) -> float:
    """``share`` (0 to 1) of the way from ``start`` to ``end`` along half a cosine wave: slow, fast, slow."""
    return linear(start, end, (1 - math.cos(math.pi * share)) / 2)
