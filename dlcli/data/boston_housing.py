"""Boston housing: the median price of homes from 13 features of an area.

Source: D. Harrison, D. Rubinfeld, "Hedonic housing prices and the demand for clean air" (1978); DLFS chapters 2, 3, 7.
"""

from __future__ import annotations

from typing import Literal

from dlcli.data.download import fetch_all
from dlcli.data.sources import SOURCES
from dlcli.data.tables import TableData, column_statistics, read_table, split_rows
from dlcli.hyperparameters import Count, Folds, Natural, Probability, Seed
from dlcli.registry import DATA


@DATA.register("boston_housing")
class BostonHousing(TableData):
    """506 rows, 13 features, and the median price in thousands of dollars."""

    def __init__(
        self,
        *,
        batch_size: Count,
        val_fraction: Probability,
        test_fraction: Probability,
        split_seed: Seed,
        folds: Folds | None,
        fold: Natural,
        standardize_by: Literal["train", "all"],
        standardize_targets: bool,
    ):
        """
        Args:
            batch_size: of training.
            val_fraction: of the rows that do not test; 0: the test rows validate too.
            test_fraction: of all rows.
            split_seed: draws the parts.
            folds: of a cross-validation; None for none.
            fold: the part that validates.
            standardize_by: the rows whose means and deviations the features are scaled by; "all" as in the book, which
                lets the test rows have a say.
            standardize_targets: whether losses and metrics are in units of the targets' deviation.
        """
        paths, self.source = fetch_all("boston_housing")
        self.fingerprint = SOURCES["boston_housing"].files[0].sha256
        columns = read_table(paths[0], ",", columns=14, num_targets=1)
        if standardize_by == "all":
            mean, deviation = column_statistics(columns[0])
            columns = (columns[0] - mean) / deviation, columns[1]
        super().__init__(
            split_rows(columns, val_fraction, test_fraction, split_seed, folds, fold),
            batch_size=batch_size,
            standardize_features=standardize_by == "train",
            standardize_targets=standardize_targets,
        )
