"""The helper that other tests trust: exit codes, signals, time limits, one thread, torch already there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.kill_server import run_in_fork, start_in_fork


def leave(status: int) -> None:
    sys.exit(status)


def look(file: Path) -> None:
    ready = "torch" in sys.modules
    import torch

    torch.ones(1_000_000).mul_(2).sum().item()  # parallel work: hangs if there were other threads
    file.write_text(f"{ready} {torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']}")


def sleep(file: Path) -> None:
    file.touch()
    time.sleep(100)


@pytest.mark.parametrize("status", [0, 3])
def test_exit_codes(status: int) -> None:
    assert run_in_fork(leave, status) == status


def test_torch_is_imported_and_has_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run_in_fork(look, tmp_path / "seen") == 0
    assert (tmp_path / "seen").read_text().split()[:2] == ["True", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_arrive(tmp_path: Path, number: signal.Signals) -> None:
    process = start_in_fork(sleep, tmp_path / "started")
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == -number


def test_a_run_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="sleep ran for more than"):
        run_in_fork(sleep, tmp_path / "started", timeout=0.5)
