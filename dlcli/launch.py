"""From a checked configuration to a run on one process or many.

``trainer.devices=N`` starts N processes here, watches them, passes signals on to them, and ends all when one fails.
Under a launcher such as torchrun this process is one of many already, and joins the others.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcli import runtime
from dlcli.errors import ConfigError, DataError, DlcliError, Interrupted, NonFiniteError, ResourceError
from dlcli.hydra_composition import Composed
from dlcli.interruption import Interruption
from dlcli.processes import Child, Server
from dlcli.run_records import read_json, write_json

if TYPE_CHECKING:
    from torch import nn

    from dlcli.distributed import Group
    from dlcli.run import Run

LOOK_SECONDS = 0.05  # between two looks at the processes
GRACE_SECONDS = 5.0  # for the others to end by themselves after one has failed, so that they can say why and save
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def begin(
    composed: Composed, *, command: str = "", plugins: Sequence[str] = (), quiet: bool = False, resume: Path | None
) -> Run | Launch:
    """A run that is ready to ``train()``, on as many processes as the configuration or the environment says.

    Args:
        composed: the checked configuration.
        command: what the person typed.
        plugins: to be named again when the run is opened.
        quiet: print nothing.
        resume: the folder of the run to continue; None begins one.

    Raises:
        ConfigError: more processes than GPUs, or another number than torchrun started.
    """
    trainer = composed.config["trainer"]
    place = launched()
    devices = trainer.get("devices", 1)
    if place is not None:
        if "devices" not in trainer:
            raise ConfigError(f"trainer '{trainer['name']}' works in one process; start it without a launcher")
        if devices not in (1, place["size"]):
            raise ConfigError(
                f"trainer.devices={devices}: the launcher has started {place['size']} processes; leave the option out"
            )
        trainer["devices"] = devices = place["size"]
    processes = 1 if devices == 1 else place["local_size"] if place else devices
    if devices > 1 and place is None:
        runtime.prepare_environment(processes)
        return Launch(composed, command=command, plugins=plugins, quiet=quiet, resume=resume)
    runtime.import_torch(processes)
    return _open(composed, join(trainer, None, **place) if place else None, command, plugins, quiet, resume)


def launched() -> dict[str, int] | None:
    """This process's place (rank, size, local_rank, local_size) if torchrun or the like started it, else None."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    return {
        "rank": rank,
        "size": size,
        "local_rank": local_rank,
        "local_size": int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    }


def join(
    trainer: Mapping[str, Any], store: Path | None, *, rank: int, size: int, local_rank: int, local_size: int
) -> Group:
    """Make this process one of the group; waits for the others."""
    from dlcli.distributed import Group, own_device

    device = own_device(runtime.resolve_device(trainer["device"]), local_rank, local_size)
    return Group(device, timeout=trainer["process_timeout"], rank=rank, size=size, store=store)


def _open(
    composed: Composed, group: Group | None, command: str, plugins: Sequence[str], quiet: bool, resume: Path | None
) -> Run:
    from dlcli import start

    if resume is not None:
        return start.resume(resume, composed, plugins=plugins, quiet=quiet, group=group)
    return start.start(composed, command=command, plugins=plugins, quiet=quiet, group=group)


