"""Reproduction: the experiments run over a few seeds, and their numbers beside the books'.

The runs are the jobs of one sweep, in the folder that the person names: each in a process of its own, resumable, and a
failed one does not stop the rest. A run that is finished is not done again as long as its configuration and the code
of this package are the same.
Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dlcli.config import compose
from dlcli.errors import ConfigError, DlcliError, Interrupted, SweepError
from dlcli.experiments import Experiment, read_all
from dlcli.hydra_composition import Composed
from dlcli.registry import TASKS
from dlcli.run_records import read_json, write_json, write_text
from dlcli.sweep_expansion import compose_jobs, expand
from dlcli.sweep_processes import Jobs, gpus, job_server
from dlcli.sweep_records import SWEEP, Job, format_mean, is_sweep, job_file, read_job, read_jobs, results, write_sweep

REPORT = "reproduce"
VERDICTS = {
    "reproduced": "the mean is within the tolerance, or within 3 standard deviations over the seeds",
    "better": "the mean is better than that, for the reason that the experiment's header gives",
    "unexplained": "the mean is better than that, and nobody has said why: look for a wrong set-up",
    "short": "the mean is worse than that, or not finite",
    "differs": "the number is the same for every seed, and it is not the book's",
    "no number": "the book reports none",
    "failed": "not every run has a result",
    "not run": "it needs a GPU, or more minutes than were given",
}


@dataclass
class Row:
    """One metric of one experiment: the book's number and ours."""

    experiment: Experiment
    metric: str
    reported: float | None
    values: list[float] = field(default_factory=list)  # by seed; of a sweep, the mean over its jobs
    seconds: float | None = None  # of one run, on average
    direction: str = "min"
    wanted: int = 1  # runs that should have a value
    runs: bool = True
    reason: str = ""  # why it was not run

    @property
    def mean(self) -> float | None:
        """Over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds; None for fewer than two, and where one is not finite."""
        return statistics.stdev(self.values) if len(self.values) > 1 and all(map(math.isfinite, self.values)) else None

    @property
    def tolerance(self) -> float | None:
        """The difference that still counts as reproduced."""
        if self.reported is None:
            return None
        return max(self.experiment.tolerance(self.metric), 3 * (self.std or 0.0))

    @property
    def wide(self) -> bool:
        """Whether the seeds lie so far apart that being within 3 standard deviations says little."""
        return self.reported is not None and (self.std or 0.0) > 3 * self.experiment.tolerance(self.metric)

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if not self.runs:
            return "not run"
        if self.mean is None or len(self.values) < self.wanted:
            return "failed"
        if self.reported is None or self.tolerance is None:
            return "no number"
        if not math.isfinite(self.mean):
            return "short"
        difference = self.mean - self.reported
        if abs(difference) <= self.tolerance * (1 + 1e-9):
            return "reproduced"
        if self.experiment.exact:
            return "differs"
        if (difference > 0) != (self.direction == "max"):
            return "short"
        return "better" if self.experiment.better_because else "unexplained"

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {
            "experiment": self.experiment.name,
            "book": self.experiment.book,
            "section": self.experiment.section,
            "metric": self.metric,
            "reported": self.reported,
            "measured": {"mean": self.mean, "std": self.std, "values": self.values},
            "wanted": self.wanted,
            "tolerance": self.tolerance,
            "verdict": self.verdict,
            "wide": self.wide,
            "cause": self.reason or (self.experiment.better_because if self.verdict == "better" else "") or None,
            "seconds": self.seconds,
            "command": self.experiment.command,
        }


# ---------------------------------------------------------------------- what to run


def select(
    glob: str, *, max_minutes: float | None, directories: Sequence[Path]
) -> tuple[list[Experiment], dict[str, str]]:
    """The experiments whose names match, and, for those that are left out, why.

    Raises:
        ConfigError: no name matches.
    """
    known = read_all(directories)
    found = [experiment for name, experiment in known.items() if fnmatchcase(name, glob)]
    if not found:
        raise ConfigError(f"no experiment matches '{glob}'; see 'dlcli list experiment'")
    left_out = {}
    for experiment in found:
        if experiment.needs_gpu and not gpus():
            left_out[experiment.name] = "needs a GPU"
        elif max_minutes is None:
            continue
        elif experiment.minutes is None:
            left_out[experiment.name] = "its header has no 'Minutes:'"
        elif experiment.minutes > max_minutes:
            left_out[experiment.name] = f"takes {experiment.minutes:g} minutes"
    return found, left_out


