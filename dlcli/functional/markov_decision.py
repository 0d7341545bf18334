"""Markov decision processes with finitely many states: what values and policies follow from a transition table.

Source: d2l 17.1 "Markov Decision Process (MDP)" and 17.2 "Value Iteration". All tensors are float64 unless said
otherwise; S states, A actions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TransitionTable(NamedTuple):
    """What every action does in every state. An episode that ends has no next state, so rows of ``following`` sum to
    less than 1 where it may end."""

    following: Tensor  # (S, A, S) the probability that the episode goes on in each state
    rewards: Tensor  # (S, A) the expected reward
    successes: Tensor  # (S, A) the probability that the episode ends with its goal reached
    start: Tensor  # (S,) the probability to begin in each state

    def under(self, policy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """following (S, S), rewards (S,) and successes (S,) of a policy (S,) int64, an action for every state."""
        states = torch.arange(len(policy))
        return self.following[states, policy], self.rewards[states, policy], self.successes[states, policy]


def action_values(table: TransitionTable, values: Tensor, discount: float) -> Tensor:
    """The expected return of every action if the states that follow are worth ``values`` (S,) -> (S, A)."""
    return table.rewards + discount * (table.following @ values)


def values_of(table: TransitionTable, policy: Tensor, discount: float) -> Tensor:
    """The expected discounted return of a policy (S,) int64 from every state, from its linear system -> (S,)."""
    following, rewards, _ = table.under(policy)
    identity = torch.eye(len(policy), dtype=torch.float64)
    solution: Tensor = torch.linalg.solve(identity - discount * following, rewards)
    return solution


def greedy(values: Tensor) -> Tensor:
    """The best action of every state, the first of equally good ones: (S, A) -> (S,) int64."""
    return values.argmax(1)


def outcome(table: TransitionTable, policy: Tensor, time_limit: int) -> tuple[float, float]:
    """What a policy gets on average in episodes of at most ``time_limit`` steps, without playing any.

    The distribution over the states is carried through the table, step by step.

    Returns:
        the expected (undiscounted) return, and the probability that the goal is reached.
    """
    following, rewards, successes = table.under(policy)
    here, total, reached = table.start, 0.0, 0.0
    for _ in range(time_limit):
        total += float(here @ rewards)
        reached += float(here @ successes)
        here = here @ following
    return total, reached
