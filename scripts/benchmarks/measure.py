"""Paired measuring: sides take turns, A B A B …, and what counts is the ratio within each round.

A *side* is something that can be measured again and again: a whole command, or a block of work inside a process of its
own that stays alive and waits while the others have their turn. Single figures drift with the machine; the ratio of two
sides that ran one right after the other drifts much less, and a side against itself ("A/A") shows how much.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pty
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SCRIPTS = Path(__file__).parents[1]
ROOT = SCRIPTS.parent

Figures = dict[str, float]
"""What one round of one side measured, by name; "seconds" is the figure that ratios are made of."""


class Absent(Exception):
    """A side that cannot be measured here, with the reason: a peer that is not installed, no network, no GPU."""


class Side(Protocol):
    """Something that is measured in rounds."""

    def start(self) -> None:
        """Do once what is not measured. Raises Absent if it cannot be done here."""
        ...

    def round(self) -> Figures: ...

    def stop(self) -> None: ...


def clock() -> float:
    """Seconds: of the wall, or with BENCH_CLOCK=cpu of this process's processors (for a machine that is not quiet)."""
    return time.process_time() if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """What every measured process gets: the project and this suite on the path, and a terminal of the same width."""
    paths = [str(SCRIPTS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    fixed = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TERM": "xterm", "COLUMNS": "100"}
    return {**os.environ, **fixed}


def same_threads() -> dict[str, str]:
    """Threads as many and as wakeful for all sides that compute in turn; whole commands choose as for their users."""
    waits = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "20000"}  # as on an idle machine, whatever the load is
    return {**waits, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores()))}


class Command:
    """A whole process, from its start to its end. A command that fails ends the measuring of its side."""

    def __init__(self, arguments: Sequence[str], folder: Path, warm: bool = True):
        self.arguments, self.folder, self.warm = list(arguments), folder, warm

    def start(self) -> None:
        if self.warm:  # fills the caches of files and of compiled Python
            self.round()

    def round(self) -> Figures:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            self.arguments,
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise Absent(last[0])
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": cpu if os.environ.get("BENCH_CLOCK") == "cpu" else wall, "wall": wall, "cpu": cpu}

    def stop(self) -> None:
        pass


class Worker:
    """A function in a fresh process of its own, with a terminal, so that everybody draws a progress bar.

    Args:
        function: "module:name" below ``benchmarks``. It prepares, and returns the block: a function without arguments
            that does the work once and returns its figures.
        arguments: plain values for the function.
        folder: the working folder.
        warm: run the block once before it counts.
    """

    def __init__(self, function: str, arguments: Mapping[str, Any], folder: Path, warm: bool):
        self.function, self.arguments, self.folder, self.warm = function, dict(arguments), folder, warm
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ask_read, self.ask = os.pipe()
        answer, answer_write = os.pipe()
        self.terminal, inner = pty.openpty()
        call = json.dumps([self.function, self.arguments, ask_read, answer_write])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measure", call],
            cwd=self.folder,
            env={**environment(), **same_threads()},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            pass_fds=(ask_read, answer_write),
        )
        for descriptor in (ask_read, answer_write, inner):
            os.close(descriptor)
        self.printed = b""
        self.reader = threading.Thread(target=self._drain, daemon=True)
        self.reader.start()
        self.answers = os.fdopen(answer)
        self._answer()
        if self.warm:
            self.round()

    def round(self) -> Figures:
        with contextlib.suppress(BrokenPipeError):  # it has ended; its last words say why
            os.write(self.ask, b"\n")
        return self._answer()

    def stop(self) -> None:
        if self.process is None:
            return
        os.close(self.ask)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(5)
        self.answers.close()
        os.close(self.terminal)
        self.process = None

    def _answer(self) -> Figures:
        line = self.answers.readline()
        if not line:
            self.reader.join(1)
            last = self.printed.decode(errors="replace").strip().splitlines()[-1:] or ["it ended without a word"]
            raise Absent(last[0][:300])
        answer: dict[str, Any] = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        return answer

    def _drain(self) -> None:
        """Read what the process prints, as a terminal does."""
        while True:
            try:
                text = os.read(self.terminal, 65536)
            except OSError:  # the other end is closed
                return
            self.printed = (self.printed + text)[-4000:]


class Local:
    """A worker's function in this process: for trying a row out, not for measuring."""

    def __init__(self, function: str, arguments: Mapping[str, Any]):
        self.function, self.arguments = function, dict(arguments)

    def start(self) -> None:
        self.block = prepared(self.function, self.arguments)

    def round(self) -> Figures:
        return self.block()

    def stop(self) -> None:
        pass


def prepared(function: str, arguments: Mapping[str, Any]) -> Callable[[], Figures]:
    """The block of ``module:name`` below ``benchmarks``.

    Raises:
        Absent: a package that the side needs is not installed, or its data cannot be had.
    """
    module, _, name = function.partition(":")
    try:
        block: Callable[[], Figures] = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**arguments)
    except ModuleNotFoundError as error:
        raise Absent(f"{error.name} is not installed") from None
    return block


def serve(function: str, arguments: Mapping[str, Any], ask: int, answer: int) -> None:
    """The worker's side of ``Worker``: prepare, then one block for each line that comes."""
    with os.fdopen(ask) as asked, os.fdopen(answer, "w") as answers:

        def reply(values: Mapping[str, Any]) -> None:
            answers.write(json.dumps(values) + "\n")
            answers.flush()

        try:
            block = prepared(function, arguments)
            reply({})
            for _ in asked:
                reply(block())
        except Exception as error:
            reply({"absent": f"{type(error).__name__}: {error}" if not isinstance(error, Absent) else str(error)})


@dataclass
class Measured:
    """The rounds of each side; ``absent`` says why a side has none."""

    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def values(self, side: str, figure: str = "seconds") -> list[float]:
        return [figures[figure] for figures in self.rounds[side]]

    def median(self, side: str, figure: str = "seconds") -> float:
        return statistics.median(self.values(side, figure))


def paired(sides: Mapping[str, Side], rounds: int, say: Callable[[str], None], starters: int = 1) -> Measured:
    """Measure all sides in turn, ``rounds`` times. A side that fails is left out, and the others go on.

    ``starters``: how many sides prepare at the same time; what they do then is not measured.
    """
    measured = Measured()

    def start(side: Side) -> str:
        try:
            side.start()
        except Absent as absent:
            return str(absent)
        return ""

    different = {id(side): side for side in sides.values()}  # one side may have two names
    try:
        say(f"starting {', '.join(sides)}")
        with ThreadPoolExecutor(starters) as pool:
            reasons = dict(zip(different, pool.map(start, different.values()), strict=True))
        for name, side in sides.items():
            if reasons[id(side)]:
                measured.absent[name] = reasons[id(side)]
            else:
                measured.rounds[name] = []
        for number in range(rounds):
            for name in list(measured.rounds):
                say(f"round {number + 1} of {rounds}: {name}")
                try:
                    measured.rounds[name].append(sides[name].round())
                except Absent as absent:
                    measured.absent[name] = str(absent)
                    del measured.rounds[name]
    finally:
        for side in different.values():
            side.stop()
    return measured


def ratios(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """The quotients round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


if __name__ == "__main__":
    serve(*json.loads(sys.argv[1]))
