"""Points in the plane from one normal distribution: the data of the smallest generator.

Source: d2l 20.1.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from dlcli.data.base import TensorData, generator
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA
from dlcli.spec import DataSpec


class PointBatch(NamedTuple):
    """points (B, 2) float."""

    points: Tensor


@DATA.register("gaussian_2d")
class GaussianPoints(TensorData):
    """points = noise @ matrix + shift, with standard normal noise (N, 2); mean shift, covariance matrixᵀ @ matrix."""

    provides: ClassVar[tuple[str, ...]] = ("input_shape",)

    def __init__(
        self,
        *,
        batch_size: Count,
        matrix: tuple[tuple[float, float], tuple[float, float]],
        shift: tuple[float, float],
        train_size: Count,
        val_size: Count,
        test_size: Count,
        data_seed: Natural,
    ):
        super().__init__(batch_size=batch_size)
        sizes = [train_size, val_size, test_size]
        noise = torch.randn(sum(sizes), 2, generator=generator(data_seed))  # (N, 2)
        points = noise @ torch.tensor(matrix, dtype=noise.dtype) + torch.tensor(shift, dtype=noise.dtype)
        parts = torch.split(points, sizes)
        self.tensors = {split: (part,) for split, part in zip(("train", "val", "test"), parts, strict=True)}
        self.spec = DataSpec(input_shape=(2,))
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr((matrix, shift, sizes, data_seed)).encode()).hexdigest()

    def collate(self, *tensors: Tensor) -> PointBatch:
        return PointBatch(*tensors)