def overrides_of(experiment: Experiment, seeds: int, directories: Sequence[Path]) -> list[list[str]]:
    """The command lines of an experiment's runs; one that does not depend on the seed is run once.

    Raises:
        ConfigError: a sweep of its header that stands for no values.
    """
    lines = [[f"experiment={experiment.name}", f"seed={seed}"] for seed in range(1 if experiment.exact else seeds)]
    if not experiment.sweep:
        return lines
    return [job for line in lines for job in expand([*line, experiment.sweep], directories)]


def enter(
    folder: Path, wanted: Sequence[tuple[list[str], Composed]], command: str, plugins: Sequence[str]
) -> list[int]:
    """The numbers of the wanted jobs in the folder's records; what is new or has changed is entered to be run.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not is_sweep(folder):
            if any(folder.iterdir()):
                raise ConfigError(f"--out {folder}: there are other files in it; name a new folder")
            content: dict[str, Any] = {
                "command": command,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "launcher": "dlcli",
            }
            content |= {"plugins": list(plugins), "monitor": "val/loss", "direction": "min", "jobs": 0}
            write_sweep(folder, content, [])
        jobs = read_jobs(folder)
        numbers, source = [], source_digest()
        for overrides, composed in wanted:
            config = json.loads(json.dumps({**composed.config, "run_dir": str(folder.resolve())}))
            same = [job for job in jobs if job.content["overrides"] == overrides]
            kept = [job for job in same if job.content["config"] == config and job.content.get("source") == source]
            number = (kept or same)[0].number if same else len(jobs)
            if not kept:
                record = {"number": number, "overrides": overrides, "choices": composed.choices, "config": config}
                state = {"source": source, "status": "waiting", "cause": None, "run": None}
                write_json(job_file(folder, number), {**record, **state})
                if not same:
                    jobs.append(read_job(folder, number))
            numbers.append(number)
        write_json(folder / SWEEP, {**read_json(folder / SWEEP), "jobs": len(jobs)})
        return numbers
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written to ({error.strerror}); name another folder") from None


def source_digest() -> str:
    """SHA-256 of this package's code. The YAML files are left out: a job's record holds what was composed of them."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


# ---------------------------------------------------------------------- running


def reproduce(
    glob: str,
    *,
    out: Path,
    seeds: int,
    max_minutes: float | None,
    jobs_at_a_time: int | None,
    directories: Sequence[Path],
    plugins: Sequence[str],
    command: str,
    quiet: bool = False,
) -> list[Row]:
    """Run what has no result yet, and write ``reproduce.json`` and ``reproduce.md`` into ``out``.

    Raises:
        ConfigError: nothing matches, or the folder cannot be used. SweepError: some runs failed.
        DlcliError: a number falls short of the book's. Interrupted: a signal arrived; the running jobs were saved.
    """
    found, left_out = select(glob, max_minutes=max_minutes, directories=directories)
    chosen = [experiment for experiment in found if experiment.name not in left_out]
    lines = [line for experiment in chosen for line in overrides_of(experiment, seeds, directories)]
    wanted = list(zip(lines, compose_jobs(lines, directories), strict=True))
    numbers = enter(out, wanted, command, plugins)
    waiting = [number for number in numbers if read_job(out, number).status != "finished"]
    received = None
    if waiting:
        with job_server() as server:
            jobs = Jobs(out, waiting, plugins, server=server, quiet=quiet)
            jobs.launch(range(len(waiting)), jobs_at_a_time)
            received = jobs.received
    results(out).write()
    done = [read_job(out, number) for number in numbers]
    rows = [
        row for experiment in found for row in rows_of(experiment, done, left_out.get(experiment.name, ""), directories)
    ]
    write_json(out / f"{REPORT}.json", [row.to_json() for row in rows])
    write_text(out / f"{REPORT}.md", markdown(rows))
    if received is not None:
        raise Interrupted(f"stopped; the same command goes on with what is in {out}", received)
    return rows


