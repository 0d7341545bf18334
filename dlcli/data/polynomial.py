"""A cubic function of one number plus noise, seen through its powers: for under- and overfitting.

Source: d2l 3.6 (generalization) and its supplement on polynomial regression.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated

import torch
from torch import Tensor

from dlcli.data.base import generator
from dlcli.data.tables import TableData
from dlcli.hyperparameters import Count, MinLen, Natural, NonNegativeFloat
from dlcli.registry import DATA


@DATA.register("polynomial")
class Polynomial(TableData):
    """targets = sum_i coefficients[i] x^i / i! + noise for standard normal x; the features are x^i / i!, i = 1..degree.

    A linear model of degree 3 can be right; one of degree 1 is too simple, and one of degree 19 fits the noise.
    """

    def __init__(
        self,
        *,
        batch_size: Count,
        coefficients: Annotated[list[float], MinLen(1)],
        degree: Count,
        noise: NonNegativeFloat,
        train_size: Count,
        val_size: Count,
        test_size: Count,
        data_seed: Natural,
    ):
        count = train_size + val_size + test_size
        random = generator(data_seed)
        numbers = torch.randn(count, generator=random, dtype=torch.float64)
        targets = powers(numbers, len(coefficients) - 1) @ torch.tensor(coefficients, dtype=torch.float64)
        targets = targets + noise * torch.randn(count, generator=random, dtype=torch.float64)
        features = powers(numbers, degree)[:, 1:]  # a linear model has the constant
        sizes = [train_size, val_size, test_size]
        parts = zip(torch.split(features, sizes), torch.split(targets.unsqueeze(1), sizes), strict=True)
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr((coefficients, degree, noise, sizes, data_seed)).encode()).hexdigest()
        super().__init__(
            dict(zip(("train", "val", "test"), parts, strict=True)),
            batch_size=batch_size,
            standardize_features=False,
            standardize_targets=False,
        )


def powers(numbers: Tensor, degree: int) -> Tensor:
    """x^i / i! for i from 0 to degree, (N, degree + 1)."""
    exponents = torch.arange(degree + 1, dtype=numbers.dtype)
    factorials = torch.tensor([math.factorial(i) for i in range(degree + 1)], dtype=numbers.dtype)
    return numbers.unsqueeze(1) ** exponents / factorials
