"""Decay along a power of the step: linear, polynomial, inverse square root. d2l 12.11."""

from __future__ import annotations

import math
from typing import Annotated

from dlcli.hyperparameters import Duration, Ge, Le, Natural, PositiveFloat, steps_of
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule
from dlcli.schedulers.interpolation import linear, progress


@SCHEDULERS.register("linear")
class Linear(Schedule):
    """A straight line from 1 to ``final_factor`` at the last step. DLFS chapter 4 (linear decay)."""

    needs_total = True

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        final_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.final_factor = final_factor

    def decay(self, step: int, total: int) -> float:
        return linear(1, self.final_factor, progress(step, total))


@SCHEDULERS.register("polynomial")
class Polynomial(Schedule):
    """``(1 - progress) ** power`` from 1 to ``final_factor`` at the last step; power 1 is linear."""

    needs_total = True

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        power: PositiveFloat,
        final_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.power, self.final_factor = power, final_factor

    def decay(self, step: int, total: int) -> float:
        return linear(self.final_factor, 1, (1 - progress(step, total)) ** self.power)


@SCHEDULERS.register("inverse_square_root")
class InverseSquareRoot(Schedule):
    """``sqrt(interval / (interval + step))``: halved after 3 intervals, a third after 8.

    With a warm-up and ``interval=null`` this is the Transformer's schedule (Vaswani et al., NeurIPS 2017, section 5.3),
    one step later; with ``interval="1 epoch"`` and no warm-up, d2l's square-root scheduler.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        interval: Duration | None,
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            interval: the time scale; None: as long as the warm-up (one step without one).
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.interval = max(1, self.warmup_steps) if interval is None else steps_of(interval, steps_per_epoch)

    def decay(self, step: int, total: int) -> float:
        return math.sqrt(self.interval / (self.interval + step))
