"""Rows of the suite: what is measured, against whom, and the goal; and what a row found."""

from __future__ import annotations

import copy
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Absent, Command, Local, Measured, Side, Worker, cores, paired, ratios

TERMINAL = sys.stderr.isatty()


class Goal(NamedTuple):
    """A bound on the median."""

    limit: float
    at_most: bool

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {number(self.limit)}"


def at_most(limit: float) -> Goal:
    return Goal(limit, True)


def at_least(limit: float) -> Goal:
    return Goal(limit, False)


@dataclass
class Finding:
    """One line of the table: a figure with its spread over the rounds, or the reason why there is none."""

    what: str
    values: list[float] = field(default_factory=list)
    unit: str = "×"
    goal: Goal | None = None
    ours: str = ""
    peer: str = ""
    absent: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal. What could not be measured is not met."""
        if self.goal is None:
            return None
        return bool(self.values) and self.goal.met(self.median)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        spread = {}
        if self.values:
            spread = {"min": min(self.values), "median": self.median, "max": max(self.values)}
        return {**asdict(self), "goal": str(self.goal) if self.goal else None, **spread, "met": self.met}


class Bench:
    """How much to measure, and where.

    Attributes:
        size: "full"; "quick", all rows in minutes; "smoke", only whether a row runs: one round, in this process,
            without peers that have to be installed.
        scratch: an empty folder, deleted afterwards.
        reference: a checkout of nanoGPT, or None for the reference loop of this suite.
    """

    def __init__(self, size: str, scratch: Path, rounds: int | None = None, reference: Path | None = None):
        self.size, self.scratch, self.reference = size, scratch, reference
        self.rounds = rounds
        self.began = time.monotonic()

    def pick(self, *, full: Any, quick: Any, smoke: Any) -> Any:
        """The value for the size of this run of the suite."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.size]

    def turns(self, *, full: int = 5, quick: int = 3) -> int:
        """How many rounds: as many as were asked for, else by the size."""
        return int(self.rounds or self.pick(full=full, quick=quick, smoke=1))

    def workers_of_loaders(self) -> tuple[int, ...]:
        """How many processes a DataLoader gets; none when processor time counts, which would leave theirs out."""
        return (0,) if os.environ.get("BENCH_CLOCK") == "cpu" else (0, 2)

    def folder(self) -> Path:
        """A new folder inside ``scratch``."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def command(self, *arguments: str, warm: bool = True) -> Side:
        """A whole Python process: ``python ARGUMENTS``. ``warm``: once before it counts."""
        return Command([sys.executable, *arguments], self.folder(), warm)

    def dlcli(self, *arguments: str, warm: bool = True) -> Side:
        return self.command("-m", "dlcli", *arguments, warm=warm)

    def worker(self, function: str, *, warm: bool = True, **arguments: Any) -> Side:
        """A block of work in a process of its own (here, when only trying out). ``warm``: once before it counts."""
        arguments["folder"] = str(self.folder())
        if self.size == "smoke":
            return Local(function, arguments)
        return Worker(function, arguments, self.scratch, warm)

    def twin(self, side: Side) -> Side:
        """The same side once more, for "A/A": in a full run another process, else the same one asked twice."""
        return copy.copy(side) if self.size == "full" else side

    def measure(self, sides: Mapping[str, Side], rounds: int | None = None) -> Measured:
        return paired(sides, rounds or self.turns(), self.say, starters=1 if self.size == "smoke" else cores())

    def say(self, text: str) -> None:
        """What is going on, for a person who waits: one line that is overwritten on a terminal."""
        if TERMINAL:
            sys.stderr.write(f"\r\033[K{time.monotonic() - self.began:6.0f} s  {text}"[:100])
            sys.stderr.flush()


@dataclass(frozen=True)
class Row:
    """A row of the table. ``measure(bench)`` returns its findings."""

    number: int
    name: str
    what: str
    measure: Callable[[Bench], list[Finding]]
    gpu: bool

    def run(self, bench: Bench) -> list[Finding]:
        """The findings; a failure is a finding too, so that the other rows go on."""
        try:
            return self.measure(bench)
        except Absent as absent:
            return [Finding(self.what, absent=str(absent))]
        except Exception as error:
            if bench.size == "smoke":
                raise
            return [Finding(self.what, absent=f"{type(error).__name__}: {error}".splitlines()[0])]


ENTERED: list[Row] = []


def row(number: int, name: str, what: str, *, gpu: bool = False) -> Callable[[Any], Any]:
    """Enter a function as a row."""

    def enter(measure: Callable[[Bench], list[Finding]]) -> Callable[[Bench], list[Finding]]:
        ENTERED.append(Row(number, name, what, measure, gpu))
        return measure

    return enter


def compared(
    measured: Measured,
    what: str,
    ours: str,
    peer: str,
    *,
    goal: Goal | None = None,
    faster: bool = False,
    figure: str = "seconds",
) -> Finding:
    """The ratio ours / peer of each round, or peer / ours ("times faster"), as a finding."""
    for side in (ours, peer):
        if side in measured.absent:
            return Finding(what, goal=goal, absent=f"{side}: {measured.absent[side]}")
    mine, theirs = measured.values(ours, figure), measured.values(peer, figure)
    values = ratios(theirs, mine) if faster else ratios(mine, theirs)
    return Finding(what, values, "×", goal, time_text(statistics.median(mine)), time_text(statistics.median(theirs)))


def compared_with_all(
    measured: Measured, ours: str, goals: Mapping[str, Goal | None], *, faster: bool = False
) -> list[Finding]:
    """A finding for each other side; ``goals`` says what is aimed at against whom."""
    names = [name for name in [*measured.rounds, *measured.absent] if name != ours]
    ordered = [*(name for name in goals if name in names), *(name for name in names if name not in goals)]
    word = "times faster than" if faster else "against"
    return [
        compared(measured, f"{ours} {word} {name}", ours, name, goal=goals.get(name), faster=faster) for name in ordered
    ]


def absolute(
    what: str, values: Sequence[float], unit: str, *, goal: Goal | None = None, ours: str = "", peer: str = ""
) -> Finding:
    """A figure with a unit instead of a ratio."""
    return Finding(what, list(values), unit, goal, ours, peer)


def number(value: float) -> str:
    """Three digits, as many decimals as they need, thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_text(seconds: float) -> str:
    """A time in a unit that fits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return f"{number(seconds * scale)} {unit}"
    raise AssertionError
