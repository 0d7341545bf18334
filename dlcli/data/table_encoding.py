"""From the columns of a table to numbers for a model, by statistics of the training rows. Torch-free.

Numbers, booleans and dates become standardised numbers (a missing one the mean, with an indicator beside it);
categories become one-hot. The encoding is plain values, kept with a run, so that other rows are encoded as its own.

Letters in shape comments: N rows, D dense numbers, C category columns, F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlcli.data.columns import Array, Column, values_as

OTHER = None
"""In a list of categories: every text that the training rows have too rarely."""


def fit(column: Column, train: Array, max_categories: int) -> dict[str, Any] | str:
    """The encoding of one column, or in words why it is not used.

    Args:
        column: of all rows.
        train: positions of the training rows, the only ones that are looked at.
        max_categories: the most frequent texts of a category column that get a feature each.
    """
    absent = column.missing[train]
    if absent.all():
        return "empty"
    if column.kind == "category":
        return _fit_categories(column, train, max_categories)
    parts = dense_parts(column.form, column.values[train])  # (N, P)
    means, deviations = np.nanmean(parts, 0), np.nanstd(parts, 0)
    if not (deviations > 1e-12 * np.abs(means)).any() and not absent.any():
        return "constant"
    deviations = np.where(deviations > 1e-12 * np.abs(means), deviations, 1.0)
    return {
        "name": column.name,
        "form": column.form,
        "means": means.tolist(),
        "deviations": deviations.tolist(),
        "indicator": bool(absent.any()),
    }


def _fit_categories(column: Column, train: Array, max_categories: int) -> dict[str, Any] | str:
    codes = column.values[train]
    present = codes[codes >= 0]
    if not column.texts:
        return "free text"
    counts = np.bincount(present, minlength=len(column.texts))
    distinct = int((counts > 0).sum())
    if distinct > max_categories and 2 * distinct > len(present):
        return "free text"
    if distinct == 1 and len(present) == len(codes):
        return "constant"
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], column.texts[code]))
    categories: list[str | None] = [*sorted(column.texts[code] for code in order[:max_categories])]
    return {
        "name": column.name,
        "form": "category",
        "categories": [*categories, OTHER] if distinct > max_categories else categories,
        "missing": bool(len(present) < len(codes)),
    }


def dense_parts(form: str, values: Array) -> Array:
    """The numbers that stand for a column, (N, P): itself, or for a date the days and where in the year and the week
    it lies, as points on circles."""
    if form in ("number", "boolean"):
        return values[:, None]
    year, week = 2 * np.pi * values / 365.2425, 2 * np.pi * values / 7
    return np.stack([values, np.sin(year), np.cos(year), np.sin(week), np.cos(week)], axis=1)


class TableEncoding:
    """The encodings of all columns together, and the layout of the features that they give.

    Rows are kept as dense numbers, (N, D) float32 with NaN where a value is missing, and as positions of the ones among
    the one-hot features, (N, C) int16 or int32; ``one_hot_width`` stands for a text that no training row has.
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]]):
        self.columns = list(columns)
        self.dense = [column for column in self.columns if column["form"] != "category"]
        self.categorical = [column for column in self.columns if column["form"] == "category"]
        self.dense_width = sum(len(column["means"]) for column in self.dense)
        self.indicators: list[int] = []  # positions of dense numbers that have an indicator
        position = 0
        for column in self.dense:
            if column["indicator"]:
                self.indicators.append(position)
            position += len(column["means"])
        self.offsets: list[int] = []  # of each category column among the one-hot features
        self.one_hot_width = 0
        self.lookups: list[dict[str | None, int]] = []
        for column in self.categorical:
            self.offsets.append(self.one_hot_width)
            self.lookups.append({text: number for number, text in enumerate(column["categories"])})
            self.one_hot_width += len(column["categories"]) + column["missing"]

    @property
    def num_features(self) -> int:
        """F: dense numbers, their indicators, one-hot features."""
        return self.dense_width + len(self.indicators) + self.one_hot_width

    def encode(self, columns: Mapping[str, Column]) -> tuple[Array, Array]:
        """Dense numbers (N, D) and one-hot positions (N, C) of the rows of a training table."""
        count = len(next(iter(columns.values())).values)
        dense, positions = self._empty(count)
        at = 0
        for column in self.dense:
            at = self._put(dense, at, column, columns[column["name"]].values)
        for number, column in enumerate(self.categorical):
            read = columns[column["name"]]
            # one position per distinct text, then one gather; the last entry is for -1, a missing value
            table = [self._position(number, text) for text in read.texts]
            table.append(self._position_of_missing(number))
            positions[:, number] = np.array(table, dtype=positions.dtype)[read.values]
        return dense, positions

    def encode_texts(
        self, texts: Mapping[str, Sequence[str]], decimal_comma: bool, strange: Counter[str], missing: frozenset[str]
    ) -> tuple[Array, Array]:
        """As ``encode``, from the fields of other rows; what the training rows never had is counted in ``strange``."""
        dense, positions = self._empty(len(next(iter(texts.values()))))
        at = 0
        for column in self.dense:
            values, unread = values_as(column["form"], texts[column["name"]], decimal_comma)
            strange[column["name"]] += len(unread)
            at = self._put(dense, at, column, values)
        for number, column in enumerate(self.categorical):
            for row, text in enumerate(map(str.strip, texts[column["name"]])):
                if text.lower() in missing:
                    positions[row, number] = self._position_of_missing(number)
                    continue
                known = text in self.lookups[number]
                strange[column["name"]] += not known and OTHER not in self.lookups[number]
                positions[row, number] = self._position(number, text)
        return dense, positions

    def _empty(self, count: int) -> tuple[Array, Array]:
        dtype = np.int16 if self.one_hot_width < 2**15 else np.int32
        return np.empty((count, self.dense_width), np.float32), np.empty((count, len(self.categorical)), dtype)

    def _put(self, dense: Array, at: int, column: Mapping[str, Any], values: Array) -> int:
        parts = (dense_parts(column["form"], values) - column["means"]) / column["deviations"]
        dense[:, at : at + parts.shape[1]] = parts
        return at + int(parts.shape[1])

    def _position(self, number: int, text: str) -> int:
        found = self.lookups[number].get(text, self.lookups[number].get(OTHER))
        return self.one_hot_width if found is None else self.offsets[number] + found

    def _position_of_missing(self, number: int) -> int:
        column = self.categorical[number]
        return self.offsets[number] + len(column["categories"]) if column["missing"] else self.one_hot_width
