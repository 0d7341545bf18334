"""Child processes: started in 0.1 s from a server that has torch imported, watched, signalled and never orphaned.

A server process is the parent of all jobs. It forks itself for each one, or starts a fresh interpreter (``spawn``),
reaps them, reports their exit codes, and takes them with it when it ends; and it ends when its socket closes, so also
when the process that started it is killed. It has one OpenMP thread and computes nothing: a fork has no other threads
than the one that forked, and would wait for them for ever.

Out of scope: what a job does, whether it is tried again, which device it uses.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from dlcli.errors import DlcliError

FUNCTION = re.compile(r"(dlcli(?:\.\w+)+):(\w+)")
LOOK_SECONDS = 0.1  # between two looks of a wait, since another thread may have read the answer
WATCH_SECONDS = 0.5  # between two looks for the parent, on systems that send no signal at its death
END_SECONDS = 10.0  # for the server to end its jobs and itself
PR_SET_PDEATHSIG = 1
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


class Child:
    """One job. ``pid`` is its process, and the group of the processes that it starts."""

    def __init__(self, server: Server, number: int, pid: int):
        self.server = server
        self.number = number
        self.pid = pid

    def poll(self) -> int | None:
        """The exit code (minus a signal that ended it), or None while it runs. Never waits."""
        self.server.listen(0.0)
        return self.server._codes.get(self.number)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as soon as there is one.

        Raises:
            TimeoutError: the job still runs after ``timeout`` seconds.
        """
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            self.server.listen(min(LOOK_SECONDS, left))
        return code

    def signal(self, number: int) -> None:
        """Send a signal to the job's own process; nothing if it has ended."""
        self.server._send({"signal": int(number), "job": self.number, "group": False})

    def kill(self) -> None:
        """End the job at once, with the processes that it started."""
        self.server._send({"signal": int(signal.SIGKILL), "job": self.number, "group": True})


