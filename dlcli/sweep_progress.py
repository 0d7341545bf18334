"""What a person sees of a sweep: a live table on a terminal, plain lines elsewhere; the results at its end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlcli.errors import DataError, counted
from dlcli.sweep_records import CSV, Job, Results, describe, read_job

REFRESH_SECONDS = 0.5
TAIL_BYTES = 4096


class SweepProgress:
    """Reports of one sweep. Writes to standard output; with ``quiet``, nothing."""

    def __init__(self, folder: Path, *, quiet: bool, terminal: bool | None = None):
        self.folder = folder
        self.quiet = quiet
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self.keys: list[str] = []
        self.total = 0
        self.ends: Counter[str] = Counter()
        self._live: Any = None
        self._updated = 0.0

    def say(self, text: str) -> None:
        """One line, above the live table if there is one."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def start(self, jobs: Sequence[Job], slots: int) -> None:
        """Jobs are about to run, ``slots`` at a time."""
        keys = dict.fromkeys(key for job in jobs for key in job.options)
        self.keys = [key for key in keys if len(jobs) == 1 or len({job.options.get(key) for job in jobs}) > 1]
        self.total = len(jobs)
        self.say(f"sweep  {self.folder}: {counted(len(jobs), 'job')}, {slots} at a time")
        if self.terminal and not self.quiet:
            from rich.live import Live

            self._live = Live(auto_refresh=False)
            self._live.start()

    def started(self, job: Job) -> None:
        """The process of a job has been started."""
        if self._live is None:
            self.say(f"job {job.number}  {describe(job, self.keys)}  started")

    def ended(self, job: Job) -> None:
        """A job has ended, well or not."""
        self.ends[job.status] += 1
        result = job.cause or "  ".join(f"{name} {value:.4f}" for name, value in self._results(job).items())
        self.say(f"job {job.number}  {describe(job, self.keys)}  {job.status}  {result}".rstrip())

    def update(self, running: Sequence[int]) -> None:
        """Draw the live table anew, now and then."""
        now = time.monotonic()
        if self._live is None or now - self._updated < REFRESH_SECONDS:
            return
        self._updated = now
        from rich.table import Table

        done = "  ".join(f"{count} {status}" for status, count in sorted(self.ends.items()))
        left = self.total - self.ends.total() - len(running)
        grid = Table(title=f"{len(running)} running  {left} waiting  {done}", title_justify="left", box=None)
        for name in ("job", *self.keys, "step", "latest"):
            grid.add_column(name)
        for number in running:
            try:
                job = read_job(self.folder, number)
            except DataError:
                continue
            step, values = latest(job)
            options = (job.options.get(key, "") for key in self.keys)
            grid.add_row(str(number), *options, "-" if step is None else f"{step:,}", values)
        self._live.update(grid, refresh=True)

    def stop(self) -> None:
        """No job runs any more; the live table goes."""
        if self._live is not None:
            self._live.update("", refresh=True)
            self._live.stop()
            self._live = None

    def report(self, found: Results) -> None:
        """The table of results, the causes of what has none, and where to look on."""
        header, rows = found.rows()
        for line in _lines(header, rows):
            self.say(line)
        for job in found.failed:
            self.say(f"job {job.number}  {describe(job, found.options)}  {job.status}: {job.cause}; see {job.log}")
        if found.best is not None:
            self.say(f"best   {found.best.run}")
        self.say(f"table  {found.folder / CSV}")

    @staticmethod
    def _results(job: Job) -> dict[str, float]:
        """The monitored metric, on the validation and the test split."""
        best = job.summary.get("best")
        name = best["metric"].partition("/")[2] if isinstance(best, dict) else "loss"
        return {split: job.metrics[split] for split in (f"val/{name}", f"test/{name}") if split in job.metrics}


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns. (The verbs' own tables are above this layer.)"""
    lines = [header, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def latest(job: Job) -> tuple[int | None, str]:
    """The last step that a run has logged, and its loss."""
    if job.run is None:
        return None, ""
    try:
        with (job.run / "metrics.jsonl").open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            lines = stream.read().split(b"\n")[:-1]
        values = json.loads(lines[-1])
        losses = (f"{key} {value:.4f}" for key, value in values.items() if key.endswith("/loss"))
        return int(values["step"]), "  ".join(losses)
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None, ""