def check(rows: Sequence[Row], out: Path) -> None:
    """Raise what the exit code should say.

    Raises:
        SweepError: some runs have no result. DlcliError: a number is worse than the book's, or better without a reason.
    """
    failed = [row.experiment.name for row in rows if row.verdict == "failed"]
    if failed:
        raise SweepError(
            f"results are missing for {', '.join(dict.fromkeys(failed))}; the causes are in {out / 'jobs'}"
        )
    wrong = [
        f"{row.experiment.name} ({row.verdict})" for row in rows if row.verdict in ("short", "differs", "unexplained")
    ]
    if wrong:
        raise DlcliError(f"{len(wrong)} of {len(rows)} numbers are not reproduced: {', '.join(wrong)}")


# ---------------------------------------------------------------------- what came of it


def rows_of(experiment: Experiment, jobs: Sequence[Job], left_out: str, directories: Sequence[Path]) -> list[Row]:
    """A row for each reported metric, or one for the monitored metric where the book reports none."""
    mine = [job for job in jobs if job.content["overrides"][0] == f"experiment={experiment.name}"]
    finished = [job for job in mine if job.status == "finished"]
    by_seed: dict[str, list[Job]] = {}
    for job in mine:
        by_seed.setdefault(job.options["seed"], []).append(job)
    config = mine[0].content["config"] if mine else compose([f"experiment={experiment.name}"], directories).config
    directions = TASKS.constant(config["task"]["name"], "metric_directions", {})
    reported: Mapping[str, float | None] = experiment.reported or {str(config["trainer"].get("monitor")): None}
    seconds = [float(job.summary.get("seconds") or 0.0) for job in finished]
    rows = []
    for metric, number in reported.items():
        means = [_mean(jobs, metric) for jobs in by_seed.values()]
        values = [mean for mean in means if mean is not None]
        row = Row(experiment, metric, number, values, wanted=len(by_seed), runs=not left_out, reason=left_out)
        row.seconds = statistics.fmean(seconds) if seconds else None
        row.direction = directions.get(metric.partition("/")[2].partition("@")[0], "min")
        rows.append(row)
    return rows


def _mean(jobs: Sequence[Job], metric: str) -> float | None:
    """Over the jobs of one seed; None unless each is finished and has a value."""
    values = [measured(job, metric) if job.status == "finished" else None for job in jobs]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def measured(job: Job, metric: str) -> float | None:
    """``val/loss`` from the summary of a finished run, ``val/loss@20`` and ``val/loss@last`` from its log."""
    name, at, step = metric.partition("@")
    if not at:
        return job.metrics.get(name)
    if job.run is None:
        return None
    found = None
    with (job.run / "metrics.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            if name in record and (step == "last" or record["step"] == int(step)):
                found = float(record[name])
    return found


HEADER = ("experiment", "book", "metric", "reported", "ours", "difference", "verdict", "time")


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    difference = "-" if row.mean is None or row.reported is None else f"{row.mean - row.reported:+.4g}"
    time_used = "-" if row.seconds is None else f"{row.seconds:.0f} s"
    where = f"{row.experiment.book} {row.experiment.section}".strip()
    return (
        row.experiment.name,
        where,
        row.metric,
        "-" if row.reported is None else f"{row.reported:g}",
        _number(row),
        difference,
        row.verdict + (" (wide)" if row.wide else "") + (f": {row.reason}" if row.reason else ""),
        time_used,
    )


def _number(row: Row) -> str:
    text = format_mean(row.mean, row.std)
    if row.mean is not None and abs(row.mean) < 0.1:
        text = f"{row.mean:.6g}" + (f" ± {row.std:.2g}" if row.std is not None else "")
    return text + (f" ({len(row.values)} of {row.wanted})" if 0 < len(row.values) < row.wanted else "")


def markdown(rows: Sequence[Row]) -> str:
    """The table as a page of Markdown, with the commands and the reasons."""
    lines = ["# The books' numbers and ours", ""]
    header = (*HEADER, "command")
    lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join((*cells(row), f'`{row.experiment.command}`'))} |" for row in rows]
    used = dict.fromkeys(row.verdict for row in rows)
    lines += ["", *(f"- {verdict}: {VERDICTS[verdict]}" for verdict in used)]
    if any(row.wide for row in rows):
        lines += ["- wide: the standard deviation over the seeds is more than 3 times the tolerance"]
    causes = {row.experiment.name: row.experiment.better_because for row in rows if row.verdict == "better"}
    if causes:
        lines += ["", "Better because:", "", *(f"- {name}: {cause}" for name, cause in causes.items())]
    return "\n".join(lines) + "\n"
