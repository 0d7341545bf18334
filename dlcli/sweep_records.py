"""Sweeps as they lie on the disk: the records of their jobs, and the table of results that follows from them.

A sweep is a folder with ``sweep.json`` (what was asked for), ``jobs/NNN.json`` and ``NNN.log`` for each job, and the
jobs' runs, which are ordinary ones. What was done, and what is left, is computed from these files alone, whoever
launched the jobs. Imports no torch.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlcli.errors import ConfigError, DataError
from dlcli.run_records import is_run, read_json, status, write_json

SWEEP = "sweep.json"
CSV = "sweep.csv"
JOBS = "jobs"
WAITING = "waiting"
REPEATS = ("seed", "data.fold")
"""Options whose values repeat an experiment: a table shows the mean over them."""


@dataclass
class Job:
    """One job of a sweep. ``content`` is its record: number, overrides, config, choices, status, cause, run."""

    folder: Path
    content: dict[str, Any]

    @property
    def number(self) -> int:
        """Counted from 0, in the order of the sweep."""
        return int(self.content["number"])

    @property
    def status(self) -> str:
        """``waiting`` or one of ``run_records.STATUSES``; ``killed`` if the process that ran it is gone."""
        return WAITING if self.content.get("status") == WAITING else status(self.content)

    @property
    def cause(self) -> str:
        """Why it is not finished, in one line; empty if it is."""
        if self.content.get("cause"):
            return " ".join(str(self.content["cause"]).split())
        return "its process is gone" if self.status == "killed" else ""

    @property
    def run(self) -> Path | None:
        """The folder of its (last) run."""
        name = self.content.get("run")
        return self.folder / name if isinstance(name, str) and Path(name).name == name else None

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.folder / JOBS / f"{self.number:03d}.log"

    @cached_property
    def options(self) -> dict[str, str]:
        """The overrides as option -> value, as they were written."""
        pairs = (str(text).lstrip("+").partition("=") for text in self.content["overrides"])
        return {key: value for key, _, value in pairs}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary of its run; empty as long as there is none."""
        try:
            return read_json(self.run / "summary.json") if self.run is not None else {}
        except DataError:
            return {}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """``val/loss`` and the like: of the best weights where it is finished, else of the best so far."""
        return flat_metrics(self.summary)


def flat_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in a run's summary as ``split/name``; what is not finite was written as null and is left out."""
    best = summary.get("best")
    flat = {best["metric"]: best["value"]} if isinstance(best, dict) else {}
    splits = summary.get("metrics")
    for split, values in splits.items() if isinstance(splits, dict) else ():
        flat.update({f"{split}/{name}": value for name, value in values.items()})
    return {name: value for name, value in flat.items() if isinstance(value, int | float)}


# ---------------------------------------------------------------------- finding, reading, writing


def is_sweep(directory: Path) -> bool:
    """Whether this folder holds a sweep."""
    return (directory / SWEEP).is_file()


def sweeps(run_dir: Path) -> list[Path]:
    """The sweeps in a folder of runs, by name. No such folder is no sweeps."""
    try:
        return sorted(path for path in run_dir.iterdir() if is_sweep(path))
    except OSError:
        return []


def find_sweep(text: str, run_dir: Path) -> Path | None:
    """The sweep that ``text`` names: a path, a name, or a prefix of one name; None if it is no sweep.

    Raises:
        ConfigError: a prefix of several sweeps.
    """
    if text and is_sweep(Path(text)):
        return Path(text)
    if not text or Path(text).name != text or is_run(run_dir / text):
        return None
    matching = [path for path in sweeps(run_dir) if path.name.startswith(text)]
    if len(matching) > 1 and matching[0].name != text:  # sorted: a name comes before those that go on after it
        raise ConfigError(f"sweep '{text}' is ambiguous: it may be {', '.join(path.name for path in matching)}")
    return matching[0] if matching else None


def write_sweep(folder: Path, content: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]]) -> None:
    """Write down what is asked for, before anything starts."""
    (folder / JOBS).mkdir()
    for number, job in enumerate(jobs):
        write_json(job_file(folder, number), {"number": number, **job, "status": WAITING, "cause": None, "run": None})
    write_json(folder / SWEEP, content)


def job_file(folder: Path, number: int) -> Path:
    """Where the record of a job is."""
    return folder / JOBS / f"{number:03d}.json"


def read_job(folder: Path, number: int) -> Job:
    """One job.

    Raises:
        DataError: its record is missing or damaged.
    """
    file = job_file(folder, number)
    content = read_json(file)
    kinds = {"number": int, "overrides": list, "config": dict, "choices": dict}
    if any(not isinstance(content.get(key), kind) for key, kind in kinds.items()) or content["number"] != number:
        raise DataError(f"{file}: damaged, not the record of job {number}")
    return Job(folder, content)


def update_job(folder: Path, number: int, **changes: Any) -> None:
    """Change the record of a job."""
    file = job_file(folder, number)
    write_json(file, {**read_json(file), **changes})


