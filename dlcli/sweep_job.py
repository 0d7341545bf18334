"""One job of a sweep, in a process of its own or in another launcher's worker: train, and record how it ended."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from dlcli import plugins as plugin_loader
from dlcli.check import check
from dlcli.errors import ConfigError, DataError, DlcliError, Interrupted, ResourceError
from dlcli.hydra_composition import Composed
from dlcli.launch import Launch, begin
from dlcli.registry import REGISTRIES
from dlcli.run import Run, is_out_of_memory
from dlcli.run_records import process_record
from dlcli.sweep_records import Job, read_job, update_job


def warm(names: Mapping[str, Sequence[str]]) -> None:
    """Import the entries that jobs will use, by group, in the process that the jobs are forked from."""
    for group, found in names.items():
        for name in found:
            REGISTRIES[group].warm(name)


def run_job(folder: str, number: int, plugins: Sequence[str]) -> int:
    """Run one job of the sweep in ``folder``. Returns the exit code that ``dlcli train`` would have.

    However it ends, short of a kill, the job's record says so and why.
    """
    sweep = Path(folder)
    job = read_job(sweep, number)
    update_job(sweep, number, status="running", cause=None, exit_code=None, **process_record())
    try:
        plugin_loader.load(plugins)
        if job.summary.get("status") != "finished":  # else only the record did not get that far
            run = _open(job, plugins)
            try:
                _note_folder(job, run)
                run.train()
            finally:
                _note_folder(job, run)  # that of a run on several processes is known when they have ended
        update_job(sweep, number, status="finished", exit_code=0)
        return 0
    except BaseException as error:
        code, cause = _describe(error)
        status = "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        if code == 1:
            traceback.print_exception(error, file=sys.stdout)
        else:
            print(f"dlcli: {cause}")
        update_job(sweep, number, status=status, cause=cause, exit_code=code)
        if not isinstance(error, Exception) and not isinstance(error, KeyboardInterrupt):
            raise
        return code


def _note_folder(job: Job, run: Run | Launch) -> None:
    if run.directory is not None:
        update_job(job.folder, job.number, run=run.directory.name)


def _open(job: Job, plugins: Sequence[str]) -> Run | Launch:
    """The job's run: continued if it was stopped or killed and its checkpoints are good, else a new one."""
    composed = Composed(job.content["config"], job.content["choices"])
    problems = check(composed.config, composed.choices, [])
    if problems:
        raise ConfigError(problems)
    if job.run is not None and job.summary.get("status") in ("stopped", "running"):
        try:
            return begin(composed, plugins=plugins, resume=job.run)
        except DataError as error:
            print(f"{error}; beginning anew")
    command = " ".join(["dlcli", "train", *map(str, job.content["overrides"])])
    return begin(composed, command=command, plugins=plugins, resume=None)


def _describe(error: BaseException) -> tuple[int, str]:
    """Exit code and message of a failure."""
    if isinstance(error, Exception) and not isinstance(error, DlcliError) and is_out_of_memory(error):
        error = ResourceError("out of memory; use a smaller data.batch_size or a smaller model")
    message = str(error).split("\n")
    if isinstance(error, Interrupted):
        return error.exit_code, message[0].partition(";")[0]  # the rest says how to resume this run alone
    if isinstance(error, DlcliError):
        return error.exit_code, "; ".join(message)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted before the first step"
    return 1, f"{type(error).__name__}: {message[0][:200]}".rstrip(": ")
