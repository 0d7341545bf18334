"""The books' own engines: layers with hand-derived gradients (``layers=scratch``) and a small autograd on NumPy."""

from __future__ import annotations

import contextlib
from typing import Any


def layers_of(name: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which the configuration's ``layers``, "torch" or "scratch", compute."""
    if name == "torch":
        return contextlib.nullcontext()
    from dlcli.scratch.mode import ScratchLayers

    return ScratchLayers()
