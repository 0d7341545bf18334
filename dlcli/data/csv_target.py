"""The target column of a person's own table: numbers to predict, or classes. Torch-free, for the check of options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dlcli.data.columns import Array, Column, read_columns
from dlcli.data.delimited import Table, open_table
from dlcli.data.download import located
from dlcli.errors import DataError, suggestion
from dlcli.hyperparameters import PUBLISHED
from dlcli.inspection import Inspection

MAX_CLASSES = 1000
FEW = 20  # whole numbers with at most so many different values are classes, unless the table has few rows for each
MIN_ROWS = 20
SMALL = 5000  # rows up to which many epochs are worth while
TASKS = {"number": "regression", "class": "classification"}


class Target(NamedTuple):
    """values: (N,) float64 numbers, or int64 classes, whose names in the file are ``label_names``."""

    type: Literal["number", "class"]
    values: Array
    label_names: list[str]


def inspect(data: Mapping[str, Any], requires: tuple[str, ...]) -> Inspection:
    """The task that the target column asks for, and the trainer that the number of rows asks for.

    Published data are fetched to be looked at only if their kind of target is not given.

    Args:
        data: the options of ``data=csv``.
        requires: sizes that the task needs, if somebody has named one; its kind of target is then taken.

    Raises:
        DataError: the file is no table, or its target cannot be learned.
        ConfigError: no such published data.
    """
    if data["path"].startswith(PUBLISHED) and data["target_type"] != "auto":
        return Inspection({"task": TASKS[data["target_type"]]}, {})
    table = open_own_table({**data, "path": str(located(data["path"])[0])})
    column, lines = read_columns(table, [data["target"]], plain=[data["target"]])
    target_type = data["target_type"]
    if target_type == "auto" and "num_classes" in requires:
        target_type = "class"
    elif target_type == "auto" and "num_targets" in requires:
        target_type = "number"
    target = target_of(column[0], lines, table.path, target_type)
    trainer = "minibatch_small_data" if len(lines) <= SMALL else "minibatch"
    return Inspection({"task": TASKS[target.type], "trainer": trainer}, {"target_type": target.type})


def open_own_table(data: Mapping[str, Any]) -> Table:
    """The table that the options name, which has the target column.

    Raises:
        DataError: no table, or no such column.
    """
    header = {"true": True, "false": False}.get(str(data["header"]).lower(), "auto")
    table = open_table(
        Path(data["path"]).expanduser(),
        delimiter=data["delimiter"],
        header=header,
        encoding=data["encoding"],
        target=data["target"],
    )
    require_columns(table, [data["target"]], "target")
    return table


def require_columns(table: Table, names: list[str], option: str) -> None:
    """Raises DataError for the first name that is no column of the table."""
    for name in names:
        if name not in table.names:
            known = table.names if len(table.names) <= 50 else [*table.names[:50], "…"]
            hint = "" if table.header else " (the file has no header, so its columns are named c0, c1, …)"
            raise DataError(f"{table.path}: data.{option}={name}: no such column{hint}; {suggestion(name, known)}")


def target_of(column: Column, lines: Array, path: Path, target_type: str) -> Target:
    """The target as numbers or as classes.

    Args:
        column: as it was read.
        lines: of the file, for each row.
        path: for messages.
        target_type: "number", "class", or "auto": texts are classes, and so are whole numbers with few values.

    Raises:
        DataError: too few rows, values that are missing, all the same, or neither numbers nor classes.
    """
    name, rows = column.name, len(lines)
    if rows < MIN_ROWS:
        raise DataError(f"{path}: {rows} rows; to train, validate and test, a table needs at least {MIN_ROWS}")
    missing = column.missing
    if missing.any():
        raise DataError(
            f"{path}:{lines[missing.argmax()]}: the target '{name}' has no value here (in {int(missing.sum()):,} of "
            f"{rows:,} rows); leave such rows out of the file"
        )
    if column.kind == "category" and not column.texts:
        raise DataError(f"{path}: the target '{name}' is free text: neither numbers nor classes; name another column")
    distinct = np.unique(column.values)
    if len(distinct) == 1:
        value = column.texts[0] if column.kind == "category" else f"{distinct[0]:g}"
        raise DataError(f"{path}: the target '{name}' is '{value}' in all {rows:,} rows; there is nothing to predict")
    if column.kind == "category":
        return _text_classes(column, rows, path, target_type)
    if target_type == "auto":
        whole = bool((distinct == np.round(distinct)).all())
        target_type = "class" if whole and len(distinct) <= max(2, min(FEW, rows // 5)) else "number"
    if target_type == "number":
        return Target("number", column.values, [])
    if len(distinct) > MAX_CLASSES:
        raise DataError(
            f"{path}: the target '{name}' has {len(distinct):,} different numbers, and at most {MAX_CLASSES:,} can be "
            "classes; predict it as a number with task=regression"
        )
    names = [str(int(value)) if value == int(value) else repr(float(value)) for value in distinct.tolist()]
    return Target("class", np.searchsorted(distinct, column.values), names)


def _text_classes(column: Column, rows: int, path: Path, target_type: str) -> Target:
    shown = f"'{column.texts[0][:40]}'"
    if target_type == "number":
        raise DataError(
            f"{path}: the target '{column.name}' has texts such as {shown}, not numbers; "
            "predict it as a class with task=classification"
        )
    if len(column.texts) > MAX_CLASSES or 2 * len(column.texts) > rows:
        raise DataError(
            f"{path}: the target '{column.name}' has {len(column.texts):,} different texts such as {shown} in {rows:,} "
            "rows: neither numbers nor classes; name another column"
        )
    order = np.argsort(np.array(column.texts, dtype=object), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Target("class", rank[column.values], [column.texts[code] for code in order])
