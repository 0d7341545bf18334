"""Confusion matrix: which class is taken for which (d2l section 4.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcli.metrics.base import Metric


class ConfusionMatrix(Metric):
    """Counts (num_classes, num_classes): the row is the true class, the column the predicted one."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.state = torch.zeros(num_classes, num_classes, dtype=torch.float64)

    def update(self, outputs: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """outputs (B, num_classes); labels (B,) int64."""
        cells = labels * self.num_classes + outputs.argmax(-1)  # (B,)
        # Not torch.bincount: on a GPU it waits for the device to learn the largest value.
        counts = torch.zeros(self.num_classes**2, dtype=torch.float64, device=cells.device)
        counts.index_add_(0, cells, torch.ones_like(cells, dtype=torch.float64))
        self.state = self.state.to(cells.device) + counts.view(self.num_classes, self.num_classes)

    def compute(self) -> Tensor:
        return self.state
