"""Kaggle's house prices: what 1,460 houses in Ames, Iowa, were sold for, from 79 features.

Source: D. De Cock, "Ames, Iowa: Alternative to the Boston housing data" (2011); d2l 5.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dlcli.data.csv_file import CsvTable
from dlcli.data.csv_prediction import PredictionRows
from dlcli.data.download import fetch_all
from dlcli.hyperparameters import Count, Folds, Natural, Probability, Seed
from dlcli.registry import DATA


@DATA.register("kaggle_house")
class KaggleHouse(CsvTable):
    """A table as of ``data=csv``: numbers standardised, texts one-hot, missing ones indicated; the price's logarithm.

    The competition's test rows have no prices: ``dlcli predict`` writes a file to submit for them.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_targets")
    provides_by: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {}
    inspect: ClassVar[str] = ""
    identity: ClassVar[str] = "Id"
    submission: ClassVar[dict[str, str]] = {"prediction": "SalePrice"}

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
        paths, source = fetch_all("kaggle_house")
        super().__init__(
            path=str(paths[0]),
            target="SalePrice",
            target_type="number",
            batch_size=batch_size,
            split="random",
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            split_column=None,
            time_column=None,
            folds=folds,
            fold=fold,
            ignore=["Id"],
            categories=[],
            max_categories=30,
            standardize_targets=standardize_targets,
            log_target=True,
            delimiter=",",
            header=True,
            encoding="utf-8",
        )
        self.source = source

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PredictionRows:
        """The rows of a table like the competition's, known by their Id."""
        return PredictionRows(path, preprocessing, identity="Id")
