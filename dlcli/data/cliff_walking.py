"""Cliff walking: along the edge, or safely around it."""

from __future__ import annotations

from typing import ClassVar

from dlcli.data.environment import TableEnvironment, with_agent
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA

MAP = ("." * 12, "." * 12, "." * 12, "S" + "X" * 10 + "G")


@DATA.register("cliff_walking")
class CliffWalking(TableEnvironment):
    """Reward -1 for a step and -100 for one over the cliff, which leads back to the start. Actions: up, right, down,
    left. The best return is -13; SARSA, which minds its own exploration, learns the safe way around.

    Source: Gymnasium's CliffWalking-v1; Sutton and Barto, "Reinforcement Learning", example 6.6.
    """

    moves: ClassVar[tuple[tuple[int, int], ...]] = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, *, slippery: bool, time_limit: Count, episodes: Count, seed: Natural):
        self.shape = (len(MAP), len(MAP[0]))
        options = {"is_slippery": slippery}
        super().__init__("CliffWalking-v1", time_limit=time_limit, episodes=episodes, seed=seed, options=options)

    def board(self, state: int) -> list[str]:
        return with_agent(MAP, state)
