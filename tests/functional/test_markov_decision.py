"""Markov decision processes against brute force on small random tables."""

from __future__ import annotations

import itertools

import pytest
import torch

from dlcli.functional.boards import policy_picture
from dlcli.functional.markov_decision import TransitionTable, action_values, greedy, outcome, values_of


def random_table(states: int = 4, actions: int = 2) -> TransitionTable:
    chance = torch.Generator().manual_seed(0)
    following = torch.rand(states, actions, states, generator=chance, dtype=torch.float64)
    following = 0.9 * following / following.sum(2, keepdim=True)  # one step in ten ends the episode
    rewards = torch.rand(states, actions, generator=chance, dtype=torch.float64)
    successes = 0.1 * torch.rand(states, actions, generator=chance, dtype=torch.float64)
    return TransitionTable(following, rewards, successes, torch.full((states,), 1 / states, dtype=torch.float64))


def test_the_values_of_a_policy_satisfy_their_equation() -> None:
    table, policy = random_table(), torch.tensor([0, 1, 1, 0])
    values = values_of(table, policy, 0.9)
    expected = action_values(table, values, 0.9).gather(1, policy.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


def test_iteration_finds_the_best_of_all_policies() -> None:
    table = random_table()
    values = torch.zeros(4, 2, dtype=torch.float64)
    for _ in range(500):
        values = action_values(table, values.amax(1), 0.9)
    every = [values_of(table, torch.tensor(policy), 0.9) for policy in itertools.product(range(2), repeat=4)]
    torch.testing.assert_close(values.amax(1), torch.stack(every).amax(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(values_of(table, greedy(values), 0.9), values.amax(1), rtol=0, atol=1e-10)


def test_the_outcome_is_the_sum_over_all_paths() -> None:
    table, policy = random_table(states=3), torch.tensor([1, 0, 1])
    following, rewards, successes = table.under(policy)
    total = reached = 0.0
    for length in range(1, 5):
        for path in itertools.product(range(3), repeat=length):
            probability = float(table.start[path[0]])
            for here, there in itertools.pairwise(path):
                probability *= float(following[here, there])
            total += probability * float(rewards[path[-1]])
            reached += probability * float(successes[path[-1]])
    assert outcome(table, policy, 4) == pytest.approx((total, reached), abs=1e-12)


def test_arrows_point_where_actions_lead() -> None:
    values = torch.tensor([[0.0, 1.0]])
    right, left = (policy_picture(values, torch.full((1, 2), action), [(0, 1), (0, -1)]) for action in (0, 1))
    red = (right == torch.tensor([218, 54, 51]).view(3, 1, 1)).all(0).nonzero()
    assert red[:, 1].min() >= right.shape[2] // 2  # no arrow where nothing is known
    half = right.shape[2] // 2
    difference = right[:, :, half:].float() - left[:, :, half:].flip(2).float()
    assert (difference.abs().sum(0) > 0).float().mean() < 0.05  # mirror images, up to the rounding of their edges
    assert not torch.equal(right, left)
