"""Experiments: the recipes of the books' systems, and what their headers say in words that a program can read.

The comment lines at the top of ``configs/experiment/**.yaml``, after ``# @package _global_``::

    # One line that says what it is
    # Source: DLFS chapter 4 (04_extensions)
    # Command: dlcli train experiment=dlfs/mnist_softmax_tanh
    # Reported: test/accuracy 0.9101
    # Tolerance: 0.01
    # Minutes: 1
    # Expect: 91 %, as in the book

``Reported`` may repeat, and says ``none`` for a system without a number. A metric is named as in ``summary.json``;
``val/loss@20`` is its value at step 20 of ``metrics.jsonl``, ``val/loss@last`` the last one. ``Tolerance`` is absolute,
for all metrics, or for one if the line names it (``Tolerance: test/rmse 0.05``). ``Minutes`` are those of one run on
two cores. ``Needs: gpu``: nobody would wait for it without one. ``Exact: true``: the same for every seed.
``Sweep: data.fold=range(5)``: a seed's number is the mean over these jobs. ``Better because:`` why ours is better than
the book's. A line that begins with no key goes on with the text of the line before.

Imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.errors import ConfigError

KEYS = ("Source", "Command", "Reported", "Tolerance", "Minutes", "Needs", "Exact", "Sweep", "Better because", "Expect")
BOOKS = ("d2l", "DLFS", "GDL")

_KEY = re.compile(r"([A-Za-z]+(?: because)?):\s*(.*)")
_METRIC = r"[a-z]+/\w+(?:@(?:\d+|last))?"
_SWEEP = r"[a-z][\w.]*=(?:range|choice)\([^()\s]+\)"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass
class Experiment:
    """One recipe, and what its header says."""

    name: str
    file: Path
    description: str = ""
    source: str = ""
    command: str = ""
    reported: dict[str, float] = field(default_factory=dict)  # the books' numbers by metric
    tolerances: dict[str, float] = field(default_factory=dict)  # by metric; "" is for all others
    minutes: float | None = None
    needs_gpu: bool = False
    exact: bool = False
    sweep: str = ""  # an option with several values; a seed's number is the mean over them
    better_because: str = ""
    expect: str = ""

    @property
    def book(self) -> str:
        """The first book that the source names; empty if it names none."""
        return self._where()[0]

    @property
    def section(self) -> str:
        """Where in that book, in words; the whole source if it names no book."""
        return self._where()[1]

    def tolerance(self, metric: str) -> float:
        """How far from the reported value still counts as the same: a point for shares, else 1 % of the value."""
        if metric in self.tolerances or "" in self.tolerances:
            return self.tolerances.get(metric, self.tolerances.get("", 0.0))
        return 0.01 if "accuracy" in metric else 0.01 * abs(self.reported[metric])

    def summary(self) -> str:
        """The reported numbers, the minutes and whether it needs a GPU, in a few words."""
        parts = [f"{metric} {value:g}" for metric, value in self.reported.items()]
        parts += [f"{self.minutes:g} min"] if self.minutes is not None else []
        return ", ".join([*parts, *(["gpu"] if self.needs_gpu else [])])

    def to_json(self) -> dict[str, Any]:
        """What the header says beside description and source, as plain values."""
        return {
            "reported": self.reported,
            "minutes": self.minutes,
            "needs_gpu": self.needs_gpu,
            "exact": self.exact,
            "sweep": self.sweep or None,
            "better_because": self.better_because or None,
            "expect": self.expect or None,
        }

    def _where(self) -> tuple[str, str]:
        for part in self.source.split(";"):
            book, _, section = part.strip().partition(" ")
            if book in BOOKS:
                return book, section.strip()
        return "", self.source


def read(entry: catalogue.Entry) -> Experiment:
    """What the header of an experiment's file says.

    Raises:
        ConfigError: lines that are not of the form above, all at once.
    """
    found = Experiment(entry.name, entry.file, entry.description)
    problems: list[str] = []
    pairs = _pairs(catalogue.header(entry.file)[1:], problems)
    for key, text in pairs:
        problem = _enter(found, key, text)
        if problem:
            problems.append(f"'{key}: {text}': {problem}")
    keys = [key for key, _ in pairs]
    problems += [f"'{key}' stands there twice" for key in KEYS if keys.count(key) > 1 and key not in _REPEATING]
    if found.reported and "none" in [text for key, text in pairs if key == "Reported"]:
        problems.append("'Reported: none' beside a number")
    unknown = sorted(set(found.tolerances) - set(found.reported) - {""})
    problems += [f"'Tolerance: {metric} …': no such metric is reported" for metric in unknown]
    if problems:
        raise ConfigError([f"{entry.file}: {problem}" for problem in problems])
    return found


def read_all(directories: Iterable[Path] = ()) -> dict[str, Experiment]:
    """Every experiment by name, those of ``directories`` before ours.

    Raises:
        ConfigError: malformed headers.
    """
    return {name: read(entry) for name, entry in catalogue.entries("experiment", directories).items()}


_REPEATING = ("Reported", "Tolerance")


def _pairs(lines: list[str], problems: list[str]) -> list[tuple[str, str]]:
    """Keys and texts; lines that go on are joined to the one before."""
    pairs: list[tuple[str, str]] = []
    for line in lines:
        match = _KEY.match(line)
        if match and match[1] in KEYS:
            pairs.append((match[1], match[2].strip()))
        elif match and (near := difflib.get_close_matches(match[1].capitalize(), KEYS, n=1, cutoff=0.75)):
            problems.append(f"'{line}': did you mean '{near[0]}:'?")
        elif pairs and line:
            pairs[-1] = pairs[-1][0], f"{pairs[-1][1]} {line}".strip()
    return pairs


def _enter(found: Experiment, key: str, text: str) -> str | None:
    """Enter one line. Returns what is wrong with it."""
    if key == "Source":
        found.source = text
    elif key == "Command":
        found.command = text
    elif key == "Better because":
        found.better_because = text
    elif key == "Expect":
        found.expect = text
    elif key == "Reported":
        match = re.fullmatch(rf"({_METRIC})\s+({_NUMBER})", text)
        if match is None:
            return None if text == "none" else "expected a metric and a number, such as 'test/accuracy 0.91', or 'none'"
        if match[1] in found.reported:
            return f"{match[1]} is reported twice"
        found.reported[match[1]] = float(match[2])
    elif key == "Tolerance":
        match = re.fullmatch(rf"(?:({_METRIC})\s+)?({_NUMBER})", text)
        if match is None or float(match[2]) < 0:
            return "expected a number, or a metric and a number, such as 'test/rmse 0.05'"
        found.tolerances[match[1] or ""] = float(match[2])
    elif key == "Minutes":
        if not re.fullmatch(_NUMBER, text) or float(text) <= 0:
            return "expected a number of minutes"
        found.minutes = float(text)
    elif key == "Needs":
        found.needs_gpu = text == "gpu"
        return None if found.needs_gpu else "expected 'gpu'"
    elif key == "Sweep":
        found.sweep = text
        if not re.fullmatch(_SWEEP, text) or text.startswith("seed="):
            return "expected an option other than seed and its values, such as 'data.fold=range(5)'"
    elif key == "Exact":
        found.exact = text == "true"
        return None if text in ("true", "false") else "expected 'true' or 'false'"
    return None
