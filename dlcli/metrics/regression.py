"""Errors of predicted numbers: MAE, RMSE and R squared (DLFS chapter 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcli.metrics.base import Metric


class MeanAbsoluteError(Metric):
    """The mean of |prediction - target| over all examples and outputs, in the targets' unit."""

    def __init__(self) -> None:
        self.state = torch.zeros(2, dtype=torch.float64)  # sum, count

    def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """predictions and targets of one shape."""
        total = (predictions.detach().double() - targets.double()).abs().sum()
        self.state = self.state.to(total.device) + torch.stack([total, torch.full_like(total, targets.numel())])

    def compute(self) -> float:
        return float(self.state[0] / self.state[1])


class RootMeanSquaredError(Metric):
    """The root of the mean of (prediction - target)² over all examples and outputs, in the targets' unit."""

    def __init__(self) -> None:
        self.state = torch.zeros(2, dtype=torch.float64)  # sum of squares, count

    def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """predictions and targets of one shape."""
        total = (predictions.detach().double() - targets.double()).square().sum()
        self.state = self.state.to(total.device) + torch.stack([total, torch.full_like(total, targets.numel())])

    def compute(self) -> float:
        return float((self.state[0] / self.state[1]).sqrt())


class R2(Metric):
    """The coefficient of determination: 1 - squared residuals / squared deviations from the mean target.

    Averaged over the outputs. A target that never changes counts as 1 where it is predicted exactly, else as 0. The
    deviations come from sums of squares, so about 16 - 2 log10(mean / deviation) digits of R² are right.
    """

    CONSTANT = 1e-13  # deviations below this share of the squares are rounding errors

    def __init__(self, num_targets: int):
        self.state = torch.zeros(4, num_targets, dtype=torch.float64)  # targets, their squares, residuals', count

    def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """predictions and targets (B, num_targets)."""
        predictions, targets = predictions.detach().double(), targets.double()
        added = torch.stack(
            [
                targets.sum(0),
                targets.square().sum(0),
                (predictions - targets).square().sum(0),
                torch.full_like(targets[0], len(targets)),
            ]
        )  # (4, num_targets)
        self.state = self.state.to(added.device) + added

    def compute(self) -> float:
        total, squares, residuals, count = self.state
        deviations = squares - total.square() / count  # (num_targets,)
        constant = deviations <= self.CONSTANT * squares
        score = torch.where(constant, (residuals == 0).double(), 1 - residuals / deviations)
        return float(score.mean())
