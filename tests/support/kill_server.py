"""Processes that start in 0.1 s with torch imported, for tests that kill them.

A clean server process imports torch once, works through one training step, and forks a child for each run. It has one
OpenMP thread, because a child has no other threads and would wait for them for ever.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def start_in_fork(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Start ``function(*arguments)`` and return its process: ``pid``, ``kill()``, ``join(timeout)``, ``exitcode``.

    ``function`` is one of a module's own names, its arguments can be pickled, and a status other than 0 comes from
    ``sys.exit``, ``os._exit`` or an exception (1). A process that was killed has minus the signal as its exit code.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.warm"])  # has an effect the first time: the server is kept
    saved = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        process = context.Process(target=function, args=arguments, daemon=True)
        process.start()
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return process


def run_in_fork(function: Callable[..., Any], *arguments: Any, timeout: float = 60.0) -> int:
    """The exit code of ``function(*arguments)`` in a process of its own.

    Raises:
        TimeoutError: it ran for more than ``timeout`` seconds, and was killed.
    """
    process = start_in_fork(function, *arguments)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{getattr(function, '__name__', function)} ran for more than {timeout} s")
    return process.exitcode