class Server:
    """Starts jobs. A context manager, at whose end every job that still runs is killed. May be used by many threads.

    Args:
        spawn: whether each job is a fresh interpreter (seconds, but it may use CUDA) and not a fork.
        warm: modules that the server imports, so that no job waits for them.
    """

    def __init__(self, *, spawn: bool = False, warm: Sequence[str] = ("torch", "dlcli.run")):
        self.spawn = spawn
        self._lock = threading.RLock()
        self._started: dict[int, int] = {}  # pid by job
        self._codes: dict[int, int] = {}  # exit code by job
        self._count = 0
        self._unread = b""
        self._socket, theirs = socket.socketpair()
        settings = {"socket": theirs.fileno(), "spawn": spawn, "warm": [] if spawn else list(warm)}
        with theirs:
            self._process = subprocess.Popen(
                _interpreter("serve", json.dumps(settings)),
                env={**os.environ, **({} if spawn else ONE_THREAD)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the starter alone, which passes on what it wants
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self,
        function: str,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Child:
        """Start ``function(**arguments)`` in a process of its own.

        What the function returns (int or None) is the exit code. An exception is 1 with a traceback on the standard
        error stream, one of ours its own code with one line. The process ends without running exit handlers.

        Args:
            function: "dlcli.module:function"; nothing outside the package can be named.
            arguments: values that JSON can hold.
            environment: changes to the environment of this process. ``OMP_NUM_THREADS`` sets the threads of torch,
                which has one otherwise (in a fresh interpreter: as many as this process would).
            log: a file that standard output and error are appended to; None shares those of this process.

        Raises:
            ValueError: ``function`` is not one of this package's. RuntimeError: the server has ended.
        """
        if FUNCTION.fullmatch(function) is None:
            raise ValueError(f"{function}: expected a function of this package, as dlcli.module:function")
        job = {"function": function, "arguments": dict(arguments), "environment": dict(environment or {})}
        with self._lock:
            self._count += 1
            number = self._count
            self._send({"start": {**job, "log": None if log is None else str(log)}, "job": number})
            while number not in self._started:
                if self._codes.get(number, self._codes.get(0)) is not None:
                    raise RuntimeError("the server of child processes has ended; its messages are above")
                self.listen(LOOK_SECONDS)
            return Child(self, number, self._started[number])

    def prepare(self, function: str, arguments: Mapping[str, Any]) -> None:
        """Call ``function(**arguments)`` in the server, so that later jobs have what it imports; spawned ones do not.

        A failure is of no consequence: the jobs that it concerns will say it.
        """
        if not self.spawn:
            self._send({"prepare": {"function": function, "arguments": dict(arguments)}})

    def signal(self, number: int) -> None:
        """Send a signal to every job that runs."""
        self._send({"signal": int(number), "job": None, "group": False})

    def close(self) -> None:
        """Kill the jobs that still run, and end the server."""
        with self._lock:
            if not self._started:  # it may still be importing, and has nothing to end
                self._process.kill()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            end = time.monotonic() + END_SECONDS
            while 0 not in self._codes and time.monotonic() < end:
                self.listen(LOOK_SECONDS)
            self._process.kill()
            self._process.wait()
            self._socket.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):  # a server that has ended is found by the next look
            self._socket.sendall(data)

    def listen(self, seconds: float) -> None:
        """Take in what the server has reported, such as the end of a job, waiting up to ``seconds`` for something."""
        with self._lock:
            if 0 in self._codes or not select.select([self._socket], [], [], seconds)[0]:
                return
            try:
                received = self._socket.recv(1 << 16)
            except OSError:
                received = b""
            if not received:  # the server is gone, and took its jobs with it
                self._codes[0] = -signal.SIGKILL
                for number in self._started:
                    self._codes.setdefault(number, -signal.SIGKILL)
                return
            *lines, self._unread = (self._unread + received).split(b"\n")
            for line in lines:
                report = json.loads(line)
                table = self._started if "pid" in report else self._codes
                table[report["job"]] = report.get("pid", report.get("code"))


# ---------------------------------------------------------------------- in the server


def serve(socket: int, spawn: bool, warm: Sequence[str]) -> None:
    """Serve one ``Server`` until it closes the socket with this file descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # until a job goes on from here: a collection would write to every page that the jobs share
    for module in warm:
        importlib.import_module(module)
    gc.freeze()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _Jobs(socket, spawn).serve()


class _Jobs:
    """The server's side: the running jobs, and the two things that can happen: a request, and the end of a job."""

    def __init__(self, descriptor: int, spawn: bool):
        self.socket = socket.socket(fileno=descriptor)
        self.socket.set_inheritable(False)
        self.spawn = spawn
        self.pid = os.getpid()
        self.pids: dict[int, int] = {}  # by job, of those that run
        self.ended, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        unread = b""
        while True:
            ready, _, _ = select.select([self.socket.fileno(), self.ended], [], [])
            if self.ended in ready:
                os.read(self.ended, 1 << 12)
                self.reap()
            if self.socket.fileno() in ready:
                try:
                    received = self.socket.recv(1 << 16)
                except OSError:
                    received = b""
                if not received:
                    break
                *lines, unread = (unread + received).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
        for pid in self.pids.values():
            _signal(pid, signal.SIGKILL, group=True)
        for pid in self.pids.values():
            os.waitpid(pid, 0)

    def obey(self, request: Mapping[str, Any]) -> None:
        if "prepare" in request:
            with contextlib.suppress(Exception):
                _function(request["prepare"])()
            gc.freeze()
            return
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                self.become(request["start"])
            self.pids[request["job"]] = pid
            self.report(job=request["job"], pid=pid)
            return
        for job, pid in self.pids.items():
            if request["job"] in (None, job):
                _signal(pid, request["signal"], group=request["group"])

    def reap(self) -> None:
        for job, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.pids[job]
                self.report(job=job, code=os.waitstatus_to_exitcode(status))

    def report(self, **message: int) -> None:
        with contextlib.suppress(OSError):  # nobody listens: the next read ends the server
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def become(self, job: Mapping[str, Any]) -> NoReturn:
        """In the fork: leave the server behind, and do the job."""
        code = 1
        try:
            die_with_parent(self.pid, watch=not self.spawn)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.socket.close()
            os.close(self.ended)
            if job["log"] is not None:
                log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.close(log)
            gc.enable()
            os.environ.update(job["environment"])
            if self.spawn:
                with tempfile.TemporaryFile() as file:  # not on the command line, which everybody can read
                    file.write(json.dumps({**job, "parent": self.pid}).encode())
                    file.seek(0)
                    os.dup2(file.fileno(), 0)
                os.execv(sys.executable, _interpreter("work", "{}"))
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
            code = _call(job)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


# ---------------------------------------------------------------------- in a job


def work() -> NoReturn:
    """Do the job that standard input describes, in a fresh interpreter."""
    job = json.loads(sys.stdin.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    die_with_parent(job["parent"], watch=True)
    os._exit(_call(job))


def die_with_parent(parent: int, *, watch: bool) -> None:
    """Let this process be killed when its parent process ends, now or later.

    Args:
        parent: the id of the parent process, as it was when this process began.
        watch: where the system offers no signal for that, look every half second in a thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    elif watch:

        def look() -> None:
            while os.getppid() == parent:
                time.sleep(WATCH_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=look, daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _call(job: Mapping[str, Any]) -> int:
    """Run the job's function. Returns the exit code of its process."""
    try:
        return int(_function(job)() or 0)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except DlcliError as error:
        print(f"dlcli: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _function(job: Mapping[str, Any]) -> Callable[[], Any]:
    """The call that a job names."""
    match = FUNCTION.fullmatch(job["function"])
    assert match is not None
    return functools.partial(getattr(importlib.import_module(match[1]), match[2]), **job["arguments"])


def _signal(pid: int, number: int, *, group: bool) -> None:
    """Signal a process that is not reaped yet, and its group if that exists already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    if group:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _interpreter(function: str, arguments: str) -> list[str]:
    """The command of a fresh interpreter that has this one's search path and calls a function of this module."""
    code = (
        "import sys; sys.path[:] = sys.argv[3:]; import json; from dlcli import processes; "
        "getattr(processes, sys.argv[1])(**json.loads(sys.argv[2]))"
    )
    # -P: the working folder is not searched, unless this interpreter does so
    return [sys.executable, "-P", "-c", code, function, arguments, *sys.path]
