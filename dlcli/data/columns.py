"""The columns of a table: what kind each is, and its values as compact arrays instead of texts. Torch-free.

Kinds: "number"; "boolean" (true/false, yes/no, t/f, y/n); "date" (days since 1970); "category" (any other text).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from dlcli.data.delimited import MISSING, Table, read_rows

Kind = Literal["number", "boolean", "date", "category"]
FORMS = ("number", "boolean", "iso", "day/month", "month/day", "category")
"""How the texts of a column are read, in the order of guessing; three of them are dates."""
Array = np.ndarray[Any, Any]

MAX_DISTINCT = 100_000  # texts of a category column; beyond it is free text
_TRUTH = {"true": 1.0, "yes": 1.0, "t": 1.0, "y": 1.0, "false": 0.0, "no": 0.0, "f": 0.0, "n": 0.0}
_DAY_FIRST = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Column:
    """One column as it was read.

    form: one of FORMS.
    values: (rows,) float64 with NaN for missing ones; of a category column int32 positions in ``texts``, -1 if missing.
    texts: the distinct texts of a category column in the order of their first appearance; empty if it is free text.
    """

    name: str
    form: str
    values: Array
    texts: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What the values are."""
        return self.form if self.form in ("number", "boolean", "category") else "date"  # type: ignore[return-value]

    @property
    def missing(self) -> Array:
        """Which rows have no value, (rows,) bool."""
        return self.values < 0 if self.kind == "category" else np.isnan(self.values)


def read_columns(
    table: Table, wanted: Sequence[str] | None = None, *, as_category: Iterable[str] = (), plain: Iterable[str] = ()
) -> tuple[list[Column], Array]:
    """The columns of a table, and the line in the file of each row, (rows,) int64.

    A kind is guessed from the first rows that have a value. The rare file in which later rows contradict a guess is
    read once more, with that column as dates of another order or as categories.

    Args:
        table: the file.
        wanted: names of columns; None for all.
        as_category: columns that are categories whatever they look like.
        plain: columns that are numbers or categories only, such as a target.
    """
    names = list(table.names) if wanted is None else list(wanted)
    positions = [table.names.index(name) for name in names]
    readers = [ColumnReader(name, table.decimal_comma, plain=name in set(plain)) for name in names]
    for reader in readers:
        if reader.name in set(as_category):
            reader.guesses = ["category"]
    while True:
        lines = []
        for reader in readers:
            reader.rewind()
        for chunk in read_rows(table, positions):
            lines.append(np.array(chunk.lines, dtype=np.int64))
            for reader, texts in zip(readers, chunk.columns, strict=True):
                reader.add(texts)
        if not any(reader.contradicted for reader in readers):
            break
    return [reader.column() for reader in readers], np.concatenate(lines)


class ColumnReader:
    """Collects a column chunk by chunk. ``contradicted``: its guess was wrong; rewind and read all chunks again."""

    def __init__(self, name: str, decimal_comma: bool, *, plain: bool = False):
        self.name = name
        self.decimal_comma = decimal_comma
        self.guesses = ["number", "category"] if plain else list(FORMS)
        self.rewind()

    def rewind(self) -> None:
        """Forget the rows; keep what was learned about the kind."""
        self.pieces: list[Array | int] = []  # a number: so many rows without a value before the kind was known
        self.codes = _Codes()
        self.decided = False
        self.contradicted = False
        self.dates: dict[str, float] = {}

    def add(self, texts: Sequence[str]) -> None:
        """Append the fields of consecutive rows."""
        if self.contradicted:
            return
        if not self.decided and all(map(_missing, texts)):
            self.pieces.append(len(texts))
            return
        while (piece := self._encode(texts)) is None:
            self.guesses.pop(0)
            self.contradicted = self.decided
        self.decided = True
        self.pieces.append(piece)

    def column(self) -> Column:
        """What was read."""
        form = self.guesses[0] if self.decided else "number"
        blank, dtype = (-1, np.int32) if form == "category" else (np.nan, np.float64)
        pieces = [np.full(piece, blank, dtype) if isinstance(piece, int) else piece for piece in self.pieces]
        return Column(self.name, form, np.concatenate(pieces), self.codes.texts())

    def _encode(self, texts: Sequence[str]) -> Array | None:
        """The values of a chunk as the current guess reads them; None if it cannot."""
        guess = self.guesses[0]
        if guess == "number":
            return numbers(texts, self.decimal_comma)
        if guess == "boolean":
            return _floats(texts, lambda text: _TRUTH.get(text.lower()))
        if guess == "category":
            return np.fromiter(map(self.codes.__getitem__, map(str.strip, texts)), np.int32, len(texts))
        return _floats(texts, lambda text: self._date(text, guess))

    def _date(self, text: str, order: str) -> float | None:
        if text not in self.dates:
            if len(self.dates) > MAX_DISTINCT:
                self.dates.clear()
            days = days_since_1970(text, order)
            if days is None:
                return None
            self.dates[text] = days
        return self.dates[text]


