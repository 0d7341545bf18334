"""The constant rate, after an optional warm-up."""

from __future__ import annotations

from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule


@SCHEDULERS.register("constant")
class Constant(Schedule):
    """The optimizer's own rate. d2l 12.11 compares the schedules with it."""

    def decay(self, step: int, total: int) -> float:
        return 1.0