def read_jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep, in order.

    Raises:
        DataError: a record is missing or damaged.
    """
    count = read_json(folder / SWEEP).get("jobs")
    if not isinstance(count, int):
        raise DataError(f"{folder / SWEEP}: damaged, it does not say how many jobs there are")
    return [read_job(folder, number) for number in range(count)]


# ---------------------------------------------------------------------- results


@dataclass(frozen=True)
class Group:
    """The jobs that differ in seed or fold alone."""

    options: dict[str, str]
    jobs: list[Job]

    @cached_property
    def finished(self) -> list[Job]:
        """Those that have a result."""
        return [job for job in self.jobs if job.status == "finished"]

    def values(self, metric: str) -> list[float]:
        """The metric of each finished job that has it."""
        return [job.metrics[metric] for job in self.finished if metric in job.metrics]

    def mean(self, metric: str) -> float | None:
        """The mean over the finished jobs; None without any."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """The sample standard deviation (n - 1 in the denominator) over the finished jobs; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Results:
    """A sweep's results. ``options`` are those that differ between jobs; groups come best first."""

    folder: Path
    content: dict[str, Any]
    jobs: list[Job]

    @property
    def monitor(self) -> str:
        """The metric by which groups are ranked."""
        return str(self.content.get("monitor"))

    @cached_property
    def options(self) -> list[str]:
        """Options whose values differ between jobs, in the order of the command line."""
        keys = dict.fromkeys(key for job in self.jobs for key in job.options)
        return [key for key in keys if len({job.options.get(key) for job in self.jobs}) > 1]

    @cached_property
    def groups(self) -> list[Group]:
        """Jobs that differ in seed or fold alone are one group; the best mean of the monitored metric comes first."""
        keys = [key for key in self.options if key not in REPEATS]
        together: dict[tuple[str, ...], list[Job]] = {}
        for job in self.jobs:
            together.setdefault(tuple(job.options.get(key, "") for key in keys), []).append(job)
        groups = [Group(dict(zip(keys, values, strict=True)), jobs) for values, jobs in together.items()]
        sign = -1.0 if self.content.get("direction") == "max" else 1.0

        def rank(group: Group) -> tuple[bool, float]:
            mean = group.mean(self.monitor)
            return mean is None, 0.0 if mean is None else sign * mean

        return sorted(groups, key=rank)

    @cached_property
    def metrics(self) -> list[str]:
        """Every metric that a job has, the monitored one first."""
        names = dict.fromkeys([self.monitor, *(name for job in self.jobs for name in job.metrics)])
        return [name for name in names if any(name in job.metrics for job in self.jobs)]

    @property
    def failed(self) -> list[Job]:
        """The jobs that ended without a result."""
        return [job for job in self.jobs if job.status in ("failed", "killed", "damaged")]

    @property
    def unfinished(self) -> list[Job]:
        """The jobs that a resumed sweep runs: all that have no result."""
        return [job for job in self.jobs if job.status != "finished"]

    @property
    def best(self) -> Job | None:
        """The best job of the best group."""
        done = [job for job in self.groups[0].finished if self.monitor in job.metrics] if self.groups else []
        choose = max if self.content.get("direction") == "max" else min
        return choose(done, key=lambda job: job.metrics[self.monitor]) if done else None

    def write(self) -> None:
        """Write ``sweep.csv`` (a row per job) and the results into ``sweep.json``."""
        with (self.folder / CSV).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            fixed = ("job", "status", *self.options)
            writer.writerow([*fixed, *self.metrics, "steps", "seconds", "run", "cause"])
            for job in self.jobs:
                row = [job.number, job.status, *(job.options.get(key, "") for key in self.options)]
                row += [job.metrics.get(name, "") for name in self.metrics]
                row += [job.summary.get("steps", ""), job.summary.get("seconds", "")]
                writer.writerow([*row, job.content.get("run") or "", job.cause])
        write_json(self.folder / SWEEP, {**self.content, "results": self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Groups and jobs with all their metrics, as plain values."""
        groups = [
            {
                "options": group.options,
                "jobs": [job.number for job in group.jobs],
                "finished": len(group.finished),
                "metrics": {
                    name: {"mean": group.mean(name), "std": group.std(name), "count": len(group.values(name))}
                    for name in self.metrics
                    if group.values(name)
                },
            }
            for group in self.groups
        ]
        jobs = [
            {
                "job": job.number,
                "status": job.status,
                "cause": job.cause or None,
                "options": {key: job.options.get(key) for key in self.options},
                "metrics": job.metrics,
                "run": job.content.get("run"),
                "seconds": job.summary.get("seconds"),
            }
            for job in self.jobs
        ]
        best = self.best
        return {"groups": groups, "jobs": jobs, "best": best.number if best is not None else None}

    def rows(self, most_metrics: int = 4) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table: a row per group, the best first."""
        metrics = [name for name in self.metrics if not name.startswith("train/")]
        other_split = [name for name in metrics if name.partition("/")[0] != self.monitor.partition("/")[0]]
        shown = [*metrics[:1], *other_split, *metrics[1:]][: max(1, most_metrics)]
        shown = list(dict.fromkeys(shown))
        options = [key for key in self.options if key not in REPEATS]
        header = [*options, *shown, "jobs", "seconds"]
        rows = []
        for group in self.groups:
            seconds = [float(job.summary.get("seconds") or 0.0) for job in group.finished]
            done = len(group.finished)
            rows.append(
                [
                    *group.options.values(),
                    *(format_mean(group.mean(name), group.std(name)) for name in shown),
                    str(done) if done == len(group.jobs) else f"{done} of {len(group.jobs)}",
                    f"{statistics.fmean(seconds):.0f}" if seconds else "-",
                ]
            )
        return header, rows


def format_mean(mean: float | None, std: float | None) -> str:
    """``1.2346 ± 0.0123``, without the deviation where there is none."""
    if mean is None or not math.isfinite(mean):
        return "-"
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def results(folder: Path) -> Results:
    """What the files of a sweep say now.

    Raises:
        DataError: a record is missing or damaged.
    """
    return Results(folder, read_json(folder / SWEEP), read_jobs(folder))


def describe(job: Job, keys: Sequence[str]) -> str:
    """A job's options that differ from other jobs', as on the command line."""
    return " ".join(f"{key}={job.options[key]}" for key in keys if key in job.options)
