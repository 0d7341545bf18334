"""Your own table: one file of delimited text, of which one column is to be predicted from the others.

Source: standardisation and one-hot features d2l 5.7.2; cross-validation d2l 5.7.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dlcli.data import splits
from dlcli.data.base import TableBatch, TensorData
from dlcli.data.columns import Array, Column, read_columns
from dlcli.data.csv_prediction import (
    PredictionRows,
    encode_chunk,
    expand,
    open_like,
    positions_of,
    strange_notes,
)
from dlcli.data.csv_target import Target, open_own_table, require_columns, target_of
from dlcli.data.delimited import read_rows
from dlcli.data.download import located
from dlcli.data.table_encoding import TableEncoding, fit
from dlcli.errors import ConfigError, DataError
from dlcli.functional.target_scale import TargetScale
from dlcli.hyperparameters import Count, FilePath, Folds, Fraction, Natural, Probability
from dlcli.registry import DATA
from dlcli.spec import DataSpec

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLIT_NAMES |= {"test": "test", "testing": "test"}


@DATA.register("csv")
class CsvTable(TensorData):
    """Rows as dense numbers (N, D) float32, positions of the ones of one-hot features (N, C), and targets: (N, 1)
    float32 or (N,) int64. A batch holds features (B, F) float32; see ``table_encoding`` for their order.

    All statistics (means, deviations, categories, which columns are of use) are those of the training rows, or of all
    rows with ``standardize_by=all``; the target's mean and deviation are always the training rows'. The kinds
    of the columns and the names of the classes are those of the whole file.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs")
    provides_by: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {
        "target_type": {
            "number": ("num_targets",),
            "class": ("num_classes",),
            "auto": ("num_targets", "num_classes"),
        }
    }
    inspect: ClassVar[str] = "dlcli.data.csv_target:inspect"

    def __init__(
        self,
        *,
        path: FilePath,
        target: str,
        target_type: Literal["auto", "number", "class"],
        batch_size: Count,
        split: Literal["auto", "random", "stratified"],
        val_fraction: Fraction,
        test_fraction: Probability,
        split_seed: Natural,
        split_column: str | None,
        time_column: str | None,
        client_column: str | None,
        folds: Folds | None,
        fold: Natural,
        identity: str | None,
        submission: bool,
        ignore: list[str],
        categories: list[str],
        max_categories: Count,
        standardize_by: Literal["train", "all"],
        standardize_targets: bool,
        log_target: bool,
        delimiter: str,
        header: Literal["auto"] | bool,
        encoding: str,
    ):
        """
        Raises:
            DataError: the file is no table, or nothing can be learned from it.
            ConfigError: options that do not fit together, or that leave a part of the rows empty.
        """
        super().__init__(batch_size=batch_size)
        file, self.source = located(path)
        options = {"path": str(file), "target": target, "delimiter": delimiter, "header": header, "encoding": encoding}
        self.table = open_own_table(options)
        self.fingerprint = self.table.facts.sha256
        self.target_name = target
        self.target_type = target_type
        self.identity, self.submission = identity, submission
        if identity is not None:
            require_columns(self.table, [identity], "identity")
            ignore = [*ignore, identity]
        for option, names in (("ignore", ignore), ("categories", categories)):
            require_columns(self.table, names, option)
        named = {"split_column": split_column, "time_column": time_column, "client_column": client_column}
        for option, name in named.items():
            if name is not None:
                require_columns(self.table, [name], option)

        columns, lines, goal = self._read(
            {*(name for name in self.table.names if name not in ignore), target, *named.values()},
            {*categories, *(name for name in (split_column, client_column) if name is not None)},
        )
        if log_target:
            goal = _logarithms(goal, lines, self.table.path, target)
        if sum(option is not None for option in (folds, split_column, time_column)) > 1:
            raise ConfigError("data.folds, data.split_column and data.time_column exclude each other; give one")
        if split_column is not None:
            parts = _parts_by_column(columns[split_column], lines, self.table.path, val_fraction, split_seed)
        elif time_column is not None:
            parts = splits.chronological(
                _times(columns[time_column], lines, self.table.path), val_fraction, test_fraction
            )
        else:
            stratified = split == "stratified" or (split == "auto" and goal.type == "class")
            if stratified and goal.type == "number":
                raise ConfigError(f"data.split=stratified: the target '{target}' is a number and has no classes")
            order = (
                splits.stratified_order(goal.values, split_seed)
                if stratified
                else splits.random_order(len(lines), split_seed)
            )
            parts = splits.divide(order, val_fraction, test_fraction, folds, fold)
        features = [name for name in self.table.names if name not in {*ignore, target, split_column, client_column}]
        seen = parts["train"] if standardize_by == "train" else np.arange(len(lines))
        encodings = {name: fit(columns[name], seen, max_categories) for name in features}
        self._fit(encodings, parts["train"], goal, standardize_targets, log_target)
        self.goal, self.parts, self.splits = goal, parts, tuple(parts)
        if client_column is not None:
            owners = _owners(columns[client_column], lines, self.table.path)
            self.owners = torch.from_numpy(owners[parts["train"]]).long()
        dense, positions = self.encoding.encode(columns)
        self._store(torch.from_numpy(dense), torch.from_numpy(positions))
        self._describe(columns, goal)

    def _read(self, names: set[str | None], as_category: set[str]) -> tuple[dict[str, Column], Array, Target]:
        wanted = [name for name in self.table.names if name in names]
        read, lines = read_columns(self.table, wanted, as_category=as_category, plain=[self.target_name])
        columns = {column.name: column for column in read}
        return columns, lines, target_of(columns[self.target_name], lines, self.table.path, self.target_type)

    def _fit(
        self,
        fitted: dict[str, dict[str, Any] | str],
        train: Array,
        goal: Target,
        standardize_targets: bool,
        log_target: bool,
    ) -> None:
        """Keep the encodings of the columns that are of use; learn the target's scale and the sizes."""
        self.unused = {name: reason for name, reason in fitted.items() if isinstance(reason, str)}
        self.encoding = TableEncoding([encoding for encoding in fitted.values() if isinstance(encoding, dict)])
        if not self.encoding.num_features:
            raise DataError(
                f"{self.table.path}: no column to learn from beside the target '{self.target_name}'"
                + "".join(f"; '{name}' is {reason}" for name, reason in self.unused.items())
            )
        if goal.type == "class":
            self.label_names = goal.label_names
            sizes = {"num_outputs": len(goal.label_names), "num_classes": len(goal.label_names)}
        else:
            sizes = {"num_outputs": 1, "num_targets": 1}
            values = goal.values[train]
            if standardize_targets:
                self.target_scale = TargetScale(float(values.mean()), float(values.std()) or 1.0, log_target)
            elif log_target:
                self.target_scale = TargetScale(0.0, 1.0, log=True)
        self.spec = DataSpec(input_shape=(self.encoding.num_features,), **sizes)
        self.indicators = torch.tensor(self.encoding.indicators, dtype=torch.int64)

    def _store(self, dense: Tensor, positions: Tensor) -> None:
        """Keep the encoded rows of each part, and their targets."""
        targets = torch.from_numpy(self.goal.values)
        if self.goal.type == "number":
            mean, deviation, _ = self.target_scale or TargetScale(0.0, 1.0)
            targets = ((targets - mean) / deviation).float().unsqueeze(1)  # (N, 1)
        for name, part in self.parts.items():
            rows = torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64))
            self.tensors[name] = (dense[rows], positions[rows], targets[rows])

    def collate(self, *tensors: Tensor) -> TableBatch:
        dense, positions, targets = tensors
        return TableBatch(expand(dense, positions, self.indicators, self.encoding.one_hot_width), targets)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.indicators = self.indicators.to(device)

    def preprocessing(self) -> dict[str, Any]:
        """All that is needed to encode other rows as these."""
        return {
            "columns": self.encoding.columns,
            "names": list(self.table.names),
            "header": self.table.header,
            "delimiter": self.table.delimiter,
            "target": self.target_name,
            "identity": self.identity,
            "submission": self.submission,
            "label_names": list(self.label_names) if self.label_names else None,
            "target_scale": list(self.target_scale) if self.target_scale else None,
        }

    # ------------------------------------------------------------------ for people

    def _describe(self, columns: dict[str, Column], goal: Target) -> None:
        used = [columns[column["name"]] for column in self.encoding.columns]
        plurals = {"number": "numbers", "boolean": "booleans", "date": "dates", "category": "categories"}
        kinds = Counter(plurals[column.kind] for column in used)
        gaps = {column.name: int(column.missing.sum()) for column in used}
        gaps = {name: count for name, count in gaps.items() if count}
        self.summary = {
            "rows": ", ".join(f"{name} {len(tensors[0]):,}" for name, tensors in self.tensors.items()),
            "columns": ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            + f" -> {self.encoding.num_features:,} features",
        }
        if gaps:
            shown = [f"{name} {count:,}" for name, count in sorted(gaps.items(), key=lambda gap: -gap[1])]
            self.summary["missing"] = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        if goal.type == "class":
            counts = np.bincount(goal.values, minlength=len(goal.label_names)).tolist()
            shown = [f"{name} {count:,}" for name, count in zip(goal.label_names, counts, strict=True)]
            shares = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
            self.summary["target"] = f"{self.target_name}, {len(shown)} classes ({shares})"
        else:
            low, mean, high = goal.values.min(), goal.values.mean(), goal.values.max()
            self.summary["target"] = f"{self.target_name}, {low:.6g} to {high:.6g} (mean {mean:.6g})"
        notes = [self.table.facts.note] if self.table.facts.note else []
        for reason in dict.fromkeys(self.unused.values()):
            names = [name for name, why in self.unused.items() if why == reason]
            shown = names[:10] + ([f"and {len(names) - 10} more"] if len(names) > 10 else [])
            notes.append(f"not used, since {reason} in the training rows: {', '.join(shown)}")
        if goal.type == "class":
            trained = set(self.goal.values[self.parts["train"]].tolist())
            absent = [name for label, name in enumerate(goal.label_names) if label not in trained]
            if absent:
                notes.append(f"no training row has the class {', '.join(absent[:10])}")
        self.notes = tuple(notes)

    def describe(self) -> dict[str, str]:
        return {**self.summary, "source": self.source}

    # ------------------------------------------------------------------ other rows

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Encode this table as the run did that the preprocessing comes from, instead of by its own training rows.

        Raises:
            DataError: a column is missing, or a class is unknown to the run.
        """
        table = open_like(self.table.path, {**preprocessing, "header": self.table.header})
        encoding = TableEncoding(preprocessing["columns"])
        names = preprocessing["label_names"]
        if names is not None and names != self.label_names:
            raise DataError(
                f"{table.path}: its classes are {', '.join(self.label_names or ['numbers'])}; "
                f"those of the run are {', '.join(names)}"
            )
        strange: Counter[str] = Counter()
        chunks = read_rows(table, positions_of(table, encoding))
        encoded = [encode_chunk(table, encoding, chunk, strange) for chunk in chunks]
        self.encoding, self.indicators = encoding, torch.tensor(encoding.indicators, dtype=torch.int64)
        scale = preprocessing["target_scale"]
        self.target_scale = TargetScale(*scale) if scale else None
        self.notes = tuple(strange_notes(encoding, strange).values())
        self._store(torch.cat([dense for dense, _ in encoded]), torch.cat([positions for _, positions in encoded]))
        self.spec = DataSpec(**{**self.spec.defined(), "input_shape": (encoding.num_features,)})

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PredictionRows:
        """The rows of a table for a trained model, with notes about what is strange in them."""
        return PredictionRows(path, preprocessing)


def _logarithms(goal: Target, lines: Array, path: Path, name: str) -> Target:
    """The target with the logarithms of its values.

    Raises:
        ConfigError: a target of classes. DataError: a value that is not positive.
    """
    if goal.type == "class":
        raise ConfigError(f"data.log_target=true: the target '{name}' is a class and has no logarithm")
    wrong = goal.values <= 0
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}:{lines[row]}: the target '{name}' is {goal.values[row]:g}; a logarithm needs more than 0"
        )
    return goal._replace(values=np.log(goal.values))


def _parts_by_column(
    column: Column, lines: Array, path: Path, val_fraction: float, seed: int
) -> dict[str, splits.Indices]:
    """The rows by what a column says of them; without validation rows, some of the training rows validate.

    Raises:
        DataError: another word than train, val or test, or no training rows.
    """
    words = [SPLIT_NAMES.get(text.lower()) for text in column.texts]
    if not words or None in words or column.missing.any():
        wrong = column.missing | np.isin(column.values, [code for code, word in enumerate(words) if word is None])
        row = int(wrong.argmax())
        text = "nothing" if column.missing[row] or not words else f"'{column.texts[column.values[row]]}'"
        raise DataError(
            f"{path}:{lines[row]}: data.split_column={column.name} holds {text}; expected train, val or test"
        )
    parts = {
        name: np.flatnonzero(np.isin(column.values, [code for code, word in enumerate(words) if word == name]))
        for name in ("train", "val", "test")
    }
    if not len(parts["train"]):
        raise DataError(f"{path}: data.split_column={column.name} marks no row as train")
    if not len(parts["val"]):
        drawn = splits.cut(splits.random_order(len(parts["train"]), seed), val_fraction, 0.0)
        parts |= {name: parts["train"][rows] for name, rows in drawn.items()}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _times(column: Column, lines: Array, path: Path) -> Array:
    """The values to order rows by.

    Raises:
        DataError: the column holds texts, or has no value somewhere.
    """
    if column.kind not in ("date", "number"):
        raise DataError(
            f"{path}: data.time_column={column.name} holds neither dates nor numbers; write dates as 2024-02-29"
        )
    if column.missing.any():
        raise DataError(f"{path}:{lines[column.missing.argmax()]}: data.time_column={column.name} has no value here")
    return column.values


def _owners(column: Column, lines: Array, path: Path) -> Array:
    """A number for each different text of a column, by row.

    Raises:
        DataError: it has no text somewhere, or too many different ones to be names.
    """
    if not column.texts:
        raise DataError(f"{path}: data.client_column={column.name} holds too many different texts for names")
    if column.missing.any():
        raise DataError(f"{path}:{lines[column.missing.argmax()]}: data.client_column={column.name} names nobody here")
    return column.values
