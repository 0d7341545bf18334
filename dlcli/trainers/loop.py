"""Where a training loop stands: what a checkpoint keeps beside parameters, and the batches that a limit leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Loop:
    """The state of the loop that a checkpoint keeps, beside parameters, optimizer, schedule and random generators."""

    step: int = 0  # optimizer steps done
    epoch: int = 0
    position: int = 0  # batches of this epoch already used
    carry: tuple[Tensor, ...] | None = None  # state of the streams after the latest batch, (layers, B, hidden) each
    best: dict[str, Any] | None = None  # {"metric", "value", "step"} of the best evaluation
    stale: int = 0  # evaluations since the best one
    evaluated: int = -1  # step of the latest evaluation
    seconds: float = 0.0  # of training, over all sessions
    recent: dict[str, list[float]] = field(default_factory=dict)  # values since the latest log, by name
    latest: dict[str, float] = field(default_factory=dict)  # their means at the latest log
    skipped: int = 0  # steps left out for a loss that was not finite
    poisoned: list[int] = field(default_factory=list)  # steps to leave out after a roll-back
    top: list[list[Any]] = field(default_factory=list)  # [value, step] of the kept best checkpoints
    offsets: dict[str, int] = field(default_factory=dict)  # bytes of the logs at this point


class Limited:
    """The first batches of a pass."""

    def __init__(self, batches: Any, limit: int):
        self.batches = batches
        self.limit = min(limit, len(batches))

    def __len__(self) -> int:
        return self.limit

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]
