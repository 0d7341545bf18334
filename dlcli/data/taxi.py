"""Taxi: fetch a passenger and bring it where it wants to go."""

from __future__ import annotations

from dlcli.data.environment import TableEnvironment
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA

MAP = ("+---------+", "|R: | : :G|", "| : | : : |", "| : : : : |", "| | : | : |", "|Y| : |B: |", "+---------+")
PLACES = ("R", "G", "Y", "B", "taxi")


@DATA.register("taxi")
class Taxi(TableEnvironment):
    """500 states: 25 places of the taxi, 5 of the passenger, 4 destinations. Actions: south, north, east, west, pick
    up, drop off. Reward -1 for a step, -10 for a wrong pick-up or drop-off, 20 for the right one, which ends it.

    Source: Gymnasium's Taxi-v4; Dietterich 2000, "Hierarchical Reinforcement Learning with the MAXQ Value Function
    Decomposition".
    """

    def __init__(self, *, time_limit: Count, episodes: Count, seed: Natural):
        self.shape = (25, 20)  # places of the taxi, the rest
        super().__init__("Taxi-v4", time_limit=time_limit, episodes=episodes, seed=seed, options={})

    def board(self, state: int) -> list[str]:
        rest, destination = divmod(state, 4)
        place, passenger = divmod(rest, 5)
        row, column = divmod(place, 5)
        rows = [list(line) for line in MAP]
        rows[1 + row][1 + 2 * column] = "@"
        return ["".join(line) for line in rows] + [f"{PLACES[passenger]} to {PLACES[destination]}"]
