"""A linear function of normal features plus normal noise, so that the right answer is known.

Source: d2l 3.3 (weights 2 and -3.4, bias 4.2, noise 0.01).
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import torch

from dlcli.data.base import generator
from dlcli.data.tables import TableData
from dlcli.hyperparameters import Count, MinLen, Natural, NonNegativeFloat
from dlcli.registry import DATA


@DATA.register("synthetic_regression")
class SyntheticRegression(TableData):
    """targets = features @ weights + bias + noise, with standard normal features (N, len(weights) * copies)."""

    def __init__(
        self,
        *,
        batch_size: Count,
        weights: Annotated[list[float], MinLen(1)],
        copies: Count,
        bias: float,
        noise: NonNegativeFloat,
        train_size: Count,
        val_size: Count,
        test_size: Count,
        data_seed: Natural,
    ):
        weights = weights * copies
        self.true_parameters = weights, bias
        count = train_size + val_size + test_size
        random = generator(data_seed)
        features = torch.randn(count, len(weights), generator=random, dtype=torch.float64)  # (N, F)
        exact = features @ torch.tensor(weights, dtype=torch.float64).unsqueeze(1) + bias  # (N, 1)
        targets = exact + noise * torch.randn(count, 1, generator=random, dtype=torch.float64)
        sizes = [train_size, val_size, test_size]
        ends = [train_size, train_size + val_size]
        parts = zip(features.tensor_split(ends), targets.tensor_split(ends), strict=True)
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr((weights, bias, noise, sizes, data_seed)).encode()).hexdigest()
        super().__init__(
            dict(zip(("train", "val", "test"), parts, strict=True)),
            batch_size=batch_size,
            standardize_features=False,
            standardize_targets=False,
        )
