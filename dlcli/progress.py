"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

BAR_INTERVAL = 0.1  # seconds between updates of the bar
PATIENCE = 1.0  # seconds that an evaluation may take before it is shown


class Progress:
    """Reports of one run. Writes to standard output."""

    def __init__(self, *, quiet: bool, unit: str, terminal: bool | None = None):
        self.quiet = quiet
        self.unit = unit
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self.total: int | None = None
        self._bar: Any = None
        self._task: Any = None
        self._reported = 0.0
        self._step = 0
        self._metric = ""  # the monitored one, at its latest evaluation

    def say(self, text: str) -> None:
        """One line for the person, above the bar if there is one."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def start(self, total: int | None, step: int) -> None:
        """Training begins at ``step`` of ``total`` (None if only time or patience ends it)."""
        self.total = total
        if self.quiet or not self.terminal:
            return
        self._bar = _bar(transient=False)
        self._task = self._bar.add_task("", total=total, completed=step, note="")
        self._bar.start()

    def advance(self, step: int) -> None:
        """A step is done."""
        self._step = step
        if self._bar is not None:
            now = time.perf_counter()
            if now - self._reported >= BAR_INTERVAL:
                self._reported = now
                self._bar.update(self._task, completed=step)

    def report(self, step: int, epoch: int, values: Mapping[str, float], rate: float | None) -> None:
        """Values were logged, in epoch ``epoch`` (counted from 1)."""
        parts = [f"epoch {epoch}"]
        for name, value in values.items():
            if name == "train/loss" or name.endswith("_loss"):
                parts.append(f"{name.removeprefix('train/').replace('_', ' ')} {value:.4f}")
        if self._metric:
            parts.append(self._metric)
        if rate is not None:
            parts.append(f"{rate:,.0f} {self.unit}/s")
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note="  ".join(parts))
        elif not self.quiet:
            print(f"step {step}/{self.total or '?'}  {'  '.join(parts)}", flush=True)

    def evaluated(self, step: int, split: str, values: Mapping[str, float], monitored: str) -> None:
        """A split was measured; ``monitored`` is the metric that decides which weights are the best."""
        self._metric = f"{split}/{monitored} {values[monitored]:.4f}"
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.say(f"step {step}: {split}  {shown}")

    def measuring(self, split: str, batches: Sequence[int]) -> Generator[int]:
        """The numbers of the batches to measure, one after the other; a bar counts them where that takes long."""
        if self.quiet or not self.terminal:
            yield from batches
            return
        began = reported = time.perf_counter()
        bar: Any = None
        row: Any = None
        try:
            for done, index in enumerate(batches):
                yield index
                now = time.perf_counter()
                if row is None and now - began >= PATIENCE:
                    bar = self._bar or _bar(transient=True)
                    row = bar.add_task("", total=len(batches), completed=done + 1, note=f"measuring {split}")
                    bar.start()
                elif row is not None and now - reported >= BAR_INTERVAL:
                    reported = now
                    bar.update(row, completed=done + 1)
        finally:
            if row is not None:
                bar.remove_task(row)
            if bar is not None and bar is not self._bar:
                bar.stop()

    def stop(self) -> None:
        """Training is over; the bar keeps its last state."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._step)
            self._bar.stop()
            self._bar = None


def _bar(*, transient: bool) -> Any:
    """A bar on the terminal; a transient one leaves nothing behind."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    return RichProgress(*columns, TextColumn("left"), TimeRemainingColumn(), transient=transient)
