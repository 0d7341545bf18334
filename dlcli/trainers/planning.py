"""Planning: the best policy of an environment whose transitions are known, by sweeps over all its states."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from dlcli.functional.markov_decision import TransitionTable, action_values, greedy, values_of
from dlcli.hyperparameters import Count, Gt, Lt, NonNegativeFloat
from dlcli.registry import TRAINERS
from dlcli.trainers import greedy_policy
from dlcli.trainers.base import RunContext, Trainer, restore_model
from dlcli.trainers.loop import Loop

AS_GOOD = 1e-10  # how much better another action must be to be taken instead


class Planning(Trainer):
    """A sweep computes a new table of action values from the one before, until it changes no more."""

    uses: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ("num_states", "num_actions")
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("control",)}
    model_methods: ClassVar[tuple[str, ...]] = ("assign",)

    def __init__(
        self,
        *,
        discount: Annotated[float, Gt(0), Lt(1)],
        max_sweeps: Count,
        tolerance: NonNegativeFloat,
        eval_every: Count,
        monitor: str,
        device: Literal["cpu"],
        precision: Literal["fp64"],
    ):
        """
        Args:
            discount: what a reward is worth one step later.
            max_sweeps: after which it ends.
            tolerance: ends when no value changes by more.
            eval_every: sweeps between two measurements of the greedy policy.
            monitor: the metric that decides which table is the best.
            device, precision: as for every trainer.
        """
        self.discount = discount
        self.max_sweeps = max_sweeps
        self.tolerance = tolerance
        self.eval_every = eval_every
        self.monitor = monitor

    def sweep(self, table: TransitionTable, values: Tensor) -> Tensor:
        """The action values (S, A) float64 after one more sweep."""
        raise NotImplementedError

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        loop = self.loop = Loop()
        if run.resume_state is not None:
            loop = self.loop = Loop(**run.resume_state["loop"])
            restore_model(run, run.resume_state)
        model: Any = run.model
        table = run.data.table  # type: ignore[attr-defined]
        started = time.perf_counter() - loop.seconds
        run.progress.start(self.max_sweeps, loop.step)
        over = loop.latest.get("change") == 0
        while not over and loop.step < self.max_sweeps:
            if run.interrupted():
                greedy_policy.save(run, loop, "last")
                run.leave_interrupted(loop.step)
            values = self.sweep(table, model.action_values)
            change = float((values - model.action_values).abs().max())
            model.assign(values)
            over = change <= self.tolerance
            loop.step = loop.epoch = loop.step + 1
            loop.seconds = time.perf_counter() - started
            loop.latest = {"change": change, "start_value": float(table.start @ values.amax(1))}
            run.log(loop.step, {f"train/{name}": value for name, value in loop.latest.items()})
            run.progress.advance(loop.step)
            if over or loop.step == self.max_sweeps or loop.step % self.eval_every == 0:
                greedy_policy.measure(run, loop, self.monitor)
                greedy_policy.save(run, loop, "last")
        run.progress.stop()
        return "the values change no more" if over else "the budget of sweeps is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """How much the first sweep changes."""
        model: Any = run.model
        values = self.sweep(run.data.table, model.action_values)  # type: ignore[attr-defined]
        return {"change": float((values - model.action_values).abs().max())}


@TRAINERS.register("value_iteration")
class ValueIteration(Planning):
    """Q(s, a) <- r(s, a) + discount · Σ P(s' | s, a) max Q(s', ·), for all states at once.

    Source: d2l 17.2 "Value Iteration".
    """

    def sweep(self, table: TransitionTable, values: Tensor) -> Tensor:
        return action_values(table, values.amax(1), self.discount)


@TRAINERS.register("policy_iteration")
class PolicyIteration(Planning):
    """The values of the greedy policy by its linear system, whose greedy policy is the next one. Few sweeps are exact.

    Source: Howard 1960; d2l 17.2.5 "Policy Evaluation"; Sutton and Barto, section 4.3.
    """

    def sweep(self, table: TransitionTable, values: Tensor) -> Tensor:
        best = values.amax(1, keepdim=True)
        policy = greedy((values >= best - AS_GOOD).int())  # rounding decides nothing
        following = action_values(table, values_of(table, policy, self.discount), self.discount)
        return torch.where((following - values).abs() <= AS_GOOD, values, following)
