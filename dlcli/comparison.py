"""Runs beside each other: the options in which they differ, their metrics, their curves. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlcli.catalogue import load_yaml
from dlcli.errors import ConfigError, DataError, suggestion
from dlcli.run_records import Record, find, record
from dlcli.sweep_records import find_sweep, flat_metrics, read_jobs

IGNORED = ("run_dir",)
ABSENT = "-"


@dataclass(frozen=True)
class Compared:
    """One run: its record, its configuration as ``group.option`` -> value."""

    record: Record
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.record.name

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Final metrics as ``split/name``, those of evaluations only."""
        found = flat_metrics(self.record.summary)
        return {name: value for name, value in found.items() if not name.startswith("train/")}

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of a metric from ``metrics.jsonl``; empty if it was never logged."""
        steps, values = [], []
        try:
            lines = (self.record.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return [], []
        for line in lines:
            try:
                logged = json.loads(line)
                step, value = int(logged["step"]), float(logged[metric])
            except (ValueError, KeyError, TypeError):
                continue
            if math.isfinite(value):
                steps.append(step)
                values.append(value)
        return steps, values

    def logged(self) -> list[str]:
        """Names of all metrics that have a curve."""
        names: dict[str, None] = {}
        try:
            for line in (self.record.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
                content = json.loads(line)
                names.update(dict.fromkeys(content if isinstance(content, dict) else ()))
        except (OSError, ValueError):
            pass
        return [name for name in names if name not in ("step", "time")]


def open_runs(names: Sequence[str], run_dir: Path) -> list[Compared]:
    """The runs that are named, each a path, a prefix of a name or ``latest``; a sweep stands for all its runs.

    Raises:
        ConfigError: no such run, or none at all. DataError: a damaged configuration.
    """
    directories: dict[Path, None] = {}
    for name in names:
        sweep = find_sweep(name, run_dir)
        if sweep is None:
            directories[find(name, run_dir)] = None
        else:
            runs = [job.run for job in read_jobs(sweep) if job.run is not None and job.run.is_dir()]
            if not runs:
                raise ConfigError(f"sweep {sweep.name} has no runs yet")
            directories.update(dict.fromkeys(runs))
    return [_open(directory) for directory in directories]


def _open(directory: Path) -> Compared:
    config = load_yaml(directory / "config.yaml")
    if not isinstance(config, dict):
        raise DataError(f"{directory / 'config.yaml'}: not the configuration of a run")
    options = {key: value for key, value in _flat(config).items() if key not in IGNORED}
    return Compared(record(directory), options)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing_options(runs: Sequence[Compared]) -> list[str]:
    """Options whose values are not the same in all runs; one that a run does not have counts as different."""
    keys = dict.fromkeys(key for run in runs for key in run.options)
    return [key for key in keys if any(run.options.get(key, runs) != runs[0].options.get(key, runs) for run in runs)]


def metrics_of(runs: Sequence[Compared]) -> list[str]:
    """Every metric that a run has, in the order of first appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def rows(runs: Sequence[Compared], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: a row per run, or a row per option and metric if those are more than the runs."""
    options = differing_options(runs)
    lines = [["run", *(run.name for run in runs)]]
    lines += [
        [key, *(format_option(run.options[key]) if key in run.options else ABSENT for run in runs)] for key in options
    ]
    lines += [
        [name, *(f"{run.metrics[name]:.4f}" if name in run.metrics else ABSENT for run in runs)] for name in metrics
    ]
    lines.append(["status", *(run.record.status for run in runs)])
    if len(lines) <= max(8, len(runs)):
        lines = [list(column) for column in zip(*lines, strict=True)]
    return lines[0], lines[1:]


def format_option(value: Any) -> str:
    """A value as on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def to_json(runs: Sequence[Compared]) -> dict[str, Any]:
    """The differing options and all metrics of each run, as plain values."""
    options = differing_options(runs)
    return {
        "options": options,
        "runs": [
            {
                "run": run.name,
                "path": str(run.record.directory.resolve()),
                "status": run.record.status,
                "options": {key: run.options[key] for key in options if key in run.options},
                "metrics": run.metrics,
            }
            for run in runs
        ],
    }


def default_metric(runs: Sequence[Compared]) -> str:
    """What the first run monitors."""
    return str(runs[0].options.get("trainer.monitor") or "train/loss")


def plot(runs: Sequence[Compared], metric: str, file: Path) -> None:
    """The runs' curves of a metric over the steps, as a picture.

    Raises:
        ConfigError: matplotlib is not installed, no run has logged the metric, or the file cannot be written.
    """
    figure = _figure()
    curves = [(run, *run.curve(metric)) for run in runs]
    if not any(steps for _, steps, _ in curves):
        known = dict.fromkeys(name for run in runs for name in run.logged())
        raise ConfigError(f"--metric {metric}: no run has logged it; {suggestion(metric, known)}")
    options = differing_options(runs)
    axes = figure.add_subplot(xlabel="step", ylabel=metric)
    for run, steps, values in curves:
        if steps:
            axes.plot(steps, values, marker="." if len(steps) < 30 else None, label=_label(run, options))
    axes.grid(alpha=0.3)
    if len(runs) <= 20:
        axes.legend(fontsize="small")
    _save(figure, file)


def plot_over(runs: Sequence[Compared], option: str, metric: str, file: Path) -> None:
    """The runs' final metric over an option, such as the learning rate of a sweep; a line through the means.

    Raises:
        ConfigError: as ``plot``, or no run has the option, or its values are no numbers.
    """
    figure = _figure()
    having = [run for run in runs if option in run.options]
    if not having:
        raise ConfigError(f"--over {option}: no run has it; {suggestion(option, differing_options(runs))}")
    for run in having:
        value = run.options[option]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigError(f"--over {option}: {run.name} has {format_option(value)}; expected numbers")
    results: dict[float, list[float]] = {}
    for run in sorted(having, key=lambda run: run.options[option]):
        if metric in run.metrics:
            results.setdefault(run.options[option], []).append(run.metrics[metric])
    if not results:
        raise ConfigError(f"--metric {metric}: no run has it; {suggestion(metric, metrics_of(runs))}")
    axes = figure.add_subplot(xlabel=option, ylabel=metric)
    means = [statistics.fmean(values) for values in results.values()]
    axes.plot(list(results), means)
    pairs = [(value, result) for value, found in results.items() for result in found]
    axes.plot(*zip(*pairs, strict=True), "o", color="C0", markersize=4)
    axes.set_xscale(_scale(list(results)))
    axes.set_yscale(_scale([result for _, result in pairs]))
    axes.grid(alpha=0.3)
    _save(figure, file)


def _scale(values: Sequence[float]) -> str:
    """Logarithmic for positive numbers of different orders of magnitude."""
    return "log" if min(values) > 0 and max(values) >= 100 * min(values) else "linear"


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib: pip install 'dlcli[plot]'; or leave out --plot") from None
    return Figure(figsize=(8, 5), layout="constrained")


def _save(figure: Any, file: Path) -> None:
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({os.strerror(error.errno or 0)})") from None
    except ValueError as error:  # an ending that names no format
        raise ConfigError(f"{file}: {str(error).splitlines()[0]}; use .png") from None


def _label(run: Compared, options: Sequence[str], most: int = 3) -> str:
    """The options that tell a run from the others if they are few, else its name."""
    if not 0 < len(options) <= most:
        return run.name
    return " ".join(f"{key}={format_option(run.options[key])}" for key in options if key in run.options) or run.name
