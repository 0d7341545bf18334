"""A rate that falls when the monitored metric has stopped improving."""

from __future__ import annotations

from typing import Annotated, Any

from dlcli.hyperparameters import Duration, Ge, Gt, Le, Lt, Natural, NonNegativeFloat
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule


@SCHEDULERS.register("reduce_on_plateau")
class ReduceOnPlateau(Schedule):
    """Multiplied by ``factor`` after more than ``patience`` evaluations in a row without a better value.

    A value is better if it beats the best so far by more than ``threshold`` times the best's size. A value that is not
    a number is never better.
    """

    listens = True

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        factor: Annotated[float, Gt(0), Lt(1)],
        patience: Natural,
        threshold: NonNegativeFloat,
        cooldown: Natural,
        min_factor: Annotated[float, Ge(0), Le(1)],
        warmup_steps: Natural | Duration,
    ):
        """
        Args:
            factor: the ratio of a rate to the one before.
            patience: evaluations without improvement that are put up with.
            threshold: the relative improvement that counts.
            cooldown: evaluations after a reduction in which nothing is held against the metric.
            min_factor: the product of all reductions never falls below it.
        """
        super().__init__(total_steps, steps_per_epoch, warmup_steps=warmup_steps)
        self.reduction, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.min_factor = cooldown, min_factor
        self.current = 1.0
        self.best: float | None = None
        self.bad_evaluations = 0
        self.cooldown_left = 0

    def decay(self, step: int, total: int) -> float:
        return self.current

    def observe(self, value: float, direction: str) -> None:
        value = float(value)
        if self._better(value, direction):
            self.best, self.bad_evaluations = value, 0
        else:
            self.bad_evaluations += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_evaluations = 0
        if self.bad_evaluations > self.patience:
            self.current = max(self.current * self.reduction, self.min_factor)
            self.bad_evaluations, self.cooldown_left = 0, self.cooldown

    def _better(self, value: float, direction: str) -> bool:
        if self.best is None:
            return value == value
        margin = self.threshold * abs(self.best)
        return value < self.best - margin if direction == "min" else value > self.best + margin

    def state_dict(self) -> dict[str, Any]:
        return {
            "current": self.current,
            "best": self.best,
            "bad_evaluations": self.bad_evaluations,
            "cooldown_left": self.cooldown_left,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.current, self.best = state["current"], state["best"]
        self.bad_evaluations, self.cooldown_left = state["bad_evaluations"], state["cooldown_left"]
