"""Which classes a generator's examples fall into, by a classifier: whether it has forgotten some (mode collapse)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dlcli.metrics.base import Metric

HIT = 0.2  # of an equal share


class ClassShares(Metric):
    """``summarise(the share of each class (C,))`` over all examples. State: the examples of each class."""

    def __init__(self, num_classes: int, summarise: Callable[[Tensor], Tensor]):
        self.state = torch.zeros(num_classes, dtype=torch.float64)
        self.summarise = summarise

    def update(self, scores: Tensor) -> None:  # type: ignore[override]
        """scores (B, C)."""
        found = scores.argmax(1)
        counts = torch.zeros(len(self.state), dtype=torch.float64, device=found.device)
        counts.index_add_(0, found, torch.ones_like(found, dtype=torch.float64))
        self.state = self.state.to(found.device) + counts

    def compute(self) -> float:
        return float(self.summarise(self.state / self.state.sum()))


def classes_hit(shares: Tensor) -> Tensor:
    """How many classes have at least a fifth of an equal share: of ten classes, 2 % of the examples."""
    return (shares >= HIT / len(shares)).sum()
