"""Clusters of the training rows around k centres."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, NonNegativeFloat, PositiveFloat
from dlcli.layers.fitted import FittedModel, log_shares, target_columns
from dlcli.registry import MODELS


@MODELS.register("k_means")
class KMeans(FittedModel):
    """Lloyd's algorithm: rows belong to the nearest centre, centres move to the mean of their rows, until they stay.

    The centres are found without the targets; a cluster then predicts the mean target, or the logarithms of the
    classes' shares, of its training rows.

    Source: Lloyd 1982, "Least Squares Quantization in PCM"; first centres: Arthur, Vassilvitskii 2007, "k-means++".
    """

    centres: Tensor
    outputs: Tensor

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        k: Count,
        max_iterations: Count,
        tolerance: NonNegativeFloat,
        smoothing: PositiveFloat,
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            k: how many clusters; at most as many as there are rows.
            max_iterations: passes over the training rows.
            tolerance: ends when the mean squared distance falls by less than this share of it.
            smoothing: of classes: added to the count of each in a cluster.
        """
        super().__init__()
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.smoothing = smoothing
        self.register_buffer("centres", torch.zeros(k, math.prod(input_shape)))
        self.register_buffer("outputs", torch.zeros(k, num_outputs))

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        rows, targets = (torch.cat(column) for column in zip(*[(x.flatten(1), y) for x, y in batches], strict=True))
        count = len(self.centres)
        if len(rows) < count:
            raise ConfigError(f"model.k={count}: there are only {len(rows)} training rows; give fewer clusters")
        centres = plus_plus(rows, count)
        before = math.inf
        iterations = 0
        while iterations < self.max_iterations:
            iterations += 1
            distances, nearest = nearest_centre(rows, centres)
            inertia = float(distances.double().square().mean())
            members = nearest.bincount(minlength=count)
            sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, nearest, rows.double())
            moved = (sums / members.clamp(min=1).unsqueeze(1)).to(rows.dtype)
            # A centre that has lost all rows starts again at the row that is farthest from its own.
            empty = (members == 0).nonzero().flatten()
            moved[empty] = rows[distances.topk(len(empty)).indices]
            centres = moved
            if not len(empty) and before - inertia <= self.tolerance * inertia:
                break
            before = inertia
        distances, nearest = nearest_centre(rows, centres)
        columns = target_columns(targets, self.outputs.shape[1])
        sums = torch.zeros_like(self.outputs, dtype=torch.float64).index_add_(0, nearest, columns)
        members = nearest.bincount(minlength=count).clamp(min=1).unsqueeze(1)
        labels = not targets.is_floating_point()
        self.centres.copy_(centres)
        self.outputs.copy_(log_shares(sums, self.smoothing) if labels else sums / members)
        return {"mean_squared_distance": float(distances.double().square().mean()), "iterations": float(iterations)}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> what the nearest centre predicts, (B, num_outputs)."""
        return self.outputs[nearest_centre(inputs.flatten(1), self.centres)[1]]


def nearest_centre(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The distance (N,) to the nearest of the centres (k, D), and which it is, (N,) int64."""
    found = [torch.cdist(part, centres).min(1) for part in torch.split(rows, 8192)]
    return torch.cat([distances for distances, _ in found]), torch.cat([indices for _, indices in found])


def plus_plus(rows: Tensor, count: int) -> Tensor:
    """First centres (count, D): rows, each drawn in proportion to its squared distance from those drawn before."""
    chosen = [int(torch.randint(len(rows), ()))]
    squared = torch.full_like(rows[:, 0], math.inf, dtype=torch.float64)
    while len(chosen) < count:
        distances = (rows - rows[chosen[-1]]).double().square().sum(1)
        squared = torch.minimum(squared, distances)
        total = squared.cumsum(0)
        drawn = torch.rand((), dtype=torch.float64).to(total) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, drawn)), len(rows) - 1))
    return rows[chosen]
