"""Aligned plain tables for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, right: Sequence[int] = ()) -> str:
    """Columns separated by two spaces; on a terminal, lines are cut at its width.

    Args:
        rows: the cells, equally many in each row.
        header: the first line.
        right: indices of the columns that are aligned on the right, such as numbers.
    """
    lines = [header, *rows] if header else list(rows)
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return "\n".join(
        _cut(
            "  ".join(
                cell.rjust(w) if i in right else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ),
            limit,
        )
        for line in lines
    )


def _cut(line: str, limit: int | None) -> str:
    line = line.rstrip()
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"