class _Codes(dict[str, int]):
    """Text -> its number in the order of first appearance; -1 for what stands for no value."""

    def __init__(self) -> None:
        self.count = 0

    def __missing__(self, text: str) -> int:
        if text.lower() in MISSING:
            self[text] = -1
            return -1
        self.count += 1
        if self.count <= MAX_DISTINCT:
            self[text] = self.count - 1
        return min(self.count - 1, MAX_DISTINCT)

    def texts(self) -> list[str]:
        """The texts by number; none if there are too many."""
        return [text for text, code in self.items() if code >= 0] if self.count <= MAX_DISTINCT else []


def numbers(texts: Sequence[str], decimal_comma: bool = False) -> Array | None:
    """Texts -> float64, NaN for missing or infinite ones; None if one is no number."""
    if decimal_comma:
        texts = [text.replace(",", ".") for text in texts]
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        try:
            cleaned = ("nan" if text.strip().lower() in MISSING else text for text in texts)
            values = np.fromiter(map(float, cleaned), np.float64, len(texts))
        except ValueError:
            return None
    if any("_" in text for text in texts):  # Python reads 1_000 as a number
        return None
    values[np.isinf(values)] = np.nan
    return values


def days_since_1970(text: str, order: str) -> float | None:
    """A date, with or without a time of day, in days; None if it is none. Times without a zone count as UTC.

    Args:
        text: such as 2024-02-29 or 2024-02-29T12:30 (order "iso"), 29.02.2024 or 29/02/2024 12:30 ("day/month").
        order: "iso", "day/month" or "month/day".
    """
    try:
        if order == "iso":
            if len(text) < 8:
                return None
            moment = datetime.fromisoformat(text.replace("/", "-"))
        else:
            match = _DAY_FIRST.fullmatch(text)
            if match is None:
                return None
            first, second, year, hour, minute, seconds = (int(group or 0) for group in match.groups())
            day, month = (first, second) if order == "day/month" else (second, first)
            moment = datetime(year, month, day, hour, minute, seconds)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH).total_seconds() / 86_400


def _floats(texts: Sequence[str], read: Callable[[str], float | None]) -> Array | None:
    values = np.full(len(texts), np.nan)
    for number, text in enumerate(texts):
        text = text.strip()
        if text.lower() in MISSING:
            continue
        value = read(text)
        if value is None:
            return None
        values[number] = value
    return values


def _missing(text: str) -> bool:
    return text.strip().lower() in MISSING


def values_as(form: str, texts: Sequence[str], decimal_comma: bool) -> tuple[Array, list[str]]:
    """Fields of a column whose form is known (not "category") -> float64, NaN for missing ones and for those that do
    not have this form; these are returned as well."""
    if form == "number" and (values := numbers(texts, decimal_comma)) is not None:
        return values, []
    values, strange = np.full(len(texts), np.nan), []
    for number, text in enumerate(map(str.strip, texts)):
        if text.lower() in MISSING:
            continue
        value = _value(form, text, decimal_comma)
        if value is None:
            strange.append(text)
        else:
            values[number] = value
    return values, strange


def _value(form: str, text: str, decimal_comma: bool) -> float | None:
    if form == "number":
        found = numbers([text], decimal_comma)
        return None if found is None else float(found[0])
    return _TRUTH.get(text.lower()) if form == "boolean" else days_since_1970(text, form)
