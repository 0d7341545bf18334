"""``dlcli train``: compose, check, train, measure, save."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dlcli.cli.options import ConfigDir, Overrides, Plugin, RunDir, run_folder, search_path
from dlcli.errors import ConfigError, DataError, counted

EXAMPLE = """\b
Examples:
  dlcli train model=lstm data=shakespeare
  dlcli train data=fashion_mnist optimizer.lr=3e-3 trainer.max_epochs=5
  dlcli train --resume latest trainer.max_steps=4000
  dlcli train -m model=lstm,gru optimizer.lr=1e-3,3e-3 seed=0,1,2"""

RESUMABLE = frozenset(
    f"trainer.{key}"
    for key in (
        *("max_epochs", "max_steps", "rounds", "max_minutes", "patience", "keep_top"),
        *("eval_every", "checkpoint_every", "log_every"),
        *("device", "devices", "process_timeout"),
    )
)
"""What may change when a run is resumed: its budget, when it is measured, saved and logged, and where it runs."""


def train(
    overrides: Overrides = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Continue a run or a sweep (path, prefix or latest).", show_default=False),
    ] = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="A sweep: a run for every combination of the values named.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build everything, try one batch, write nothing.")] = False,
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
    run_dir: RunDir = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a model: compose the configuration, check it, train, measure, save."""
    command = shlex.join(["dlcli", *sys.argv[1:]])
    if run_dir is not None and resume is None:
        raise ConfigError(f"--run-dir says where --resume looks; for a new run write run_dir={run_dir}")
    arguments: dict[str, Any] = {"config_dirs": config_dir or [], "plugins": plugin or [], "quiet": quiet}
    if resume is not None:
        from dlcli.run_records import find
        from dlcli.sweep_records import find_sweep

        if dry_run:
            raise ConfigError("--dry-run tries a new configuration; leave out --resume")
        sweep = find_sweep(resume, run_folder(run_dir))
        if sweep is not None:
            _resume_sweep(sweep, overrides or [], **arguments)
            return
        if multirun:
            raise ConfigError(f"--resume {resume}: not a sweep; leave out -m")
        resume_run(find(resume, run_folder(run_dir)), overrides or [], **arguments).train()
    elif multirun:
        _sweep(overrides or [], command=command, dry_run=dry_run, **arguments)
    elif dry_run:
        _dry_run(prepare(overrides or [], **arguments))
    else:
        start_run(overrides or [], command=command, **arguments).train()


def _sweep(
    overrides: list[str], *, command: str, dry_run: bool, config_dirs: list[Path], plugins: list[str], quiet: bool
) -> None:
    """Every job composed and checked, then run; with ``dry_run``, listed."""
    from dlcli import sweep

    directories = search_path(config_dirs, plugins)
    if not dry_run:
        sweep.start(overrides, directories=directories, plugins=plugins, command=command, quiet=quiet)
        return
    jobs = sweep.plan(overrides, directories)
    for number, job in enumerate(jobs):
        print(f"job {number}  {' '.join(job)}")
    print(f"{counted(len(jobs), 'job')}, well composed; nothing was trained and nothing was written")


def _resume_sweep(
    folder: Path, overrides: list[str], *, config_dirs: list[Path], plugins: list[str], quiet: bool
) -> None:
    from dlcli import sweep

    sweep.resume(folder, overrides, directories=search_path(config_dirs, plugins), plugins=plugins, quiet=quiet)


def prepare(overrides: list[str], *, config_dirs: list[Path], plugins: list[str], quiet: bool) -> Any:
    """Compose and check, then build a run that writes nothing. Imports torch only when the check has passed."""
    from dlcli import runtime
    from dlcli.config import compose
    from dlcli.launch import Launch

    composed = compose(overrides, search_path(config_dirs, plugins))
    runtime.import_torch()
    from dlcli import start

    if composed.config["trainer"].get("devices", 1) > 1:  # refuses what cannot be shared out; starts nothing
        Launch(composed, command="", plugins=plugins, quiet=quiet, resume=None)
    return start.build(composed, plugins=plugins, quiet=quiet)


def start_run(overrides: list[str], *, command: str, config_dirs: list[Path], plugins: list[str], quiet: bool) -> Any:
    """Compose and check, then begin a run with a folder of its own."""
    from dlcli.config import compose
    from dlcli.launch import begin

    composed = compose(overrides, search_path(config_dirs, plugins))
    return begin(composed, command=command, plugins=plugins, quiet=quiet, resume=None)


def resume_run(
    directory: Path, overrides: list[str], *, config_dirs: list[Path], plugins: list[str], quiet: bool
) -> Any:
    """Open a run to continue it, with other budgets if the overrides say so."""
    from dlcli.catalogue import load_yaml
    from dlcli.check import check
    from dlcli.config import change_values, fill_missing, refuse_rebuilt
    from dlcli.hydra_composition import Composed
    from dlcli.launch import begin
    from dlcli.run_records import read_json
    from dlcli.run_records import record as record_of

    present = record_of(directory)
    if present.status == "running":
        raise ConfigError(f"{directory.name} is running (process {present.summary.get('pid')}); end it first")
    directories = search_path(config_dirs, plugins)
    saved = load_yaml(directory / "config.yaml")
    if not isinstance(saved, dict):
        raise DataError(f"{directory / 'config.yaml'}: not the configuration of a run; start a new one")
    config = change_values(saved, overrides, RESUMABLE)
    saved_at = present.summary.get("saved", {})  # the checkpoint may be older than the last step that was done
    for limit, reached in (("max_steps", "step"), ("rounds", "step"), ("max_epochs", "epoch")):
        budget, done = config.get("trainer", {}).get(limit), saved_at.get(f"{reached}s", 0)
        if isinstance(budget, int | float) and budget < done:
            raise ConfigError(
                f"{directory.name} has {counted(done, reached)} behind it already, more than trainer.{limit}={budget}"
            )
    record = read_json(directory / "spec.json")
    refuse_rebuilt(config, record["choices"], directories)
    fill_missing(config, record["choices"], directories)
    problems = check(config, record["choices"], directories)
    if problems:
        if record["plugins"] and any("is not registered" in problem for problem in problems):
            problems.append(f"the run was trained with {' '.join(f'--plugin {name}' for name in record['plugins'])}")
        raise ConfigError(problems)
    composed = Composed(config, record["choices"])
    return begin(composed, plugins=record["plugins"], quiet=quiet, resume=directory)


def _dry_run(run: Any) -> None:
    """One batch forward and backward; prints the configuration and summaries of model and data."""
    from dlcli.catalogue import dump_yaml

    print(dump_yaml(run.config).rstrip())
    print()
    for line in run.describe():
        print(line)
    print()
    for name, parameter in run.model.named_parameters():
        print(f"  {name:<40} {tuple(parameter.shape)!s:>20} {parameter.numel():>12,}")
    print(f"  {'all':<40} {'':>20} {run.parameters:>12,}")
    print()
    for name, value in run.try_batch().items():
        print(f"one batch: {name} {value:.4f}")
    print("nothing was trained and nothing was written")
