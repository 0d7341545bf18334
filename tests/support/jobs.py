"""Jobs of the tests of ``dlcli.processes``, which starts functions of the package only: this module joins it."""

import os
import sys
import time
from pathlib import Path

import torch

sys.modules["dlcli.jobs"] = sys.modules[__name__]


def leave(code: int) -> int:
    return code


def fail() -> None:
    raise ValueError("it went wrong")


def announce_and_wait(file: str) -> None:
    """Write this process's id and its parent's, then wait to be ended."""
    part = Path(file + ".part")
    part.write_text(f"{os.getpid()} {os.getppid()}")
    part.rename(file)
    time.sleep(60)


def multiply(file: str) -> None:
    """Work that uses every thread, and how many there are."""
    matrix = torch.ones(500, 500)
    Path(file).write_text(f"{torch.get_num_threads()} {float((matrix @ matrix).exp().isinf().sum()):.0f}")
