"""Rates that rise and fall: again and again, or once.

Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (WACV 2017); Smith and Topin, "Super-Convergence"
(2018).
"""

from __future__ import annotations

from typing import Annotated, Literal

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Duration, Ge, Le, Natural, steps_of
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule
from dlcli.schedulers.interpolation import cosine, linear


@SCHEDULERS.register("cyclic")
class Cyclic(Schedule):
    """Triangles between ``min_factor`` and 1, beginning at the bottom (after a warm-up: at the top)."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        step_size: Duration,
        min_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            step_size: the length of a rise and of a fall, half a cycle.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.step_size = steps_of(step_size, steps_per_epoch)
        self.min_factor = min_factor

    def decay(self, step: int, total: int) -> float:
        offset = self.step_size if self.warmup_steps else 0
        height = 1 - abs((step + offset) % (2 * self.step_size) / self.step_size - 1)
        return linear(self.min_factor, 1, height)


@SCHEDULERS.register("one_cycle")
class OneCycle(Schedule):
    """From ``initial_factor`` up to 1 and down to ``final_factor`` at the last step."""

    needs_total = True

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        warmup_fraction: Annotated[float, Ge(0), Le(1)],
        initial_factor: Annotated[float, Ge(0), Le(1)],
        final_factor: Annotated[float, Ge(0), Le(1)],
        anneal: Literal["cosine", "linear"],
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            warmup_fraction: the share of the run in which the rate rises.
            anneal: the form of rise and fall.
            warmup_steps: 0; the rise is the warm-up.

        Raises:
            ConfigError: another ``warmup_steps``.
        """
        if warmup_steps:
            raise ConfigError(
                f"scheduler.warmup_steps={warmup_steps}: expected 0, since one_cycle warms up by itself; "
                "set scheduler.warmup_fraction instead"
            )
        super().__init__(total_steps, steps_per_epoch, warmup_steps=0)
        self.initial_factor, self.final_factor = initial_factor, final_factor
        self.anneal = cosine if anneal == "cosine" else linear
        self.peak = max(0.0, warmup_fraction * total_steps - 1)  # the step of factor 1, not always a whole number

    def decay(self, step: int, total: int) -> float:
        if step < self.peak:
            return self.anneal(self.initial_factor, 1, step / self.peak)
        fall = total - 1 - self.peak
        return self.anneal(1, self.final_factor, min((step - self.peak) / fall, 1.0) if fall > 0 else 0.0)
