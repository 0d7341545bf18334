"""``dlcli tensorboard``: for this machine only, and gone when it is ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from dlcli import registry

ROOT = Path(registry.__file__).parent.parent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: no such folder of runs; begin a run with 'dlcli train' or give --run-dir"),
        (["--port", "0"], "see 'dlcli tensorboard --help'"),
        (["--port", "70000"], "see 'dlcli tensorboard --help'"),
        (["--bind_all"], "no option '--bind_all' of 'dlcli tensorboard'"),
    ],
)
def test_what_cannot_be_started_is_refused(dlcli, arguments, message):
    code, out, err = dlcli("tensorboard", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_port_that_is_taken(dlcli, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = dlcli("tensorboard", "--run-dir", tmp_path, "--port", port)
    assert (code, err) == (2, f"dlcli: port {port} is taken; give another one with --port\n")


def test_without_tensorboard(dlcli, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, _, err = dlcli("tensorboard", "--run-dir", tmp_path)
    assert (code, err) == (2, "dlcli: TensorBoard is not installed: pip install tensorboard\n")


def test_it_serves_the_loopback_only_and_ends_with_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "dlcli", "tensorboard", "--run-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # What runs in a shell's background inherits that Ctrl-C is ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as server:
        try:
            line = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert address, line
            _wait_for(address[0])
            process = psutil.Process(server.pid)
            listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert listening == ["127.0.0.1"]
            assert process.children() == []
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)
        finally:
            server.kill()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline, "TensorBoard does not answer"
            time.sleep(0.2)
