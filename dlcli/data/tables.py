"""TableData: rows of numbers with numbers to predict, and the random split of rows into parts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dlcli.data.base import TableBatch, TensorData
from dlcli.data.splits import divide, random_order
from dlcli.errors import DataError
from dlcli.spec import DataSpec

Columns = tuple[Tensor, Tensor]
"""features (N, F) and targets (N, K), float64."""


class TableData(TensorData):
    """Regression: per split, features (N, F) and targets (N, K), kept as float32.

    With ``standardize_features`` each feature gets the mean 0 and the standard deviation 1 over the training rows. With
    ``standardize_targets`` each target does too, and losses and metrics are then in units of that deviation.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_targets")

    def __init__(
        self, splits: dict[str, Columns], *, batch_size: int, standardize_features: bool, standardize_targets: bool
    ):
        super().__init__(batch_size=batch_size)
        for column, wanted in enumerate((standardize_features, standardize_targets)):
            if wanted:
                mean, deviation = column_statistics(splits["train"][column])
                for name, tensors in splits.items():
                    scaled = (tensors[column] - mean) / deviation
                    splits = {**splits, name: (scaled, tensors[1]) if column == 0 else (tensors[0], scaled)}
        self.splits = tuple(splits)
        self.tensors = {name: tuple(tensor.float() for tensor in tensors) for name, tensors in splits.items()}
        features, targets = splits["train"]
        self.spec = DataSpec(
            input_shape=(features.shape[1],), num_outputs=targets.shape[1], num_targets=targets.shape[1]
        )

    def collate(self, *tensors: Tensor) -> TableBatch:
        return TableBatch(*tensors)


def column_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, (F,) and (F,); a constant column gets the deviation 1."""
    deviation = rows.std(0, correction=0)
    return rows.mean(0), torch.where(deviation > 0, deviation, 1.0)


def read_table(file: Path, delimiter: str, columns: int, num_targets: int) -> Columns:
    """The features and, from the last columns, the targets of a text table without a header.

    Raises:
        DataError: unreadable, not numbers, or not of ``columns`` columns.
    """
    try:
        rows = np.loadtxt(file, delimiter=delimiter, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not a table of numbers ({error})") from None
    if rows.shape[1] != columns:
        raise DataError(f"{file}: {rows.shape[1]} columns, expected {columns}")
    table = torch.from_numpy(rows)  # (N, columns)
    return table[:, :-num_targets], table[:, -num_targets:]


def split_rows(
    columns: Columns, val_fraction: float, test_fraction: float, split_seed: int, folds: int | None, fold: int
) -> dict[str, Columns]:
    """Rows drawn at random: ``test_fraction`` of all for the test, ``val_fraction`` of the others to validate, or one
    of ``folds`` parts of the others.

    The test rows are those of scikit-learn's ``train_test_split(test_size=test_fraction, random_state=split_seed)``,
    which the books use; the rows left after it are in its order too, and the last of them validate. With a
    ``val_fraction`` of 0 the test rows validate too, as in some books.

    Raises:
        ConfigError: a part would be empty.
    """
    parts = divide(random_order(len(columns[0]), split_seed), val_fraction, test_fraction, folds, fold)
    return {name: (columns[0][rows], columns[1][rows]) for name, rows in parts.items()}
