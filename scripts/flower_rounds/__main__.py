"""The command line: ``scripts/flower [OVERRIDE...]``, ``server ADDRESS [OVERRIDE...]`` or ``client ADDRESS NUMBER``."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from dlcli.config import compose
from dlcli.errors import ConfigError

APP = Path(__file__).parent
HELP = """usage: scripts/flower [OVERRIDE...]                  a server and its clients on this machine
       scripts/flower server ADDRESS [OVERRIDE...]   a server alone, which waits for its clients
       scripts/flower client ADDRESS NUMBER          one of the clients, from 0

Federated averaging over Flower. Overrides are those of dlcli train; trainer.clients says how many clients there are.
The run lies in runs/ of the server, and its clients need the data that it names, of which each trains on its own part.
ADDRESS is HOST:PORT of the server. Nothing is encrypted, and clients run what the server sends: use a trusted network.

examples:
  scripts/flower experiment=gdl/federated_spam_small_batches trainer.rounds=3
  scripts/flower server 0.0.0.0:9092 experiment=gdl/federated_spam trainer.clients=2
  scripts/flower client 192.168.0.7:9092 0"""

LEFT_OUT = {
    "client_fraction": 1.0,
    "secure_aggregation": "none",
    "drop_out": 0.0,
    "clip_norm": None,
    "noise_multiplier": None,
    "show_leak": False,
}
"""Options that only dlcli's own rounds have, at the values that Flower's rounds amount to."""
START_SECONDS = 60


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    try:
        match arguments:
            case ["-h" | "--help"]:
                print(HELP)
                return 0
            case ["client", address, number] if number.isdecimal():
                return client(address, int(number))
            case ["client", *_]:
                raise ConfigError(f"{shlex.join(arguments)}: expected client HOST:PORT NUMBER, with a number from 0")
            case ["server", address, *overrides]:
                checked(overrides)
                return serve(address, overrides, clients=0)
            case ["server"]:
                raise ConfigError("server: expected server HOST:PORT [OVERRIDE...]")
            case overrides:
                clients = checked(overrides)["clients"]
                if clients is None:
                    raise ConfigError(
                        "trainer.clients=null: start server and clients on their own, or set their number"
                    )
                return serve(f"127.0.0.1:{free_port()}", overrides, clients=clients)
    except ConfigError as error:
        print(f"scripts/flower: {error}", file=sys.stderr)
        return 2


def checked(overrides: list[str]) -> Mapping[str, Any]:
    """The trainer's options.

    Raises:
        ConfigError: a configuration that ``dlcli train`` refuses, or one that Flower's rounds cannot follow.
    """
    config = compose(overrides).config
    trainer: dict[str, Any] = config["trainer"]
    if config["init_from"] is not None:
        raise ConfigError(f"init_from={config['init_from']}: over Flower runs begin from their seed; use dlcli train")
    if trainer["name"] != "federated_averaging":
        raise ConfigError(f"trainer '{trainer['name']}': only trainer=federated_averaging has clients")
    for option, value in LEFT_OUT.items():
        if trainer[option] != value:
            raise ConfigError(
                f"trainer.{option}={trainer[option]}: not offered over Flower; leave it out, or use dlcli train"
            )
    return trainer


def serve(address: str, overrides: list[str], clients: int) -> int:
    """A server, and so many clients beside it, until the run is finished. Returns 1 if it failed."""
    host, port = split(address)
    with tempfile.TemporaryDirectory(prefix="flower-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        link = ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
        children = {"server": stack.enter_context(started([*link, "--host", host, "--port", port], folder / "server"))}
        local = f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        wait_for(local, children["server"])
        for number in range(clients):
            name = f"client{number}"
            children[name] = stack.enter_context(started(node(local, number), folder / name))
        home = folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(f'[superlink.here]\naddress = "{local}"\ninsecure = true\n')
        options = home / "options.toml"
        options.write_text(f"overrides = {json.dumps(shlex.join(overrides))}\n")  # a string of JSON is one of TOML
        run = ["flwr", "run", str(APP), "here", "--stream", "--run-config", str(options)]
        stream = stack.enter_context(started(run, home, quiet=False))
        while stream.poll() is None:
            time.sleep(0.5)
            ended = [name for name, child in children.items() if child.poll() is not None]
            if ended:
                print((folder / ended[0] / "log").read_text(), file=sys.stderr)
                raise ConfigError(f"{ended[0]} has ended; its log is above")
        if stream.returncode:
            return 1
        runs = ["flwr", "ls", "here", "--format", "json"]
        listed = subprocess.run(runs, env=variables(home), stdout=subprocess.PIPE, check=True)
        return int(json.loads(listed.stdout)["runs"][0]["status"] != "finished:completed")


def client(address: str, number: int) -> int:
    """One client, until the server has been gone for a minute."""
    split(address)
    with tempfile.TemporaryDirectory(prefix="flower-") as home:
        with started(node(address, number), Path(home), quiet=False) as child:
            return child.wait()


def node(address: str, number: int) -> list[str]:
    """The command of a client."""
    own = ["--host", "127.0.0.1", "--port", str(free_port()), "--max-wait-time", str(START_SECONDS)]
    return ["flower-supernode", "--insecure", "--superlink", address, "--node-config", f"client={number}", *own]


def variables(home: Path) -> dict[str, str]:
    """The environment of a process whose files of Flower are in ``home``."""
    return {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(home)}


@contextmanager
def started(command: list[str], home: Path, *, quiet: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended at the end, with all that it has started; if ``quiet``, it writes to ``home/log``."""
    home.mkdir(exist_ok=True)
    with (home / "log").open("wb") as log:
        output = log if quiet else None
        child = subprocess.Popen(
            command, env=variables(home), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield child
        finally:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(child.pid, signal.SIGTERM)
                child.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """
    Raises:
        ConfigError: nobody listens there within a minute, or the server has ended.
    """
    host, port = split(address)
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > end:
                raise ConfigError(f"{address}: Flower's server does not answer here ({error})") from error
            time.sleep(0.2)


def split(address: str) -> tuple[str, str]:
    """Host and port of an address.

    Raises:
        ConfigError: it is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{address}: expected an address HOST:PORT")
    return host, port


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # so that what was started is ended
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    sys.exit(main(sys.argv[1:]))
