"""Sweeps: one command line -> many jobs, all composed and checked before the first starts, launched through Hydra.

Hydra's grammar says which jobs there are, and Hydra's multirun reaches the launcher: ours (a fresh process per job),
or another one that is known by name. Hydra itself composes none of the jobs and sees no YAML file of a person's: it
would execute callbacks and launchers that such a file names. A job's configuration is in its record on the disk.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dlcli.check import check
from dlcli.config import Composed, compose, compose_choices, config_loader, first_line, size_problem
from dlcli.errors import ConfigError, Interrupted, SweepError, suggestion
from dlcli.interruption import Interruption
from dlcli.processes import Child, Server
from dlcli.registry import TASKS
from dlcli.run_records import find, new_directory
from dlcli.runtime import available_cores
from dlcli.sweep_progress import SweepProgress
from dlcli.sweep_records import JOBS, WAITING, Results, read_job, results, update_job, write_sweep

MAX_JOBS = 10_000
UNREADABLE = "these values cannot be counted; write choice(…) of plain values, or range(…) of numbers"
LOOK_SECONDS = 0.1  # between two looks for a signal; the end of a job is noticed at once
MEMORY_OF_A_JOB = 2**30  # bytes that a job is expected to need, for how many run at a time unless the user says
LAUNCHERS = {
    "dlcli": "hydra_plugins.dlcli_sweep.ProcessLauncher",
    "basic": "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "joblib": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
}
"""Launchers that a sweep may use, and their classes."""
INSTALL = {"joblib": "hydra-joblib-launcher", "submitit_local": "hydra-submitit-launcher"}
INSTALL["submitit_slurm"] = INSTALL["submitit_local"]
WARM = (
    *("torch", "dlcli.sweep_job", "dlcli.start", "dlcli.trainers.minibatch", "numpy.random", "psutil"),
    *("tensorboard.compat.proto.event_pb2", "tensorboard.compat.proto.summary_pb2"),
    *("tensorboard.plugins.text.metadata", "tensorboard.plugins.hparams.plugin_data_pb2"),
)
"""What nearly every job needs: imported once, before the jobs are forked."""
SWEEPER = "hydra_plugins.dlcli_sweep.JobSweeper"


# ---------------------------------------------------------------------- which jobs


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the jobs, and those of Hydra's launcher.

    Raises:
        ConfigError: a setting of Hydra's that a sweep cannot change.
    """
    jobs, hydra, problems = [], [], []
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0].partition("@")[0]
        if not re.match(r"hydra\b", key):
            jobs.append(text)
        elif key == "hydra/launcher" and text.startswith("hydra") and (name := text.partition("=")[2]) not in LAUNCHERS:
            problems.append(f"no launcher '{name}' that a sweep may use; {suggestion(name, LAUNCHERS)}")
        elif not re.fullmatch(r"\+{0,2}(hydra/launcher|hydra\.launcher(\.[a-zA-Z]\w*)+)=(?!.*\b_\w+_\b).*", text, re.S):
            problems.append(f"'{text}': of Hydra's own settings, only hydra/launcher and hydra.launcher.… can change")
        else:
            hydra.append(text)
    if problems:
        raise ConfigError(problems)
    return jobs, hydra


