"""Linear regression by its closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import NonNegativeFloat
from dlcli.layers.fitted import FittedModel, target_columns
from dlcli.registry import MODELS


@MODELS.register("linear_closed_form")
class LinearClosedForm(FittedModel):
    """Weights W and bias b that minimise the sum of |W x + b - y|² + l2 |W|² exactly, by the normal equations.

    The inputs and targets are centred first, so that the penalty leaves the bias alone. Where the inputs depend on each
    other, the smallest of all best W is taken. Labels are predicted as one-hot rows. The tensors have the names and
    shapes of model ``linear``, which can start from them (``init_from``).

    Source: d2l 3.1.2 "Analytic Solution"; DLFS chapter 2; ridge regression: Hoerl, Kennard 1970.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, l2: NonNegativeFloat):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            l2: the weight of the penalty on the sum over all rows.
        """
        super().__init__()
        self.l2 = l2
        self.output = nn.Linear(math.prod(input_shape), num_outputs)

    @torch.no_grad()
    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        features, outputs = self.output.in_features, self.output.out_features
        # One symmetric matrix holds all sums: of (1, x, y) times (1, x, y)'.
        sums = torch.zeros(1 + features + outputs, 1 + features + outputs, dtype=torch.float64)
        sums = sums.to(self.output.weight.device)
        for inputs, targets in batches:
            x = inputs.flatten(1).double()
            rows = torch.cat([torch.ones_like(x[:, :1]), x, target_columns(targets, outputs)], 1)
            sums += rows.T @ rows
        means = sums[0, 1:] / sums[0, 0]  # of x and y
        centred = sums[1:, 1:] - sums[0, 0] * torch.outer(means, means)
        penalty = self.l2 * torch.eye(features, dtype=torch.float64, device=sums.device)
        inverse = torch.linalg.pinv(centred[:features, :features] + penalty, hermitian=True)
        weight = (inverse @ centred[:features, features:]).T  # (outputs, features)
        self.output.weight.copy_(weight)
        self.output.bias.copy_(means[features:] - weight @ means[:features])
        residual = centred[features:, features:] - weight @ centred[:features, features:]
        return {"rows": float(sums[0, 0]), "mean_squared_error": float(residual.diagonal().mean() / sums[0, 0])}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> predictions (B, num_outputs)."""
        outputs: Tensor = self.output(inputs.flatten(1))
        return outputs
