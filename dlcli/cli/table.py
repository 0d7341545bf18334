"""Aligned plain tables for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, right: Sequence[int] = (), cut: bool = True
) -> str:
    """Columns separated by two spaces.

    Args:
        rows: the cells, equally many in each row.
        header: the first line.
        right: indices of the columns that are aligned on the right, such as numbers.
        cut: on a terminal, cut lines at its width.
    """
    lines = [header, *rows] if header else list(rows)
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    limit = shutil.get_terminal_size().columns if cut and sys.stdout.isatty() else None
    return "\n".join(_cut(_line(line, widths, right), limit) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _cut(line: str, limit: int | None) -> str:
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"
