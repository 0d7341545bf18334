"""Control: choose actions in an environment so that the sum of rewards, the return, becomes large.

Source: d2l chapter 17; Mnih et al. 2015, "Human-level control through deep reinforcement learning" (the loss).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlcli.data.environment import EpisodeBatch
from dlcli.functional.boards import policy_picture
from dlcli.functional.markov_decision import greedy, outcome
from dlcli.functional.pictures import grid, heatmap
from dlcli.hyperparameters import Natural
from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task

FRAMES = 16  # of a picture of an episode


class Transitions(NamedTuple):
    """observations (B, …); actions (B,) int64, those taken; targets (B,) float, what they should be worth."""

    observations: Tensor
    actions: Tensor
    targets: Tensor


class Played(NamedTuple):
    """One step of an episode: what was seen, which action followed and what it brought; ``ended`` at the last."""

    observation: Any
    action: int
    reward: float
    terminated: bool
    ended: bool
    following: Any


class StandardError(Metric):
    """Of the mean of independent numbers: their standard deviation over the root of how many they are."""

    def __init__(self) -> None:
        self.state = torch.zeros(3, dtype=torch.float64)

    def update(self, values: Tensor) -> None:  # type: ignore[override]
        values = values.double()
        self.state = self.state + torch.stack([torch.tensor(float(len(values))), values.sum(), values.square().sum()])

    def compute(self) -> float:
        count, total, squares = self.state.tolist()
        variance = max(0.0, squares - total**2 / count) / max(1.0, count - 1)
        return float((variance / count) ** 0.5)


@TASKS.register("control")
class Control(Task):
    """The greedy policy plays: in each state the action whose value is the largest.

    Model contract: ``model(observations (B, …)) -> action values (B, num_actions)``; states are (B,) int64.
    Metrics, of the played episodes: mean_return and its standard_error, success_rate, mean_length. Where the
    transitions are known, also exact_return and exact_success_rate: expectations over all episodes, without playing.
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {
        "trainer": ("q_learning", "sarsa", "value_iteration", "policy_iteration", "dqn")
    }
    requires = ("num_actions",)
    metric_directions = {
        "mean_return": "max",
        "standard_error": "min",
        "success_rate": "max",
        "mean_length": "min",
        "exact_return": "max",
        "exact_success_rate": "max",
    }
    metric_needs = {"exact_return": "num_states", "exact_success_rate": "num_states"}
    calls_model_only = True
    sample_split = "test"

    def __init__(self, *, sample: dict[str, Any]):
        """
        Args:
            sample: the defaults of ``sample``'s options.
        """
        self.sample_defaults = sample
        self.countable = True

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        self.countable = spec.num_states is not None

    def training_step(self, networks: Networks, batch: Transitions) -> Iterator[Loss]:
        """The squared error between the values of the actions that were taken and their targets.

        Huber's loss, which Mnih et al. use on rewards within ±1, hardly notices the rare ends of long episodes: their
        errors are many times larger than 1, and it counts large errors little.
        """
        values = networks["model"](batch.observations).gather(1, batch.actions.unsqueeze(1)).squeeze(1)
        yield Loss(functional.mse_loss(values, batch.targets), logs={"value": values.mean()})

    def metrics(self) -> dict[str, Metric]:
        found: dict[str, Metric] = {"mean_return": Mean(), "standard_error": StandardError()}
        found |= {"success_rate": Mean(), "mean_length": Mean()}
        if self.countable:
            found |= {"exact_return": Mean(), "exact_success_rate": Mean()}
        return found

    def evaluation_step(self, networks: Networks, batch: EpisodeBatch, metrics: dict[str, Metric]) -> None:
        returns, lengths, successes = played_together(networks["model"], batch)
        count = float(len(returns))
        metrics["standard_error"].update(returns)
        for name, values in (("mean_return", returns), ("mean_length", lengths), ("success_rate", successes)):
            metrics[name].update(values.mean(), count)  # type: ignore[arg-type]
        if self.countable:
            environment = batch.environment
            policy = greedy(all_values(networks["model"], environment))
            total, reached = outcome(environment.table, policy, environment.time_limit)
            metrics["exact_return"].update(torch.tensor(total, dtype=torch.float64), count)  # type: ignore[arg-type]
            metrics["exact_success_rate"].update(torch.tensor(reached, dtype=torch.float64), count)  # type: ignore[arg-type]

    def sample(self, model: nn.Module, batch: EpisodeBatch, *, seed: Natural) -> Iterator[str]:
        """An episode of the greedy policy, step by step.

        Args:
            model: action values, in evaluation mode.
            batch: says which environment.
            seed: decides the episode.
        """
        environment, total = batch.environment, 0.0
        for number, step in enumerate(played(model, environment, seed), start=1):
            total += step.reward
            yield f"{environment.text(step.observation)}\n"
            yield f"step {number}: action {step.action}, reward {step.reward:g}, return {total:g}\n\n"
            if step.ended:
                goal = "goal reached" if environment.succeeded(step.reward, step.terminated) else "goal not reached"
                yield f"{environment.text(step.following)}\n{goal}"

    @torch.no_grad()
    def preview(self, networks: Networks, batch: EpisodeBatch) -> dict[str, Any]:
        """ "episode": frames of the first episode; "values" and "action_values" where states can be counted."""
        environment = batch.environment
        steps = list(played(networks["model"], environment, int(batch.seeds[0])))
        seen = [step.observation for step in steps] + [steps[-1].following]
        chosen = torch.linspace(0, len(seen) - 1, min(FRAMES, len(seen))).round().long().tolist()
        shown = {"episode": grid(torch.stack([environment.picture(seen[index]) for index in chosen]))}
        if self.countable:
            values = all_values(networks["model"], environment)
            best, actions = values.amax(1).view(environment.shape), greedy(values).view(environment.shape)
            shown["action_values"] = heatmap(values)
            moves = environment.moves
            shown["values"] = policy_picture(best, actions, moves) if moves else heatmap(best)
        return shown


def all_values(model: Any, environment: Any) -> Tensor:
    """The action values of every state, (S, A) float64 on the CPU."""
    states = environment.observed(range(environment.spec.num_states))
    values: Tensor = model(states).double().cpu()
    return values


@torch.no_grad()
def played(model: Any, environment: Any, seed: int) -> Iterator[Played]:
    """The steps of one episode of the greedy policy."""
    world = environment.make()
    observation, _ = world.reset(seed=seed)
    ended = False
    while not ended:
        action = int(model(environment.observed([observation])).argmax(1))
        following, reward, terminated, truncated, _ = world.step(action)
        ended = terminated or truncated
        yield Played(observation, action, float(reward), terminated, ended, following)
        observation = following


@torch.no_grad()
def played_together(model: Any, batch: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Episodes of the greedy policy side by side: returns, lengths and successes (0 or 1), each (N,) float64."""
    environment, count = batch.environment, len(batch.seeds)
    worlds = environment.worlds(count)
    observations = [world.reset(seed=seed)[0] for world, seed in zip(worlds, batch.seeds.tolist(), strict=True)]
    results = torch.zeros(3, count, dtype=torch.float64)
    playing = list(range(count))
    while playing:
        actions = model(environment.observed([observations[index] for index in playing])).argmax(1).tolist()
        still = []
        for index, action in zip(playing, actions, strict=True):
            observations[index], reward, terminated, truncated, _ = worlds[index].step(action)
            results[0, index] += float(reward)
            results[1, index] += 1
            if terminated or truncated:
                results[2, index] = float(environment.succeeded(float(reward), terminated))
            else:
                still.append(index)
        playing = still
    return results[0], results[1], results[2]
