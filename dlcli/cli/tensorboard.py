"""``dlcli tensorboard``: TensorBoard on the folder of runs, for this machine only."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from dlcli.cli.options import RunDir, run_folder

LOOPBACK = "127.0.0.1"
PORT = 6006

EXAMPLE = """\b
Example:
  dlcli tensorboard --port 6007    then open http://127.0.0.1:6007/"""


def tensorboard(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Where to listen; without it 6006, or a free one if that is taken."),
    ] = None,
    run_dir: RunDir = None,
) -> None:
    """Show the runs in TensorBoard.

    It listens on this machine only, until Ctrl-C ends it.
    """
    from importlib.util import find_spec

    from dlcli.errors import ConfigError

    folder = run_folder(run_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of runs; begin a run with 'dlcli train' or give --run-dir")
    if find_spec("tensorboard") is None:
        raise ConfigError("TensorBoard is not installed: pip install tensorboard")
    if port is not None and not _is_free(port):
        raise ConfigError(f"port {port} is taken; give another one with --port")
    if port is None:
        port = PORT if _is_free(PORT) else _free_port()
    print(f"TensorBoard shows {folder} at http://{LOOPBACK}:{port}/ (Ctrl-C ends it)", flush=True)
    # The process becomes TensorBoard: there is no child that could be left behind.
    command = ["-m", "tensorboard.main", "--logdir", str(folder), "--host", LOOPBACK, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *command, "--load_fast", "false"])


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
