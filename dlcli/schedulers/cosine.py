"""Cosine decay, once or with restarts.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017). d2l 12.11.
"""

from __future__ import annotations

from typing import Annotated

from dlcli.hyperparameters import Count, Duration, Ge, Le, Natural, steps_of
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule
from dlcli.schedulers.interpolation import cosine, progress


@SCHEDULERS.register("cosine")
class Cosine(Schedule):
    """Half a cosine wave from 1 to ``final_factor``, which stays from then on."""

    needs_total = True

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        final_factor: Annotated[float, Ge(0), Le(1)],
        decay_steps: Duration | None,
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            decay_steps: how long after the warm-up ``final_factor`` is reached; None: at the last step of the run.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.final_factor = final_factor
        self.decay_steps = None if decay_steps is None else steps_of(decay_steps, steps_per_epoch)

    def decay(self, step: int, total: int) -> float:
        share = progress(step, total) if self.decay_steps is None else min(step / self.decay_steps, 1.0)
        return cosine(1, self.final_factor, share)


@SCHEDULERS.register("cosine_restarts")
class CosineRestarts(Schedule):
    """Cosine waves from 1 towards ``final_factor``, each followed by a jump back to 1."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        period: Duration,
        period_factor: Count,
        final_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            period: the length of the first wave.
            period_factor: how many times longer each wave is than the one before.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.period = steps_of(period, steps_per_epoch)
        self.period_factor, self.final_factor = period_factor, final_factor

    def decay(self, step: int, total: int) -> float:
        period = self.period
        if self.period_factor == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.period_factor
        return cosine(1, self.final_factor, step / period)
