"""Accuracy: the share of examples whose class is predicted, or is among the k highest (d2l section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcli.metrics.base import Metric


def correct(outputs: Tensor, labels: Tensor) -> Tensor:
    """Whether the largest output is the label's: outputs (..., C), labels (...) int64 -> (...) bool."""
    return outputs.argmax(-1) == labels


class Accuracy(Metric):
    """The share of labels that are among the ``top_k`` largest outputs, in [0, 1]. State: correct, all."""

    def __init__(self, top_k: int = 1):
        self.state = torch.zeros(2, dtype=torch.float64)
        self.top_k = top_k

    def update(self, outputs: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """outputs (..., C) with C at least ``top_k``; labels (...) int64."""
        if self.top_k == 1:
            found = correct(outputs, labels)
        else:
            found = (outputs.topk(self.top_k, -1).indices == labels.unsqueeze(-1)).any(-1)
        number = found.sum(dtype=torch.float64)
        self.state = self.state.to(number.device) + torch.stack([number, torch.full_like(number, labels.numel())])

    def compute(self) -> float:
        return float(self.state[0] / self.state[1])
