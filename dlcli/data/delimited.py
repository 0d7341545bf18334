"""Delimited text files (CSV and its relatives): what a file is, found out from its bytes, and its rows. Torch-free.

Out of scope here: what the columns mean (``columns``) and what is done with them (``csv_file``).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dlcli.errors import ConfigError, DataError, counted

MAX_LINE = 1 << 20  # bytes
MAX_COLUMNS = 10_000
CHUNK_ROWS = 10_000  # rows that are Python texts at one time
DELIMITERS = (",", ";", "\t", "|", " ")
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "null", "none"})  # in lower case
_BLOCK = 1 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_POINT, _COMMA = re.compile(r"[+-]?\d*\.\d+"), re.compile(r"[+-]?\d*,\d+")


class Facts(NamedTuple):
    """What the bytes of a file say. ``note`` tells people about an encoding that had to be guessed."""

    encoding: str
    sha256: str  # of the bytes as they lie there, compressed or not
    note: str | None


@dataclass(frozen=True)
class Table:
    """How a file is to be read: its columns' names (whether they stand in it or not), in their order."""

    path: Path
    facts: Facts
    delimiter: str
    header: bool
    names: tuple[str, ...]
    decimal_comma: bool


class Chunk(NamedTuple):
    """Some consecutive rows: for each column its texts, and for each row the line that it ends on."""

    columns: list[tuple[str, ...]]
    lines: list[int]


def open_table(path: Path, *, delimiter: str, header: str | bool, encoding: str, target: str | None = None) -> Table:
    """Find out how to read a file.

    Args:
        path: the file, as it is or compressed with gzip.
        delimiter, encoding: as given, or "auto".
        header: whether the first row names the columns, or "auto": if none of its fields is a number, or one of them is
            the ``target``.
        target: the name of a column that must be there.

    Raises:
        DataError: not a file, empty, binary, in an unknown encoding, with lines or fields beyond the limits.
        ConfigError: no such encoding, or a delimiter that is not one character.
    """
    facts = scan(path, encoding)
    if delimiter != "auto" and len(delimiter) != 1:
        raise ConfigError(f"data.delimiter={delimiter}: expected one character, or auto")
    sample = _first_lines(path, facts)
    if not sample:
        raise DataError(f"{path}: the file is empty; expected a table")
    if delimiter == "auto":
        delimiter = _sniff_delimiter(sample)
    rows = list(_parse(path, iter(sample), delimiter))
    first = [field.strip() for field in rows[0]]
    if len(first) > MAX_COLUMNS:
        raise DataError(f"{path}:1: {len(first):,} columns; at most {MAX_COLUMNS:,} can be read")
    if header == "auto":
        header = target in first or not any(_NUMBER.fullmatch(field) for field in first)
    decimal_comma = delimiter != "," and _has_decimal_commas(rows)
    return Table(path, facts, delimiter, bool(header), _names(path, first, bool(header)), decimal_comma)


def read_rows(table: Table, columns: Sequence[int] | None = None) -> Iterator[Chunk]:
    """The rows in chunks, the header left out, blank lines skipped. ``columns``: positions to keep; None for all.

    Raises:
        DataError: a row with another number of fields than the others, or no row at all.
    """
    width = len(table.names)
    chosen = list(range(width)) if columns is None else list(columns)
    rows: list[list[str]] = []
    lines: list[int] = []
    empty = True
    with _text(table.path, table.facts.encoding) as stream:
        for line, row in _numbered(table.path, stream, table.delimiter, skip=table.header):
            if len(row) != width:
                if not row or row == [""]:
                    continue
                raise DataError(
                    f"{table.path}:{line}: {counted(len(row), 'field')}, expected {width} as in the first row; "
                    "mend the line (a field that contains the delimiter needs quotes)"
                )
            rows.append(row)
            lines.append(line)
            if len(rows) == CHUNK_ROWS:
                yield _chunk(rows, lines, chosen)
                rows, lines, empty = [], [], False
    if rows:
        yield _chunk(rows, lines, chosen)
    elif empty:
        what = "a header and no rows" if table.header else "no rows"
        raise DataError(f"{table.path}: {what}; there is nothing to learn from")


def is_missing(text: str) -> bool:
    """Whether a field stands for no value."""
    return text.strip().lower() in MISSING


# ---------------------------------------------------------------------- bytes


