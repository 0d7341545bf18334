"""Naive Bayes over inputs that are on or off."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcli.hyperparameters import PositiveFloat
from dlcli.layers.fitted import FittedModel
from dlcli.registry import MODELS


@MODELS.register("naive_bayes")
class NaiveBayes(FittedModel):
    """P(class) times the product over the inputs of P(input is on or off | class), in logarithms.

    With n_c rows of class c, of which n_ci have input i on: P(on | c) = (n_ci + s) / (n_c + 2 s) and P(c) = n_c / n.

    Source: d2l 22.9 "Naive Bayes" (smoothing s = 1).
    """

    log_prior: Tensor
    log_on: Tensor
    log_off: Tensor

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, threshold: float, smoothing: PositiveFloat):
        """
        Args:
            input_shape: one example without the batch axis.
            num_classes: of the labels.
            threshold: an input above it is on.
            smoothing: added to the count of on and to the count of off (Laplace: 1).
        """
        super().__init__()
        self.threshold = threshold
        self.smoothing = smoothing
        inputs = math.prod(input_shape)
        self.register_buffer("log_prior", torch.full((num_classes,), -math.log(num_classes)))
        for name in ("log_on", "log_off"):
            self.register_buffer(name, torch.full((num_classes, inputs), -math.log(2)))

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        rows = torch.zeros_like(self.log_prior, dtype=torch.float64)  # of each class
        on = torch.zeros_like(self.log_on, dtype=torch.float64)
        for inputs, labels in batches:
            rows += labels.bincount(minlength=len(rows))
            on.index_add_(0, labels, self._is_on(inputs).double())
        shares = (on + self.smoothing) / (rows + 2 * self.smoothing).unsqueeze(1)  # (C, D)
        self.log_prior.copy_((rows / rows.sum()).log())
        self.log_on.copy_(shares.log())
        self.log_off.copy_((1 - shares).log())
        return {"rows": float(rows.sum())}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> log P(class, inputs), (B, C): its softmax is P(class | inputs)."""
        on = self._is_on(inputs).to(self.log_on.dtype)  # (B, D)
        return on @ (self.log_on - self.log_off).T + self.log_off.sum(1) + self.log_prior

    def _is_on(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) > self.threshold
