"""NASA's airfoil self-noise: the sound pressure level from five measurements of a wind-tunnel test.

Source: T. Brooks, D. Pope, M. Marcolini, "Airfoil self-noise and prediction" (1989); d2l 12.5.
"""

from __future__ import annotations

from dlcli.data.download import fetch_all
from dlcli.data.sources import SOURCES
from dlcli.data.tables import TableData, read_table, split_rows
from dlcli.hyperparameters import Count, Folds, Natural, Probability, Seed
from dlcli.registry import DATA


@DATA.register("airfoil")
class Airfoil(TableData):
    """1,503 rows, 5 features, and the scaled sound pressure level in decibels."""

    def __init__(
        self,
        *,
        batch_size: Count,
        val_fraction: Probability,
        test_fraction: Probability,
        split_seed: Seed,
        folds: Folds | None,
        fold: Natural,
        standardize_targets: bool,
    ):
        paths, self.source = fetch_all("airfoil")
        self.fingerprint = SOURCES["airfoil"].files[0].sha256
        columns = read_table(paths[0], "\t", columns=6, num_targets=1)
        super().__init__(
            split_rows(columns, val_fraction, test_fraction, split_seed, folds, fold),
            batch_size=batch_size,
            standardize_features=True,
            standardize_targets=standardize_targets,
        )
