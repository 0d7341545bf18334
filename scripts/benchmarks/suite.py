"""All rows, in their order."""

from __future__ import annotations

from benchmarks import loading, memory, precision, sampling, startup, sweep, texts, training
from benchmarks.rows import ENTERED

MODULES = (startup, training, loading, texts, precision, sampling, sweep, memory)
"""Importing them enters their rows."""
ROWS = tuple(sorted(ENTERED, key=lambda row: row.number))
