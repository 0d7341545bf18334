"""Metric: sums that are collected over batches (and over processes) and turned into a number at the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Metric:
    """Accumulates ``state``, a float64 tensor that adds up over batches and processes.

    Out of scope: what cannot be added up (areas under curves, rankings) gathers its inputs in a class of its own.
    """

    state: Tensor

    def update(self, *tensors: Tensor) -> None:
        """Add one batch. Works on the tensors' device and never waits for it."""
        raise NotImplementedError

    def compute(self) -> float | Tensor:
        """The value over all that was added: a number, or a tensor for what is no scalar."""
        raise NotImplementedError


class Mean(Metric):
    """The weighted mean of a quantity, such as the loss per example, passed through ``transform`` at the end."""

    def __init__(self, transform: Callable[[Tensor], Tensor] | None = None):
        self.state = torch.zeros(2, dtype=torch.float64)
        self.transform = transform

    def update(self, value: Tensor, weight: float = 1.0) -> None:  # type: ignore[override]
        """Add ``value`` (a scalar tensor, the mean over a batch) with the batch's weight (its number of examples)."""
        value = value.detach().double()
        added = torch.stack([value * weight, torch.full_like(value, weight)])
        self.state = self.state.to(value.device) + added

    def compute(self) -> float:
        mean = self.state[0] / self.state[1]
        return float(self.transform(mean) if self.transform else mean)
