"""Frozen lake: from the start to the goal over ice with holes."""

from __future__ import annotations

from typing import ClassVar, Literal

from dlcli.data.environment import TableEnvironment, with_agent
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA


@DATA.register("frozen_lake")
class FrozenLake(TableEnvironment):
    """Reward 1 at the goal, which ends the episode as a hole does. Actions: left, down, right, up.

    On slippery ice only one step in three goes where it was meant to, the others to either side of it.

    Source: Gymnasium's FrozenLake-v1; d2l 17.2 and 17.3.
    """

    moves: ClassVar[tuple[tuple[int, int], ...]] = ((0, -1), (1, 0), (0, 1), (-1, 0))

    def __init__(
        self, *, map: Literal["4x4", "8x8"], slippery: bool, time_limit: Count, episodes: Count, seed: Natural
    ):
        options = {"map_name": map, "is_slippery": slippery}
        super().__init__("FrozenLake-v1", time_limit=time_limit, episodes=episodes, seed=seed, options=options)
        self.map = ["".join(cell.decode() for cell in row) for row in self.make().unwrapped.desc]
        self.shape = (len(self.map), len(self.map[0]))

    def succeeded(self, reward: float, terminated: bool) -> bool:
        return reward > 0

    def board(self, state: int) -> list[str]:
        return with_agent(self.map, state)
