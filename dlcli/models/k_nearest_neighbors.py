"""The k nearest rows of the training data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.layers.fitted import FittedModel, log_shares, target_columns
from dlcli.registry import MODELS

CHUNK = 8192  # stored rows that are compared at a time
LEVELS = 256


@MODELS.register("k_nearest_neighbors")
class KNearestNeighbors(FittedModel):
    """The mean target, or the logarithm of the classes' shares, of the k training rows with the smallest distance.

    The model is its training rows. Where these have at most 256 different values (pixels), each value is kept as one
    byte, without loss.

    Source: d2l 5.5.2 (nearest neighbours as a nonparametric model); Fix, Hodges 1951.
    """

    levels: Tensor
    rows: Tensor
    targets: Tensor

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, k: Count, smoothing: PositiveFloat):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            k: how many neighbours; all rows if there are fewer.
            smoothing: of classes: added to the count of each, so that none has the probability 0.
        """
        super().__init__()
        self.k = k
        self.smoothing = smoothing
        self.num_outputs = num_outputs
        self.register_buffer("levels", torch.zeros(0))  # the different values of the rows, ascending; empty: too many
        self.register_buffer("rows", torch.zeros(0, math.prod(input_shape)))  # or positions in levels, uint8
        self.register_buffer("targets", torch.zeros(0, num_outputs))  # numbers, or labels (N,) int64

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        levels: Tensor | None = None  # of all batches so far, while they are few
        parts, targets = [], []
        for number, (inputs, labels) in enumerate(batches):
            part = inputs.flatten(1)
            if number == 0 or levels is not None:
                found = torch.unique(part)
                levels = found if levels is None else torch.unique(torch.cat([levels, found]))
                levels = levels if len(levels) <= LEVELS else None
            parts.append(part)
            targets.append(labels)
        if levels is None:
            self.levels, self.rows = self.levels[:0], torch.cat(parts)
        else:
            self.levels = levels
            self.rows = torch.cat([torch.searchsorted(levels, part).to(torch.uint8) for part in parts])
        self.targets = torch.cat(targets)
        return {"rows": float(len(self.rows))}

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> targets (B, num_outputs), or log shares of the classes (B, C)."""
        queries = inputs.flatten(1)  # (B, D)
        nearest = queries.new_empty(len(queries), 0)
        positions = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(self.rows), CHUNK):
            distances = torch.cdist(queries, self._values(start).to(queries))  # (B, chunk)
            here = torch.arange(start, start + distances.shape[1], device=queries.device).expand_as(distances)
            distances, positions = torch.cat([nearest, distances], 1), torch.cat([positions, here], 1)
            nearest, chosen = distances.topk(min(self.k, distances.shape[1]), largest=False)
            positions = positions.gather(1, chosen)
        columns = target_columns(self.targets[positions.flatten()], self.num_outputs)
        columns = columns.view(*positions.shape, self.num_outputs).to(queries.dtype)  # (B, k, K)
        if self.targets.is_floating_point():
            return columns.mean(1)
        return log_shares(columns.sum(1), self.smoothing)

    def _values(self, start: int) -> Tensor:
        """Some of the stored rows, (chunk, D)."""
        rows = self.rows[start : start + CHUNK]
        return self.levels[rows.int()] if len(self.levels) else rows