def scan(path: Path, encoding: str = "auto") -> Facts:
    """Read all bytes once, in bounded memory: digest, encoding, and what makes a file no table.

    Raises:
        DataError: not a file, binary, not in the encoding, damaged, or with a line that is too long.
        ConfigError: no such encoding.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give data.path a table such as a .csv file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if path.is_dir():
        raise DataError(f"{path}: a folder; give data.path one file, a table such as a .csv file")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; give data.path a table such as a .csv file")
    if encoding != "auto":
        _check_encoding(encoding)
    return _scan(path, encoding, (status.st_size, status.st_mtime_ns, status.st_ino))


@lru_cache(maxsize=8)
def _scan(path: Path, encoding: str, _identity: tuple[int, ...]) -> Facts:
    """As ``scan``; a file that has not changed is not read again by the same process."""
    note = None
    if encoding == "auto":
        with _bytes(path) as stream:
            start = stream.read(4)
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
        _check_lines(path, wide=encoding == "utf-16")
        problem = _undecodable(path, encoding)
        if problem is not None and encoding == "utf-8" and _undecodable(path, "cp1252") is None:
            encoding, note = "cp1252", f"not UTF-8 ({problem}): read as Windows-1252; data.encoding=… names another"
        elif problem is not None:
            raise DataError(f"{path}: not {encoding} text: {problem}; name its encoding with data.encoding=…")
    else:
        _check_lines(path, wide=codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")))
        problem = _undecodable(path, encoding)
        if problem is not None:
            raise DataError(f"{path}: not in data.encoding={encoding}: {problem}")
    digest = hashlib.sha256()
    with _reading(path), path.open("rb") as raw:
        while block := raw.read(_BLOCK):
            digest.update(block)
    return Facts(encoding, digest.hexdigest(), note)


def _check_encoding(name: str) -> None:
    try:
        known = codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ConfigError(f"data.encoding={name}: not an encoding; for example utf-8, latin-1, utf-16, or auto")


def _undecodable(path: Path, encoding: str) -> str | None:
    """Where the bytes are not of this encoding, or None."""
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    with _bytes(path) as stream:
        while True:
            block = stream.read(_BLOCK)
            done += len(block)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                offset = done - len(error.object) + error.start
                return f"byte {offset:,} is 0x{error.object[error.start]:02x}"
            if not block:
                return None


def _check_lines(path: Path, *, wide: bool) -> None:
    """Refuse NUL bytes (unless characters are ``wide``) and lines that would fill the memory."""
    line, length, done = 1, 0, 0
    with _bytes(path) as stream:
        while block := stream.read(_BLOCK):
            if not wide and b"\0" in block:
                raise DataError(
                    f"{path}:{line + block.count(bytes([10]), 0, block.index(0))}: not text: "
                    f"byte {done + block.index(0):,} is NUL; give a table as text"
                )
            values = np.frombuffer(block, dtype=np.uint8)
            ends = np.flatnonzero((values == 10) | (values == 13))
            gaps = np.diff(ends, prepend=-1 - length) if len(ends) else np.array([length + len(block)])
            if gaps.max() > MAX_LINE:
                line += int((values[: ends[gaps.argmax()]] == 10).sum()) if len(ends) else 0
                raise DataError(f"{path}:{line}: a line of more than {MAX_LINE:,} bytes; this is not a table of rows")
            length = len(block) - 1 - int(ends[-1]) if len(ends) else length + len(block)
            line += int((values == 10).sum())
            done += len(block)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch or compress it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


@contextmanager
def _bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's content, decompressed if it is a gzip file."""
    with _reading(path), path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]


@contextmanager
def _text(path: Path, encoding: str) -> Iterator[io.TextIOBase]:
    with _bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
        yield stream


# ---------------------------------------------------------------------- rows


def _first_lines(path: Path, facts: Facts, most: int = 100) -> list[str]:
    """The first lines that are not blank; without a quoted field that goes on over the lines' end."""
    lines: list[str] = []
    with _text(path, facts.encoding) as stream:
        for line in stream:
            if line.strip() or lines:
                lines.append(line)
            if len(lines) == most:
                break
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _numbered(
    path: Path, lines: Iterator[str], delimiter: str, *, skip: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of the line that it ends on; ``skip``: without the first that is not blank."""
    if delimiter == " ":  # columns aligned with spaces
        lines = (line.strip(" \r\n") for line in lines)
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=False)
    try:
        for row in reader:
            if skip and row:
                skip = False
                continue
            yield reader.line_num, row
    except csv.Error as error:
        hint = "a field without an end: is a quote missing?" if "field larger" in str(error) else str(error)
        raise DataError(f"{path}:{reader.line_num}: {hint}") from None


def _parse(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    yield from (row for _, row in _numbered(path, lines, delimiter) if row)


def _sniff_delimiter(sample: list[str]) -> str:
    """The delimiter that gives most rows of the sample the same number of fields, more than one of them."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            counts = Counter(len(row) for row in _parse(Path(), iter(sample), delimiter))
        except DataError:
            continue
        width, rows = max(counts.items(), key=lambda item: (item[1], item[0]))
        score = (rows / sum(counts.values()), width)
        if delimiter == " " and best_score[0] > 0.5:
            continue  # texts have spaces: only if nothing else divides the lines
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    fields = [field.strip() for row in rows for field in row]
    commas = sum(1 for field in fields if _COMMA.fullmatch(field))
    return commas > sum(1 for field in fields if _POINT.fullmatch(field))


def _names(path: Path, first: list[str], header: bool) -> tuple[str, ...]:
    """The columns' names: those of the header (c0, c1, … for empty ones), or c0, c1, …"""
    names = [name if header and name else f"c{number}" for number, name in enumerate(first)]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{path}:1: two columns are named '{repeated}'; give each a name of its own")
    return tuple(names)


def _chunk(rows: list[list[str]], lines: list[int], columns: list[int]) -> Chunk:
    if columns == list(range(len(rows[0]))):
        return Chunk(list(zip(*rows, strict=True)), lines)
    return Chunk([tuple(row[column] for row in rows) for column in columns], lines)
