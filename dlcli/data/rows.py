"""Rows: a table so small that it stands in the configuration, such as the streetlights of GDL chapter 6."""

from __future__ import annotations

import hashlib
from typing import Annotated

import torch

from dlcli.data.tables import TableData
from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, MinLen
from dlcli.registry import DATA


@DATA.register("rows")
class Rows(TableData):
    """The same few rows train, validate and test: what is looked at is how a network learns, not what it foresees."""

    def __init__(
        self,
        *,
        batch_size: Count,
        features: Annotated[list[list[float]], MinLen(1)],
        targets: Annotated[list[list[float]], MinLen(1)],
    ):
        """
        Args:
            batch_size: rows in a step.
            features: one list of numbers for each row.
            targets: one list of numbers for each row.

        Raises:
            ConfigError: rows of unequal length, or not as many targets as features.
        """
        for name, rows in (("features", features), ("targets", targets)):
            if not rows[0] or any(len(row) != len(rows[0]) for row in rows):
                raise ConfigError(f"data.{name}: expected rows of one length, found {[len(row) for row in rows]}")
        if len(features) != len(targets):
            raise ConfigError(
                f"data.targets has {len(targets)} rows and data.features {len(features)}; give one for each"
            )
        table = torch.tensor(features, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)
        self.source = "packaged"
        self.fingerprint = hashlib.sha256(repr((features, targets)).encode()).hexdigest()
        super().__init__(
            dict.fromkeys(("train", "val", "test"), table),
            batch_size=batch_size,
            standardize_features=False,
            standardize_targets=False,
        )
