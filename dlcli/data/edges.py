"""Edges: one picture of a black bar on white, and what an edge detector makes of it.

Source: d2l 7.2.3 (object edge detection) and 7.2.4 (learning a kernel).
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

import torch
from torch import Tensor

from dlcli.data.base import TableBatch, TensorData
from dlcli.errors import ConfigError
from dlcli.functional.cross_correlation import cross_correlate
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA
from dlcli.spec import DataSpec


@DATA.register("edges")
class Edges(TensorData):
    """The same picture (1, H, W) trains and validates; its targets are the detector's outputs, row by row."""

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_targets")
    splits: tuple[str, ...] = ("train", "val")

    def __init__(self, *, height: Count, width: Count, bar: tuple[Natural, Natural], kernel: list[list[float]]):
        """
        Args:
            height, width: pixels of the picture, which are 1 where it is white.
            bar: the first black column, and the first white one after it.
            kernel: the detector, a list of numbers for each row.

        Raises:
            ConfigError: a bar or a kernel that does not fit into the picture.
        """
        super().__init__(batch_size=1)
        if not bar[0] < bar[1] <= width:
            raise ConfigError(f"data.bar={list(bar)}: expected two columns, rising, of at most data.width={width}")
        sizes = {len(row) for row in kernel}
        if len(sizes) != 1 or not 0 < max(sizes) <= width or len(kernel) > height:
            raise ConfigError(f"data.kernel={kernel}: expected rows of one length, at most {height}×{width} numbers")
        picture = torch.ones(height, width)
        picture[:, bar[0] : bar[1]] = 0
        detected = cross_correlate(picture, torch.tensor(kernel)).flatten()
        tensors = picture[None, None], detected[None]  # (1, 1, H, W), (1, places)
        self.tensors = dict.fromkeys(self.splits, tensors)
        self.spec = DataSpec(input_shape=(1, height, width), num_outputs=detected.numel(), num_targets=detected.numel())
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr((height, width, bar, kernel)).encode()).hexdigest()

    def collate(self, *tensors: Tensor) -> TableBatch:
        return TableBatch(*tensors)
