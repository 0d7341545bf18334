"""The class whose mean is nearest: hyperplanes half way between the means of the classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcli.layers.fitted import FittedModel
from dlcli.registry import MODELS


@MODELS.register("nearest_class_mean")
class NearestClassMean(FittedModel):
    """Scores m_c · x - |m_c|²/2 for the mean m_c of each class: the largest is that of the nearest mean.

    Of two classes, the border is the hyperplane half way between their means, across the line that joins them.

    Source: d2l 22.1 "Geometry and Linear Algebraic Operations" (hyperplanes; T-shirts against trousers).
    """

    means: Tensor

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int):
        """
        Args:
            input_shape: one example without the batch axis.
            num_classes: of the labels.
        """
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, math.prod(input_shape)))

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        rows = torch.zeros(len(self.means), dtype=torch.float64, device=self.means.device)
        sums = torch.zeros_like(self.means, dtype=torch.float64)
        for inputs, labels in batches:
            rows += labels.bincount(minlength=len(rows))
            sums.index_add_(0, labels, inputs.flatten(1).double())
        self.means.copy_(sums / rows.clamp(min=1).unsqueeze(1))
        return {"rows": float(rows.sum())}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> scores (B, C): differences are those of half the squared distances."""
        return inputs.flatten(1) @ self.means.T - self.means.square().sum(1) / 2
