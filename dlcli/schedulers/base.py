"""Schedule: the learning rate as a function of the step.

The trainer asks ``factor(step)`` before each optimizer step (counted from 0) and multiplies the optimizer's rate by it.
Factors are pure functions of the step, so a resumed run needs no state; a schedule that listens to a metric keeps its
state in ``state_dict``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dlcli.hyperparameters import Duration, Natural, steps_of


class Schedule:
    """What every schedule offers. ``total_steps`` and ``steps_per_epoch`` come from the trainer.

    Class attributes, read from the source before anything is imported:
        needs_total: it spreads over the whole run, so the run needs a budget of steps or epochs.
        listens: it changes with the monitored metric, so the run needs evaluations.
    """

    needs_total: ClassVar[bool] = False
    listens: ClassVar[bool] = False

    def __init__(self, total_steps: int, steps_per_epoch: int, *, warmup_steps: Natural | Duration):
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = steps_of(warmup_steps, steps_per_epoch) if warmup_steps else 0

    def factor(self, step: int) -> float:
        """The multiplier of the learning rate at optimizer step ``step`` (0-based): linear warm-up, then ``decay``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.decay(step - self.warmup_steps, max(1, self.total_steps - self.warmup_steps))

    def decay(self, step: int, total: int) -> float:
        """The multiplier ``step`` steps after the warm-up, of ``total`` in all."""
        raise NotImplementedError

    def observe(self, value: float, direction: str) -> None:
        """Called after each evaluation with the monitored metric and its better direction, "min" or "max"."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values to save; empty for a pure function of the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