def expand(overrides: Sequence[str], directories: Sequence[Path]) -> list[list[str]]:
    """The overrides of each job: every combination of the values that are named, the last option varying fastest.

    Raises:
        ConfigError: an override that cannot be read or has no countable values, or too many jobs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import RangeSweep
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=config_loader(directories))
    choices: dict[str, list[str]] = {}
    problems = []
    for text in overrides:
        problem = size_problem(text)
        if problem:
            problems.append(problem)
            continue
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            choices[text] = [text]  # composing it reports what is wrong
            continue
        except Exception:  # the grammar's functions fail in ways of their own
            problems.append(f"'{text}': {UNREADABLE}")
            continue
        if not override.is_sweep_override():
            choices[override.key_or_group] = [text]
        elif not override.is_discrete_sweep():
            problems.append(f"'{text}' has no countable values; write choice(…) or range(…)")
        else:
            key, value = override.get_key_element(), override.value()
            if isinstance(value, RangeSweep) and _span(value) > MAX_JOBS * abs(float(value.step)):
                problems.append(f"'{text}': a sweep of more than {MAX_JOBS:,} jobs; name fewer values")
                continue
            try:
                values = list(itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1))
            except Exception:
                problems.append(f"'{text}': {UNREADABLE}")
                continue
            if not values:
                problems.append(f"'{text}' stands for no value")
            choices[override.key_or_group] = [f"{key}={value}" for value in values]
    count = math.prod(len(values) for values in choices.values())
    if count > MAX_JOBS:
        problems.append(f"a sweep of more than {MAX_JOBS:,} jobs; name fewer values")
    if problems:
        raise ConfigError(problems)
    return [list(job) for job in itertools.product(*choices.values())]


def _span(value: Any) -> float:
    return abs(float(value.stop) - float(value.start))


def compose_jobs(jobs: Sequence[Sequence[str]], directories: Sequence[Path]) -> list[Composed]:
    """Compose and check every job.

    Raises:
        ConfigError: what is wrong, of all jobs together; a problem that only some have names the first of them.
    """
    composed = []
    problems: Counter[str] = Counter()
    first: dict[str, int] = {}
    known = cache(compose_choices)  # the same for all jobs that make the same choices
    for number, overrides in enumerate(jobs):
        try:
            composed.append(compose(overrides, directories, tree_of=lambda *chosen: copy.deepcopy(known(*chosen))))
        except ConfigError as error:
            for problem in dict.fromkeys(error.problems):
                problems[problem] += 1
                first.setdefault(problem, number)
    if problems:
        varying = {text for job in jobs for text in job if not all(text in other for other in jobs)}
        lines = []
        for problem, count in problems.items():
            at = " ".join(text for text in jobs[first[problem]] if text in varying)
            others = f" and {count - 1} more" if count > 1 else ""
            lines.append(problem if count == len(jobs) else f"{problem} (job {first[problem]}: {at}{others})")
        raise ConfigError(lines)
    return composed


# ---------------------------------------------------------------------- starting and resuming


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
        server = stack.enter_context(Server(spawn=bool(gpus()), warm=WARM)) if names_own_launcher(hydra) else None
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
    problems = [
        problem
        for job in found.unfinished
        for problem in check(job.content["config"], job.content["choices"], list(directories))
    ]
    if problems:
        named = found.content.get("plugins") or []
        if named and any("is not registered" in problem for problem in problems):
            problems.append(f"the sweep was started with {' '.join(f'--plugin {name}' for name in named)}")
        raise ConfigError(dict.fromkeys(problems))
    numbers = [job.number for job in found.unfinished]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(spawn=bool(gpus()), warm=WARM)) if launcher == "dlcli" and numbers else None
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
        if job.config["init_from"] is not None:  # named as seen from the folder of runs, not from the sweep's
            job.config["init_from"] = str(find(job.config["init_from"], parent).resolve())
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
        with _reported():
            try:
                Hydra(task_name="dlcli", config_loader=config_loader([], ours=False)).multirun(
                    None, jobs, _hydra_overrides(hydra, jobs.folder), with_log_configuration=False
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
            f"stopped with {len(found.unfinished)} of {len(found.jobs)} jobs left; "
            f"continue with: dlcli train --resume {jobs.folder}",
            received,
        )
    if found.unfinished:
        raise SweepError(
            f"{len(found.unfinished)} of {len(found.jobs)} jobs have no result; "
            f"run them again with: dlcli train --resume {jobs.folder}"
        )
    return found


def _hydra_overrides(hydra: Sequence[str], folder: Path) -> list[str]:
    """Hydra's settings in a sweep: our sweeper and launcher unless another is named, and no files of Hydra's own."""
    from hydra.core.override_parser.types import Quote, QuotedString

    where = QuotedString(str(folder.resolve()).replace("${", r"\${"), Quote.single).with_quotes()
    named = [] if any(text.lstrip("+").startswith("hydra/launcher=") for text in hydra) else ["hydra/launcher=dlcli"]
    quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null", "hydra.job.chdir=false"]
    return [*named, "hydra/sweeper=dlcli", *quiet, f"hydra.sweep.dir={where}", f"hydra.sweep.subdir={JOBS}", *hydra]


def names_own_launcher(hydra: Sequence[str]) -> bool:
    """Whether these settings leave the jobs to the launcher of dlcli."""
    return {text.partition("=")[2] for text in hydra if text.startswith("hydra/launcher=")} <= {"dlcli"}


def check_launcher(hydra: Sequence[str]) -> str:
    """The name of the launcher that Hydra would use.

    Raises:
        ConfigError: it is not installed, its options are wrong, or Hydra would execute anything else.
    """
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    with _reported():
        tree = config_loader([], ours=False).load_configuration(
            None, _hydra_overrides(hydra, Path()), run_mode=RunMode.MULTIRUN, from_shell=False
        )
        node: Any = OmegaConf.to_container(tree.hydra, resolve=False)
        n_jobs = tree.hydra.launcher.get("n_jobs")
    name = str(tree.hydra.runtime.choices["hydra/launcher"])
    targets = [[value for key, value in node[part].items() if key[0] == "_"] for part in ("launcher", "sweeper")]
    if node["callbacks"] or targets != [[LAUNCHERS.get(name)], [SWEEPER]]:
        raise ConfigError("Hydra's launcher, sweeper or callbacks are not those that a sweep may use")
    if name == "dlcli" and n_jobs is not None and not n_jobs > 0:
        raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: expected a whole number of at least 1")
    return name


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Hydra's own complaints as problems of the command line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        missing = re.search(r"Could not find 'hydra/launcher/(\w+)'", str(error))
        if missing is not None:
            package = INSTALL.get(missing[1], missing[1])
            raise ConfigError(f"hydra/launcher={missing[1]} is not installed: pip install {package}") from None
        raise ConfigError(first_line(error)) from None


# ---------------------------------------------------------------------- running


class Jobs:
    """The jobs to run: what Hydra's launchers call for each job, and what our own launcher runs.

    Args:
        folder: the sweep's. numbers: of the jobs in it; Hydra counts them from 0.
        server: of the processes that our launcher starts; None for other launchers.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Sequence[int],
        plugins: Sequence[str],
        *,
        server: Server | None = None,
        quiet: bool = False,
    ):
        self.folder = folder
        self.numbers = list(numbers)
        self.plugins = list(plugins)
        self.server = server
        self.progress = SweepProgress(folder, quiet=quiet)
        self.received: int | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "server": None}  # other launchers send this to their processes

    def __call__(self, config: Any) -> None:
        """Run the job that another launcher has started this process for; its output goes to its log."""
        from hydra.core.hydra_config import HydraConfig

        from dlcli import runtime

        runtime.prepare_environment()
        from dlcli.sweep_job import run_job

        number = self.numbers[int(HydraConfig.get().job.num)]
        log = read_job(self.folder, number).log
        with log.open("a", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
            code = run_job(str(self.folder), number, self.plugins)
        if code in (130, 143):
            raise KeyboardInterrupt

    def launch(self, indices: Sequence[int], n_jobs: int | None) -> None:
        """Run jobs in processes of this machine, ``n_jobs`` at a time, and see each to its end."""
        assert self.server is not None
        devices = gpus()
        slots = min(len(indices), n_jobs or default_n_jobs(len(devices)))
        environments = [environment(slot, slots, devices) for slot in range(slots)]
        waiting = deque(self.numbers[index] for index in indices)
        running: dict[int, tuple[int, Child]] = {}  # number of the job and its process, by slot
        self.progress.start([read_job(self.folder, number) for number in waiting], slots)
        try:
            with Interruption() as interruption:
                while waiting or running:
                    for slot, (number, child) in list(running.items()):
                        code = child.poll()
                        if code is not None:
                            del running[slot]
                            self._settle(number, code)
                    if interruption.received is not None and self.received is None:
                        self.received = interruption.received
                        waiting.clear()
                        self.server.signal(signal.SIGINT)
                        self.progress.say("stopping: the running jobs finish a step and are saved")
                    for slot in [slot for slot in range(slots) if slot not in running][: len(waiting)]:
                        number = waiting.popleft()
                        running[slot] = number, self._start(number, environments[slot])
                    self.progress.update([number for number, _ in running.values()])
                    self.server.listen(LOOK_SECONDS if running else 0.0)
        finally:
            self.progress.stop()

    def _start(self, number: int, variables: dict[str, str]) -> Child:
        assert self.server is not None
        update_job(self.folder, number, status=WAITING, cause=None, device=variables.get("CUDA_VISIBLE_DEVICES"))
        job = read_job(self.folder, number)
        arguments = {"folder": str(self.folder), "number": number, "plugins": self.plugins}
        child = self.server.start("dlcli.sweep_job:run_job", arguments, variables, job.log)
        self.progress.started(job)
        return child

    def _settle(self, number: int, code: int) -> None:
        """A process has ended: the record says how, whether the job itself could write it or not."""
        job = read_job(self.folder, number)
        if job.status not in ("finished", "stopped", "failed"):
            if self.received is not None:
                update_job(self.folder, number, status="stopped", cause="stopped before the first step", exit_code=code)
            elif code < 0:
                name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
                cause = f"killed by signal {-code} ({name})"
                update_job(self.folder, number, status="killed", cause=cause, exit_code=code)
            else:
                cause = f"ended with exit code {code} before it could say why; see {job.log}"
                update_job(self.folder, number, status="failed", cause=cause, exit_code=code)
        self.progress.ended(read_job(self.folder, number))


def environment(slot: int, slots: int, devices: Sequence[str]) -> dict[str, str]:
    """The variables of a job's process: its share of the cores, and one device."""
    variables = {"OMP_WAIT_POLICY": "passive"}
    variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(max(1, available_cores() // slots))
    if devices:
        variables["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return variables


def default_n_jobs(devices: int) -> int:
    """Jobs at a time: one per GPU; without any, as many as there are cores and gigabytes of free memory, at most 8."""
    if devices:
        return devices
    import psutil

    return max(1, min(8, available_cores(), psutil.virtual_memory().available // MEMORY_OF_A_JOB))


def gpus(folder: Path = Path("/dev")) -> list[str]:
    """What CUDA_VISIBLE_DEVICES can name: what it names already, else each NVIDIA device of this machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    count = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in folder.glob("nvidia*"))
    return [str(index) for index in range(count)]
