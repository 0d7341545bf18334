"""Rows of a table for a trained model: columns found by name, encoded as the run encoded its training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcli.data.base import PredictionInputs, TableBatch
from dlcli.data.delimited import MISSING, Chunk, Table, open_table, read_rows
from dlcli.data.table_encoding import OTHER, TableEncoding
from dlcli.errors import DataError, counted

BATCH_ROWS = 2000


class PredictionRows(PredictionInputs):
    """Iterates over (identities, TableBatch of features without targets). Knows its ``notes`` afterwards.

    A row is known by its number from 1, or by what it has in the run's column ``identity``.

    Raises:
        DataError: no table, or a column is missing that the run learned from.
    """

    def __init__(self, path: Path, preprocessing: Mapping[str, Any]):
        self.encoding = TableEncoding(preprocessing["columns"])
        self.table = open_like(path, preprocessing)
        column = preprocessing.get("identity")
        if column is not None and column not in self.table.names:
            raise DataError(f"{path}:1: lacks the column {column}, which names the rows")
        self.identity = column or "row"
        self.naming = [] if column is None else [self.table.names.index(column)]
        self.submitted = preprocessing["target"] if preprocessing.get("submission") else None
        self.strange: Counter[str] = Counter()
        known = {*preprocessing["names"], preprocessing["target"]}
        self.extra = [name for name in self.table.names if name not in known]

    def __iter__(self) -> Iterator[tuple[list[str], TableBatch]]:
        indicators = torch.tensor(self.encoding.indicators, dtype=torch.int64)
        done = 0
        for chunk in read_rows(self.table, [*positions_of(self.table, self.encoding), *self.naming]):
            dense, positions = encode_chunk(self.table, self.encoding, chunk, self.strange)
            for start in range(0, len(dense), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                features = expand(dense[part], positions[part], indicators, self.encoding.one_hot_width)
                first = done + start + 1
                numbers = [str(first + row) for row in range(len(features))]
                names = list(chunk.columns[-1][part]) if self.naming else numbers
                yield names, TableBatch(features, torch.empty(0))
            done += len(dense)

    def written(self, predicted: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """All columns; for a competition the class or the number alone, under the target's name."""
        if self.submitted is None:
            return predicted
        return {self.submitted: predicted.get("label", predicted["prediction"])}

    @property
    def notes(self) -> dict[str, str]:
        """What people should know about the rows that have been read."""
        notes = {"table": self.table.facts.note} if self.table.facts.note else {}
        if self.extra:
            notes["extra columns"] = f"columns that the run does not know were ignored: {', '.join(self.extra[:10])}"
        strange = strange_notes(self.encoding, self.strange)
        return notes | {f"column {name}": note for name, note in strange.items()}


def open_like(path: Path, preprocessing: Mapping[str, Any]) -> Table:
    """The table in a file, with the columns that the run learned from.

    Raises:
        DataError: no table, or without some of these columns.
    """
    needed = [column["name"] for column in preprocessing["columns"]]
    header = preprocessing["header"]
    missing: list[str] = []
    for delimiter in (preprocessing["delimiter"], "auto"):
        table = open_table(path, delimiter=delimiter, header=header, encoding="auto")
        if not header:
            table = _positional(table, preprocessing)
        elsewhere = [name for name in needed if name not in table.names]
        if not elsewhere:
            return table
        missing = missing if missing and len(missing) <= len(elsewhere) else elsewhere
    names = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
    noun = "column" if len(missing) == 1 else "columns"
    raise DataError(f"{path}:1: lacks the {noun} {names}, which the run learned from")


def _positional(table: Table, preprocessing: Mapping[str, Any]) -> Table:
    """A table without a header: the columns of the training file in their order, with or without the target."""
    names = preprocessing["names"]
    for candidate in (names, [name for name in names if name != preprocessing["target"]]):
        if len(candidate) == len(table.names):
            return Table(table.path, table.facts, table.delimiter, False, tuple(candidate), table.decimal_comma)
    return table


def positions_of(table: Table, encoding: TableEncoding) -> list[int]:
    """Where the encoded columns stand in the table."""
    return [table.names.index(column["name"]) for column in encoding.columns]


def encode_chunk(table: Table, encoding: TableEncoding, chunk: Chunk, strange: Counter[str]) -> tuple[Tensor, Tensor]:
    """Dense numbers (N, D) and one-hot positions (N, C) of a chunk that holds the encoded columns first."""
    texts = {column["name"]: fields for column, fields in zip(encoding.columns, chunk.columns, strict=False)}
    dense, positions = encoding.encode_texts(texts, table.decimal_comma, strange, MISSING)
    return torch.from_numpy(dense), torch.from_numpy(positions)


def strange_notes(encoding: TableEncoding, strange: Mapping[str, int]) -> dict[str, str]:
    """One line for each column with values that the training rows did not have, by the column's name."""
    notes = {}
    for column in encoding.columns:
        count = strange.get(column["name"], 0)
        if not count:
            continue
        values = f"'{column['name']}': {counted(count, 'value')}"
        if column["form"] != "category":
            kind = column["form"] if column["form"] in ("number", "boolean") else "date"
            note = f"{values} unreadable as a {kind}, taken as missing"
        elif OTHER in column["categories"]:
            note = f"{values} outside its {len(column['categories']) - 1} frequent categories, taken as one"
        else:
            note = f"{values} of categories unseen in training, taken as none of them"
        notes[column["name"]] = note
    return notes


def expand(dense: Tensor, positions: Tensor, indicators: Tensor, one_hot_width: int) -> Tensor:
    """Features (B, F): dense numbers with 0 (the mean) for missing ones, their indicators, one-hot features.

    Args:
        dense: (B, D) float32, NaN where a value is missing.
        positions: (B, C) of the ones among the one-hot features; ``one_hot_width`` for none.
        indicators: positions of the dense numbers that have an indicator, int64.
        one_hot_width: how many one-hot features there are.
    """
    parts = [dense.nan_to_num(nan=0.0)]
    if len(indicators):
        parts.append(dense.index_select(1, indicators).isnan().to(dense.dtype))
    if one_hot_width:
        ones = dense.new_zeros(len(dense), one_hot_width + 1)
        parts.append(ones.scatter_(1, positions.long(), 1.0)[:, :one_hot_width])
    return torch.cat(parts, 1)
