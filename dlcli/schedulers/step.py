"""Geometric decay: the rate is multiplied by ``gamma`` every so often. d2l 12.11 (factor and multi-factor), DLFS 4."""

from __future__ import annotations

import math
from typing import Annotated

from dlcli.hyperparameters import Duration, Fraction, Ge, Le, Natural, steps_of
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule


@SCHEDULERS.register("step")
class Step(Schedule):
    """``gamma ** (step // step_size)``, a staircase of even steps."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        step_size: Duration,
        gamma: Fraction,
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            step_size: how long each rate lasts.
            gamma: the ratio of a rate to the one before.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.step_size = steps_of(step_size, steps_per_epoch)
        self.gamma = gamma

    def decay(self, step: int, total: int) -> float:
        return self.gamma ** (step // self.step_size)


@SCHEDULERS.register("multistep")
class MultiStep(Schedule):
    """``gamma ** (milestones passed)``, a staircase whose steps are given."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        milestones: list[Duration],
        gamma: Fraction,
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            milestones: when the rate falls, from the start of the run (its warm-up included), in any order.
            gamma: the ratio of a rate to the one before.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.milestones = [steps_of(milestone, steps_per_epoch) for milestone in milestones]
        self.gamma = gamma

    def decay(self, step: int, total: int) -> float:
        passed = sum(milestone <= self.warmup_steps + step for milestone in self.milestones)
        return self.gamma**passed


@SCHEDULERS.register("exponential")
class Exponential(Schedule):
    """``gamma ** (step / interval)``, a smooth decay, down to a floor."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        gamma: Fraction,
        interval: Duration,
        min_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            gamma: what the rate is multiplied by in each interval.
            interval: its length.
            min_factor: the factor never falls below it.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.gamma, self.min_factor = gamma, min_factor
        self.interval = steps_of(interval, steps_per_epoch)

    def decay(self, step: int, total: int) -> float:
        return max(self.min_factor, math.pow(self.gamma, step / self.interval))
