"""Q-learning and SARSA: a table of action values that is learned from played episodes, one step at a time."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dlcli.data.environment import episode_seed
from dlcli.hyperparameters import Count, Fraction, NonNegativeFloat
from dlcli.registry import TRAINERS
from dlcli.trainers import greedy_policy
from dlcli.trainers.base import RunContext, Trainer, restore_model
from dlcli.trainers.loop import Loop

Rows = list[list[float]]
"""A row for each state, a column for each action. Single numbers of lists are quicker to reach than of tensors."""


@dataclass
class TableLoop(Loop):
    """The state of learning by episodes, beside the table."""

    visits: Tensor | None = None  # (S, A) float64, how often each number was updated
    recent: dict[str, list[float]] = field(default_factory=dict)  # returns and lengths since the latest log


class Episode(NamedTuple):
    """What one episode gave."""

    total: float
    length: int


class TemporalDifference(Trainer):
    """After each step the value of the action moves towards the reward plus what is expected to follow.

    Episode n depends on the run's seed, n and the table alone, so that a resumed run plays the same episodes.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ("num_states", "num_actions")
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("control",)}
    model_methods: ClassVar[tuple[str, ...]] = ("assign",)
    loop: TableLoop

    def __init__(
        self,
        *,
        discount: Fraction,
        max_episodes: Count,
        rate: Fraction,
        rate_decay: NonNegativeFloat,
        final_rate: Fraction,
        exploration: Literal["epsilon_greedy", "softmax"],
        epsilon: NonNegativeFloat,
        final_epsilon: NonNegativeFloat,
        epsilon_episodes: Count,
        eval_every: Count,
        checkpoint_every: Count,
        log_every: Count,
        monitor: str,
        device: Literal["cpu"],
        precision: Literal["fp64"],
    ):
        """
        Args:
            discount: what a reward is worth one step later.
            max_episodes: after which it ends.
            rate, rate_decay, final_rate: the n-th update of a number (from 0) moves it by the share
                max(final_rate, rate / (1 + rate_decay · n)).
            exploration: epsilon_greedy, a random action with the probability epsilon; or softmax, actions with
                probabilities proportional to exp(value / epsilon).
            epsilon, final_epsilon, epsilon_episodes: it goes in a straight line from the first to the second over
                so many episodes.
            eval_every, checkpoint_every, log_every: episodes.
            monitor: the metric that decides which table is the best.
            device, precision: as for every trainer.
        """
        self.discount = discount
        self.max_episodes = max_episodes
        self.rate = rate
        self.rate_decay = rate_decay
        self.final_rate = final_rate
        self.exploration = exploration
        self.epsilon = epsilon
        self.final_epsilon = final_epsilon
        self.epsilon_episodes = epsilon_episodes
        self.eval_every = eval_every
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.monitor = monitor

    def expected(self, values: list[float], action: int) -> float:
        """What a state with these action values is worth, in which ``action`` comes next."""
        raise NotImplementedError

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            Interrupted: a signal arrived; the episode was played to its end, and the state is saved in ``last.pt``.
        """
        loop = self.loop = TableLoop()
        if run.resume_state is not None:
            loop = self.loop = TableLoop(**run.resume_state["loop"])
            restore_model(run, run.resume_state)
        model: Any = run.model
        world = run.data.make()  # type: ignore[attr-defined]
        values: Rows = model.action_values.tolist()
        visits: Rows = (torch.zeros_like(model.action_values) if loop.visits is None else loop.visits).tolist()
        started = time.perf_counter() - loop.seconds
        run.progress.start(self.max_episodes, loop.step)
        while loop.step < self.max_episodes:
            epsilon = self._epsilon(loop.step)
            played = self._play(world, values, visits, epsilon, (run.seed, loop.step))
            loop.step = loop.epoch = loop.step + 1
            loop.recent.setdefault("return", []).append(played.total)
            loop.recent.setdefault("length", []).append(float(played.length))
            run.progress.advance(loop.step)

            # What is due after this episode, and at the end.
            over, interrupted = loop.step == self.max_episodes, run.interrupted()
            log = over or loop.step % self.log_every == 0
            measure = over or loop.step % self.eval_every == 0
            save = over or interrupted or loop.step % self.checkpoint_every == 0
            loop.seconds = time.perf_counter() - started
            if log:
                means = {name: sum(numbers) / len(numbers) for name, numbers in loop.recent.items()}
                loop.latest, loop.recent = {**means, "epsilon": epsilon}, {}
                run.log(loop.step, {f"train/{name}": value for name, value in loop.latest.items()})
            if measure or save:
                model.assign(torch.tensor(values, dtype=torch.float64))
                loop.visits = torch.tensor(visits, dtype=torch.float64)
            if measure:
                greedy_policy.measure(run, loop, self.monitor)
            if save:
                greedy_policy.save(run, loop, "last")
            if interrupted:
                run.leave_interrupted(loop.step)
        run.progress.stop()
        return "the budget of episodes is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The return and the length of the first episode."""
        model: Any = run.model
        values, visits = model.action_values.tolist(), torch.zeros_like(model.action_values).tolist()
        world = run.data.make()  # type: ignore[attr-defined]
        played = self._play(world, values, visits, self._epsilon(0), (run.seed, 0))
        return {"return": played.total, "length": float(played.length)}

    # ------------------------------------------------------------------ pieces

    def _epsilon(self, episode: int) -> float:
        return self.epsilon + (self.final_epsilon - self.epsilon) * min(1.0, episode / self.epsilon_episodes)

    def _play(self, world: Any, values: Rows, visits: Rows, epsilon: float, numbers: tuple[int, int]) -> Episode:
        """One episode; changes the tables."""
        seed = episode_seed(*numbers)
        chance = random.Random(seed)
        state = int(world.reset(seed=seed)[0])
        action = self._choose(values[state], epsilon, chance)
        total, length, ended = 0.0, 0, False
        while not ended:
            following, reward, terminated, truncated, _ = world.step(action)
            following, reward, ended = int(following), float(reward), terminated or truncated
            next_action = self._choose(values[following], epsilon, chance)
            target = reward if terminated else reward + self.discount * self.expected(values[following], next_action)
            rate = max(self.final_rate, self.rate / (1 + self.rate_decay * visits[state][action]))
            values[state][action] += rate * (target - values[state][action])
            visits[state][action] += 1
            total, length = total + reward, length + 1
            state, action = following, next_action
        return Episode(total, length)

    def _choose(self, values: list[float], epsilon: float, chance: random.Random) -> int:
        largest = max(values)
        if self.exploration == "epsilon_greedy":
            return chance.randrange(len(values)) if chance.random() < epsilon else values.index(largest)
        if epsilon == 0:
            return values.index(largest)
        weights = [math.exp((value - largest) / epsilon) for value in values]
        return chance.choices(range(len(values)), weights)[0]


@TRAINERS.register("q_learning")
class QLearning(TemporalDifference):
    """Expects the best action to follow, whatever is tried: it learns the best policy while it explores.

    Source: d2l 17.3 "Q-Learning"; Watkins 1989.
    """

    def expected(self, values: list[float], action: int) -> float:
        return max(values)


@TRAINERS.register("sarsa")
class Sarsa(TemporalDifference):
    """Expects the action that does follow, explored or not: it learns the values of the policy that it plays.

    Source: Rummery and Niranjan 1994; Sutton and Barto, section 6.4.
    """

    def expected(self, values: list[float], action: int) -> float:
        return values[action]
