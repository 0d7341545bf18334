"""Sweeps: one command line -> many jobs, all composed and checked before the first starts, launched through Hydra.

Hydra's grammar says which jobs there are, and Hydra's multirun reaches the launcher: ours (a fresh process per job),
or another one that is known by name. Hydra itself composes none of the jobs and sees no YAML file of a person's: it
would execute callbacks and launchers that such a file names. A job's configuration is in its record on the disk.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from dlcli.check import check
from dlcli.config import fill_missing, refuse_rebuilt
from dlcli.errors import ConfigError, Interrupted, SweepError, counted
from dlcli.hydra_composition import Composed, config_loader, first_line
from dlcli.launchers import check_launcher, launcher_overrides, names_own_launcher, reported, split_overrides
from dlcli.registry import TASKS
from dlcli.run_records import new_directory
from dlcli.run_references import resolve_runs
from dlcli.sweep_expansion import compose_jobs, expand
from dlcli.sweep_processes import Jobs, job_server
from dlcli.sweep_records import Results, results, update_job, write_sweep


def plan(overrides: Sequence[str], directories: Sequence[Path]) -> list[list[str]]:
    """The overrides of the jobs that a sweep would run, all of them checked.

    Raises:
        ConfigError: as ``start``.
    """
    own, hydra = split_overrides(overrides)
    check_launcher(hydra)
    jobs = expand(own, directories)
    compose_jobs(jobs, directories)
    return jobs


def start(
    overrides: Sequence[str], *, directories: Sequence[Path], plugins: Sequence[str], command: str, quiet: bool
) -> Results:
    """Run a new sweep to its end.

    Raises:
        ConfigError: what is wrong with any job, before anything starts. SweepError: some jobs failed.
        Interrupted: a signal arrived; the running jobs were saved.
    """
    own, hydra = split_overrides(overrides)
    with contextlib.ExitStack() as stack:
        # The server imports torch while everything is checked and composed here.
        server = stack.enter_context(job_server()) if names_own_launcher(hydra) else None
        launcher = check_launcher(hydra)
        jobs = expand(own, directories)
        composed = compose_jobs(jobs, directories)
        folder = create(jobs, composed, plugins=plugins, command=command, launcher=launcher)
        return launch(Jobs(folder, range(len(jobs)), plugins, server=server, quiet=quiet), hydra)


def resume(
    folder: Path,
    overrides: Sequence[str],
    *,
    directories: Sequence[Path],
    plugins: Sequence[str],
    quiet: bool,
) -> Results:
    """Run the jobs of a sweep that have no result yet.

    Raises:
        ConfigError: other overrides than the launcher's, a job that runs now, or entries of a plug-in that is missing.
        SweepError, Interrupted: as ``start``.
    """
    own, hydra = split_overrides(overrides)
    if own:
        raise ConfigError(f"'{own[0]}': a sweep is resumed as it was begun; for other options start another one")
    launcher = check_launcher(hydra)
    found = results(folder)
    running = [job.number for job in found.jobs if job.status == "running"]
    if running:
        raise ConfigError(f"{folder.name}: job {running[0]} is running; wait for it or end it")
    problems = []
    for job in found.unfinished:
        config, choices = job.content["config"], job.content["choices"]
        refuse_rebuilt(config, choices, directories)
        fill_missing(config, choices, directories)
        problems += check(config, choices, list(directories))
    if problems:
        named = found.content.get("plugins") or []
        if named and any("is not registered" in problem for problem in problems):
            problems.append(f"the sweep was started with {' '.join(f'--plugin {name}' for name in named)}")
        raise ConfigError(dict.fromkeys(problems))
    for job in found.unfinished:
        update_job(folder, job.number, config=job.content["config"])
    numbers = [job.number for job in found.unfinished]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(job_server()) if launcher == "dlcli" and numbers else None
        return launch(Jobs(folder, numbers, plugins, server=server, quiet=quiet), hydra)


def create(
    jobs: Sequence[Sequence[str]],
    composed: Sequence[Composed],
    *,
    plugins: Sequence[str],
    command: str,
    launcher: str,
) -> Path:
    """Make the folder of a new sweep, with the records of its jobs.

    Raises:
        ConfigError: jobs in several folders of runs, or a folder that cannot be written.
    """
    parents = {job.config["run_dir"] for job in composed}
    if len(parents) > 1:
        raise ConfigError("run_dir has several values; the runs of a sweep lie in one folder")
    parent = Path(parents.pop()).expanduser()
    for job in composed:
        resolve_runs(job.config, parent)  # named as seen from the folder of runs, not from the sweep's
    labels = [{job.choices.get(group) for job in composed} for group in ("model", "data")]
    name = "-".join(["sweep", *(str(*label).replace("/", "-") for label in labels if len(label) == 1)])
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = new_directory(parent, f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    except OSError as error:
        raise ConfigError(
            f"run_dir={parent}: cannot be written to ({error.strerror}); choose another folder with run_dir=…"
        ) from None
    monitor = str(composed[0].config["trainer"].get("monitor"))
    directions = TASKS.constant(composed[0].config["task"]["name"], "metric_directions", {})
    content = {
        "command": command,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "launcher": launcher,
        "plugins": list(plugins),
        "monitor": monitor,
        "direction": directions.get(monitor.partition("/")[2], "min"),
        "jobs": len(jobs),
    }
    records = [
        {"overrides": list(texts), "choices": job.choices, "config": {**job.config, "run_dir": str(folder)}}
        for texts, job in zip(jobs, composed, strict=True)
    ]
    write_sweep(folder, content, records)
    return folder


def launch(jobs: Jobs, hydra: Sequence[str]) -> Results:
    """Run jobs through Hydra's multirun, and write down and check the results."""
    from hydra._internal.hydra import Hydra

    received: int | None = None
    if len(jobs):
        with reported():
            try:
                Hydra(task_name="dlcli", config_loader=config_loader([], ours=False)).multirun(
                    None, jobs, launcher_overrides(hydra, jobs.folder), with_log_configuration=False
                )
            except KeyboardInterrupt:
                received = signal.SIGINT
            except Exception as error:
                if jobs.server is not None:
                    raise
                # Another launcher gave up, for example because a job was killed: the records say what is done.
                jobs.progress.say(f"the launcher ended early: {type(error).__name__}: {first_line(error)}")
        received = received or jobs.received
    found = results(jobs.folder)
    found.write()
    jobs.progress.report(found)
    if received is not None:
        raise Interrupted(
            f"stopped with {len(found.unfinished)} of {counted(len(found.jobs), 'job')} left; "
            f"continue with: dlcli train --resume {jobs.folder}",
            received,
        )
    if found.unfinished:
        raise SweepError(
            f"{len(found.unfinished)} of {counted(len(found.jobs), 'job')} without a result; "
            f"run again with: dlcli train --resume {jobs.folder}"
        )
    return found
