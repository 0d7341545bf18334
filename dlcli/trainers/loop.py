"""Where a trainer stands: what a checkpoint keeps beside parameters, and the batches that a limit leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Loop:
    """What a checkpoint of every trainer keeps under "loop"; a trainer that keeps more has a loop of its own."""

    step: int = 0  # steps done, whatever a step of this trainer is
    epoch: int = 0  # passes over the training data done
    seconds: float = 0.0  # of training, over all sessions
    best: dict[str, Any] | None = None  # {"metric", "value", "step", "metrics"} of the best evaluation
    latest: dict[str, float] = field(default_factory=dict)  # training values at the latest log, for the summary
    offsets: dict[str, int] = field(default_factory=dict)  # bytes of the logs at this point


@dataclass
class MinibatchLoop(Loop):
    """The state of the mini-batch loop, beside parameters, optimizer, schedule and random generators."""

    position: int = 0  # batches of this epoch already used
    carry: tuple[Tensor, ...] | None = None  # state of the streams after the latest batch, (layers, B, hidden) each
    stale: int = 0  # evaluations since the best one
    evaluated: int = -1  # step of the latest evaluation
    recent: dict[str, list[float]] = field(default_factory=dict)  # values since the latest log, by name
    skipped: int = 0  # steps left out for a loss that was not finite
    poisoned: list[int] = field(default_factory=list)  # steps to leave out after a roll-back
    top: list[list[Any]] = field(default_factory=list)  # [value, step] of the kept best checkpoints


def better(value: float, best: Mapping[str, Any] | None, direction: str) -> bool:
    """Whether an evaluation beats the best so far; one that is not finite beats nothing.

    Args:
        value: of the monitored metric.
        best: ``Loop.best``.
        direction: "min" or "max".
    """
    if not math.isfinite(value) or best is None:
        return math.isfinite(value)
    return bool(value < best["value"] if direction == "min" else value > best["value"])


class Limited:
    """The first batches of a pass."""

    def __init__(self, batches: Any, limit: int):
        self.batches = batches
        self.limit = min(limit, len(batches))

    def __len__(self) -> int:
        return self.limit

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]