class Launch:
    """A run on several processes of this machine, as the process sees it that starts them.

    Attributes:
        directory: the run's folder, known when ``train`` has ended. config: as it was given.
    """

    def __init__(self, composed: Composed, *, command: str, plugins: Sequence[str], quiet: bool, resume: Path | None):
        """
        Raises:
            ConfigError: more processes than GPUs, or a device that cannot be shared out.
        """
        self.composed = composed
        self.config = composed.config
        self.size: int = composed.config["trainer"]["devices"]
        self.plugins = list(plugins)
        self.directory = resume
        self.order = {"command": command, "plugins": self.plugins, "quiet": quiet, "resume": resume and str(resume)}
        name = self.config["trainer"]["device"]
        self.cuda = False
        if name != "cpu":  # which needs no torch here
            from dlcli.distributed import own_device

            self.cuda = own_device(runtime.resolve_device(name), 0, self.size).type == "cuda"

    @property
    def summary(self) -> dict[str, Any]:
        """What the run has recorded."""
        assert self.directory is not None
        summary: dict[str, Any] = read_json(self.directory / "summary.json")
        return summary

    @cached_property
    def model(self) -> nn.Module:
        """The network with the best weights."""
        from dlcli import plugins
        from dlcli.saved_run import SavedRun

        assert self.directory is not None
        return SavedRun(self.directory, directories=plugins.load(self.plugins), device="cpu").model

    def train(self) -> None:
        """Start the processes and wait for them.

        Raises:
            DlcliError: a process failed: its message and exit code. Interrupted: a signal came, and the run is saved.
        """
        loopback = LOOPBACK.get(sys.platform, "")
        environment = {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
        if loopback:
            environment |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
        with (
            tempfile.TemporaryDirectory(prefix="dlcli-") as folder,
            Server(spawn=self.cuda) as server,
            Interruption() as interruption,
        ):
            reports = Path(folder)
            children = []
            for rank in range(self.size):
                arguments = {
                    "config": self.config,
                    "choices": dict(self.composed.choices),
                    "rank": rank,
                    "folder": folder,
                    **self.order,
                }
                log = reports / f"{rank}.log" if rank else None  # the main one speaks to the person
                children.append(server.start("dlcli.launch:work", arguments, environment, log))
            try:
                self._watch(children, reports, server, interruption)
            finally:
                for child in children:
                    child.kill()
                    child.wait(GRACE_SECONDS)
                record = _report_of(reports, 0)
                if record.get("directory"):
                    self.directory = Path(record["directory"])

    def _watch(self, children: list[Child], reports: Path, server: Server, interruption: Interruption) -> None:
        """Wait until all have ended well; pass a signal on; raise what the first that failed has to say."""
        passed_on = failed_at = None
        while True:
            codes = [child.poll() for child in children]
            if all(code == 0 for code in codes):
                return
            if interruption.received is not None and passed_on is None:
                server.signal(interruption.received)
                passed_on = interruption.received
            failed = [rank for rank, code in enumerate(codes) if code and not _report_of(reports, rank).get("stopped")]
            if failed and failed_at is None:
                failed_at = time.monotonic()
            if all(code is not None for code in codes) or (
                failed_at is not None and time.monotonic() > failed_at + GRACE_SECONDS
            ):
                break
            time.sleep(LOOK_SECONDS)
        _raise_cause(codes, [_report_of(reports, rank) for rank in range(self.size)], passed_on, self.config)


def _raise_cause(
    codes: Sequence[int | None], reports: Sequence[Mapping[str, Any]], signal: int | None, config: Mapping[str, Any]
) -> None:
    """Raise the error that explains best why the processes have ended.

    Args:
        codes: of each process; None for one that would not end.
        reports: what each has written down about its failure.
        signal: what the person sent, or None.
    """
    ranks = range(len(codes))
    stopped = next((report for report in reports if report.get("stopped")), None)
    failed = [rank for rank in ranks if codes[rank] not in (None, 0) and not reports[rank].get("stopped")]
    if stopped is not None and not failed:
        raise Interrupted(stopped["problems"][0], stopped["code"] - 128)
    if signal is not None and any(codes[rank] in (-signal, 128 + signal) for rank in failed):
        raise Interrupted("stopped before the first step", signal)
    directory = next((report["directory"] for report in reports if "directory" in report), "RUN")
    remedy = f"continue with: dlcli train --resume {directory}"
    told = [rank for rank in failed if "problems" in reports[rank] and not reports[rank]["lost"]]
    killed = [rank for rank in failed if "problems" not in reports[rank]]
    if killed:
        rank = killed[0]
        code = codes[rank] or 1
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise DlcliError(f"process {rank} of {len(codes)} {how}; {remedy}")
    if told:
        raise _error(reports[told[0]], "" if told[0] == 0 else f"process {told[0]} of {len(codes)}: ")
    hung = [rank for rank in ranks if codes[rank] is None]
    if hung:
        raise DlcliError(
            f"process {hung[0]} of {len(codes)} did not answer for trainer.process_timeout="
            f"{config['trainer']['process_timeout']:g} seconds; {remedy}"
        )
    raise _error(reports[failed[0]], f"process {failed[0]} of {len(codes)}: ")


def _error(report: Mapping[str, Any], prefix: str) -> DlcliError:
    """The error that a process has reported."""
    kinds = {kind.exit_code: kind for kind in (ConfigError, DataError, NonFiniteError, ResourceError)}
    return kinds.get(report["code"], DlcliError)("\n".join(prefix + problem for problem in report["problems"]))


def _report_of(folder: Path, rank: int) -> dict[str, Any]:
    file = folder / f"{rank}.json"
    report: dict[str, Any] = read_json(file) if file.exists() else {}
    return report


# ---------------------------------------------------------------------- in each process


def work(
    config: dict[str, Any],
    choices: dict[str, str | None],
    rank: int,
    folder: str,
    command: str,
    plugins: list[str],
    quiet: bool,
    resume: str | None,
) -> int:
    """One process of a ``Launch``. Writes ``<rank>.json`` into the folder if it fails, and the main one in any case."""
    from dlcli import plugins as plugin_loader

    run = None
    try:
        plugin_loader.load(plugins)
        trainer = config["trainer"]
        size = trainer["devices"]
        store = Path(folder) / "store"
        group = join(trainer, store, rank=rank, size=size, local_rank=rank, local_size=size)
        directory = None if resume is None else Path(resume)
        run = _open(Composed(config, choices), group, command, plugins, quiet, directory)
        run.train()
        group.leave()
        report: dict[str, Any] = {"code": 0}
    except DlcliError as error:
        report = _told(error, getattr(error, "problems", None) or str(error).split("\n"))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        report = _told(error, [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"])
        report["problems"][0] += f"; the traceback is in {_keep_traceback(run, rank)}"
    if run is not None and run.directory is not None:
        report["directory"] = str(run.directory)
    write_json(Path(folder) / f"{rank}.json", report)
    return int(report["code"])


def _told(error: Exception, problems: Sequence[str]) -> dict[str, Any]:
    from dlcli.distributed import LostError

    return {
        "code": getattr(error, "exit_code", 1),
        "problems": list(problems),
        "lost": isinstance(error, LostError),
        "stopped": isinstance(error, Interrupted),
    }


def _keep_traceback(run: Run | None, rank: int) -> str:
    if run is not None and run.directory is not None:
        file = run.directory / f"traceback-{rank}.txt"
    else:
        file = Path(tempfile.gettempdir()) / f"dlcli-traceback-{os.getpid()}.txt"
    file.write_text(traceback.format_exc(), encoding="utf-8")
    return str(file)
