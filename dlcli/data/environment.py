"""Environment: a source of data that answers actions with observations and rewards. The simulators are Gymnasium's.

An episode is decided by the actions and one seed, so that playing the n-th episode again gives the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dlcli.data.base import DataModule, Order, generator
from dlcli.functional.markov_decision import TransitionTable
from dlcli.spec import DataSpec

AT_ONCE = 100  # episodes that are played side by side, with one batch of observations at each step


class EpisodeBatch(NamedTuple):
    """Episodes to play. environment: an ``Environment``. seeds (N,) int64: what decides each of them."""

    environment: Any
    seeds: Tensor


class Environment(DataModule):
    """Base of environments with finitely many actions.

    Class attributes:
        moves: row and column steps of the actions, where states are the cells of a grid; empty elsewhere.
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("control",)}
    splits: tuple[str, ...] = ("train", "val", "test")
    measuring_only: ClassVar[tuple[str, ...]] = ("episodes", "seed")
    moves: ClassVar[tuple[tuple[int, int], ...]] = ()
    table: TransitionTable | None = None  # what every action does, where states can be counted

    def __init__(self, simulator: str, *, time_limit: int, episodes: int, seed: int, options: Mapping[str, Any]):
        """
        Args:
            simulator: Gymnasium's name of it.
            time_limit: steps after which an episode ends.
            episodes: how many are played to measure a policy, of each split.
            seed: decides these.
            options: of the simulator.
        """
        self.simulator = simulator
        self.time_limit = time_limit
        self.episodes = episodes
        self.seed = seed
        self.options = dict(options)
        self.batch_size = 1
        self.source = "generated"
        self.device = torch.device("cpu")
        self._worlds: list[Any] = []
        self.fingerprint = hashlib.sha256(repr((simulator, time_limit, sorted(options.items()))).encode()).hexdigest()

    def make(self) -> Any:
        """A simulator of its own, with Gymnasium's interface."""
        import gymnasium

        return gymnasium.make(
            self.simulator, max_episode_steps=self.time_limit, disable_env_checker=True, **self.options
        )

    def worlds(self, count: int) -> list[Any]:
        """Simulators for ``count`` episodes side by side, which are reset before each use."""
        self._worlds += [self.make() for _ in range(count - len(self._worlds))]
        return self._worlds[:count]

    def observed(self, observations: Sequence[Any]) -> Tensor:
        """What simulators showed, as a model reads it: states (N,) int64, or vectors (N, D) float32."""
        raise NotImplementedError

    def succeeded(self, reward: float, terminated: bool) -> bool:
        """Whether an episode reached its goal, from its last reward and from whether it ended before the time limit."""
        return terminated

    def text(self, observation: Any) -> str:
        """An observation for the terminal."""
        raise NotImplementedError

    def picture(self, observation: Any) -> Tensor:
        """An observation as a picture, (3, H, W) uint8."""
        raise NotImplementedError

    def batches(self, split: str, *, order: Order, seed: int = 0, epoch: int = 0) -> list[EpisodeBatch]:
        number = self.splits.index(split)
        seeds = torch.tensor([episode_seed(self.seed, number, index) for index in range(self.episodes)])
        return [EpisodeBatch(self, part) for part in torch.split(seeds, AT_ONCE)]

    def to(self, device: torch.device) -> None:
        self.device = device

    def describe(self) -> dict[str, str]:
        options = {name.replace("_", " "): str(value) for name, value in self.options.items()}
        sizes = ", ".join(f"{name}={value}" for name, value in self.spec.defined().items())
        return {"simulator": self.simulator, **options, "time limit": str(self.time_limit), "sizes": sizes}


class TableEnvironment(Environment):
    """Base of environments whose states and actions can be counted; Gymnasium's have their transitions in a table."""

    provides: ClassVar[tuple[str, ...]] = ("num_states", "num_actions")
    table: TransitionTable
    shape: tuple[int, int]  # of the picture of all states: rows, columns

    def __init__(self, simulator: str, *, time_limit: int, episodes: int, seed: int, options: Mapping[str, Any]):
        super().__init__(simulator, time_limit=time_limit, episodes=episodes, seed=seed, options=options)
        world = self.make().unwrapped
        states, actions = len(world.P), len(world.P[0])
        self.spec = DataSpec(num_states=states, num_actions=actions)
        following = torch.zeros(states, actions, states, dtype=torch.float64)
        rewards, successes = torch.zeros(2, states, actions, dtype=torch.float64)
        final = torch.zeros(states, dtype=torch.bool)
        for state, by_action in world.P.items():
            for action, possible in by_action.items():
                for probability, next_state, reward, terminated in possible:
                    rewards[state, action] += probability * float(reward)
                    if terminated:
                        final[next_state] = True
                        successes[state, action] += probability * self.succeeded(float(reward), True)
                    else:
                        following[state, action, next_state] += probability
        for tensor in (following, rewards, successes):  # nobody acts in a state that ends the episode
            tensor[final] = 0.0
        start = torch.tensor(world.initial_state_distrib, dtype=torch.float64)
        self.table = TransitionTable(following, rewards, successes, start / start.sum())

    def observed(self, observations: Sequence[Any]) -> Tensor:
        return torch.tensor([int(observation) for observation in observations], device=self.device)

    def board(self, state: int) -> list[str]:
        """The rows of a drawing by characters."""
        raise NotImplementedError

    def text(self, observation: Any) -> str:
        return "\n".join(self.board(int(observation)))

    def picture(self, observation: Any) -> Tensor:
        from dlcli.functional.boards import board_picture

        return board_picture(self.board(int(observation)))


def with_agent(rows: Sequence[str], state: int) -> list[str]:
    """A map with the agent, @, at a cell; cells are counted row by row."""
    row, column = divmod(state, len(rows[0]))
    return [*rows[:row], f"{rows[row][:column]}@{rows[row][column + 1 :]}", *rows[row + 1 :]]


def episode_seed(*numbers: int) -> int:
    """The seed of an episode, a pure function of the numbers."""
    return int(generator(*numbers).initial_seed() % 2**31)
