"""Child processes: exit codes, signals, logs, threads; nothing survives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dlcli.processes import Child, Server

ROOT = Path(__file__).parents[1]
WAIT = 60.0  # only against hanging


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(warm=["tests.support.jobs"]) as server:
        yield server


def until_written(file: Path) -> list[int]:
    """The process ids that a job has announced."""
    end = time.monotonic() + WAIT
    while not file.exists():
        assert time.monotonic() < end, f"{file} was never written"
        time.sleep(0.02)
    return [int(number) for number in file.read_text().split()]


def until_gone(pid: int) -> None:
    end = time.monotonic() + WAIT
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, f"{pid} is still there"
        time.sleep(0.02)


def test_the_exit_code_is_what_the_function_returns(server: Server):
    children = [server.start("dlcli.jobs:leave", {"code": code}) for code in (0, 3, 143)]
    assert [child.wait(WAIT) for child in children] == [0, 3, 143]
    assert children[1].poll() == 3


def test_an_exception_is_1_and_its_traceback_goes_to_the_log(server: Server, tmp_path: Path):
    log = tmp_path / "log"
    assert server.start("dlcli.jobs:fail", {}, log=log).wait(WAIT) == 1
    assert "ValueError: it went wrong" in log.read_text()


def test_one_of_our_errors_is_one_line_and_its_own_code(server: Server, tmp_path: Path):
    log = tmp_path / "log"
    child = server.start("dlcli.runtime:resolve_device", {"name": "abacus"}, log=log)
    assert child.wait(WAIT) == 2
    assert log.read_text().startswith("dlcli: trainer.device=abacus: expected auto")
    assert log.read_text().count("\n") == 1


@pytest.mark.parametrize("function", ["os:system", "dlcli:train", "subprocess:run", "dlcli.x", "dlcli.a:b.c"])
def test_only_functions_of_the_package_are_started(server: Server, function: str):
    with pytest.raises(ValueError, match=r"expected a function of this package"):
        server.start(function, {})


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_are_set_after_the_fork_and_work(server: Server, tmp_path: Path, threads: int | None):
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    child = server.start("dlcli.jobs:multiply", {"file": str(tmp_path / "result")}, environment)
    assert child.wait(WAIT) == 0
    assert (tmp_path / "result").read_text() == f"{threads or 1} 250000"


def test_signals_reach_the_process_and_kill_its_group(server: Server, tmp_path: Path):
    children: list[Child] = []
    for name in ("a", "b", "c"):
        children.append(server.start("dlcli.jobs:announce_and_wait", {"file": str(tmp_path / name)}))
        assert until_written(tmp_path / name)[0] == children[-1].pid
        assert os.getpgid(children[-1].pid) == children[-1].pid
    with pytest.raises(TimeoutError, match=r"still runs after 0\.05 s"):
        children[0].wait(0.05)
    children[0].signal(signal.SIGTERM)
    children[1].signal(signal.SIGINT)
    children[2].kill()
    assert [child.wait(WAIT) for child in children] == [-signal.SIGTERM, 130, -signal.SIGKILL]
    children[0].signal(signal.SIGTERM)  # too late: nothing happens


def test_the_end_of_the_server_is_the_end_of_its_jobs(tmp_path: Path):
    with Server(warm=["tests.support.jobs"]) as server:
        child = server.start("dlcli.jobs:announce_and_wait", {"file": str(tmp_path / "pid")})
        _, parent = until_written(tmp_path / "pid")
    assert not psutil.pid_exists(child.pid)
    assert not psutil.pid_exists(parent)
    assert child.poll() == -signal.SIGKILL


def test_a_server_that_is_killed_takes_its_jobs_with_it(tmp_path: Path):
    with Server(warm=["tests.support.jobs"]) as server:
        child = server.start("dlcli.jobs:announce_and_wait", {"file": str(tmp_path / "pid")})
        _, parent = until_written(tmp_path / "pid")
        os.kill(parent, signal.SIGKILL)
        assert child.wait(WAIT) == -signal.SIGKILL
        with pytest.raises(RuntimeError, match=r"server of child processes has ended"):
            server.start("dlcli.jobs:leave", {"code": 0})
    until_gone(child.pid)


def test_a_killed_parent_leaves_no_orphan(tmp_path: Path):
    file = tmp_path / "pid"
    code = (
        "import time; from dlcli.processes import Server; server = Server(warm=['tests.support.jobs']);"
        f"server.start('dlcli.jobs:announce_and_wait', {{'file': {str(file)!r}}}); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    pids = until_written(file)
    parent.kill()
    parent.wait()
    for pid in pids:
        until_gone(pid)


def test_a_fresh_interpreter_has_the_search_path_and_the_environment(tmp_path: Path):
    log = tmp_path / "log"
    arguments = {"arguments": ["--version"]}
    with Server(spawn=True) as server:
        assert server.start("dlcli.__main__:run", arguments, log=log).wait(WAIT) == 0
        assert server.start("dlcli.__main__:run", {"arguments": ["nothing"]}, log=log).wait(WAIT) == 2
    assert log.read_text().startswith("dlcli ")
    assert "no verb 'nothing'" in log.read_text()
