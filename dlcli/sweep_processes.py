"""The processes of a sweep's jobs: what Hydra calls for each job, and our own launcher. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlcli.interruption import Interruption
from dlcli.processes import Child, Server
from dlcli.registry import REGISTRIES
from dlcli.runtime import available_cores
from dlcli.sweep_progress import SweepProgress
from dlcli.sweep_records import WAITING, read_job, update_job

LOOK_SECONDS = 0.1  # between two looks for a signal; the end of a job is noticed at once
MEMORY_OF_A_JOB = 2**30  # bytes that a job is expected to need, for how many run at a time unless the user says

WARM = (
    *("torch", "dlcli.sweep_job", "dlcli.start", "dlcli.trainers.minibatch", "numpy.random", "psutil"),
    *("tensorboard.compat.proto.event_pb2", "tensorboard.compat.proto.summary_pb2"),
    *("tensorboard.plugins.text.metadata", "tensorboard.plugins.hparams.plugin_data_pb2"),
    *("PIL.ImageDraw", "PIL.ImageFont", "PIL.PngImagePlugin", "torch.nested._internal.nested_tensor"),
)
"""What nearly every job needs: imported once, before the jobs are forked."""


def job_server() -> Server:
    """The process that starts each job's own; it imports what the jobs need while the caller goes on."""
    return Server(spawn=bool(gpus()), warm=WARM)


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

        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # other jobs compute beside this one, or soon will
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
        jobs = [read_job(self.folder, number) for number in waiting]
        self.server.prepare("dlcli.sweep_job:warm", {"names": entries([job.content["config"] for job in jobs])})
        self.progress.start(jobs, slots)
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


def entries(configs: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of the entries that composed configurations use, by group."""
    chosen = {(group, config[group]["name"]) for config in configs for group in REGISTRIES.keys() & config.keys()}
    return {group: sorted(name for of, name in chosen if of == group) for group in REGISTRIES}


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
