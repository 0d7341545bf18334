"""Hot and cold: learning without derivatives, by trying both directions."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch

from dlcli import runtime
from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.full_batch import begin, descend, mean_loss, parameters_of


@TRAINERS.register("hot_and_cold")
class HotAndColdTrainer(Trainer):
    """Each weight in turn moves up or down by a fixed amount, wherever the loss over all training data is smaller.

    It stays where both are equal. Near the minimum it goes to and fro, since the amount never shrinks. Source: GDL
    chapter 4 "Learning using the hot and cold method".
    """

    uses: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        max_steps: Count,
        step_size: PositiveFloat,
        eval_every: Count | None,
        monitor: str,
        device: str,
        precision: Literal["fp32", "fp64"],
    ):
        """
        Args:
            max_steps: in each of which every weight moves once.
            step_size: by how much.
            eval_every: steps; None for the end alone.
            monitor: what tables of runs show as the result.
            device, precision: as for every trainer.
        """
        self.max_steps = max_steps
        self.step_size = step_size
        self.eval_every = eval_every
        self.monitor = monitor
        self.dtype = runtime.input_dtype(precision)

    def check(self, run: RunContext) -> None:
        """
        Raises:
            ConfigError: too many parameters to try each.
        """
        parameters_of(run, "hot_and_cold")

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            Interrupted: a signal arrived; the state is saved.
        """
        weights = parameters_of(run, "hot_and_cold")
        self.loop = begin(run)
        budget = {"max_steps": self.max_steps, "eval_every": self.eval_every or self.max_steps}
        return descend(
            run, self.loop, lambda: self._step(run, weights), **budget, monitor=self.monitor, dtype=self.dtype
        )

    @torch.no_grad()
    def try_out(self, run: RunContext) -> dict[str, float]:
        """The loss over the training data."""
        return {"loss": self._loss(run)}

    @torch.no_grad()
    def _step(self, run: RunContext, parameters: list[Any]) -> dict[str, float]:
        """Move every weight once. Returns the loss before."""
        before = self._loss(run)
        for parameter in parameters:
            weights = parameter.view(-1)
            for index in range(len(weights)):
                here = weights[index].clone()
                weights[index] = here + self.step_size
                up = self._tried(run)
                weights[index] = here - self.step_size
                down = self._tried(run)
                if up == down:
                    weights[index] = here
                elif up < down:
                    weights[index] = here + self.step_size
        return {"loss": before}

    def _tried(self, run: RunContext) -> float:
        """The loss; what is not finite loses every comparison."""
        loss = self._loss(run)
        return loss if math.isfinite(loss) else math.inf

    def _loss(self, run: RunContext) -> float:
        return float(mean_loss(run, self.loop.epoch if self.loop else 0, self.dtype))
