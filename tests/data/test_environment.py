"""Environments: their transition tables, episodes that seeds decide, and what people see of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dlcli import catalogue
from dlcli.data.environment import Environment
from dlcli.registry import DATA

TABLES = ("cliff_walking", "frozen_lake", "frozen_lake_8x8", "taxi")
SIZES = {"frozen_lake": (16, 4), "frozen_lake_8x8": (64, 4), "cliff_walking": (48, 4), "taxi": (500, 6)}


def environment(name: str, **changes: Any) -> Any:
    return DATA.build({**catalogue.entries("data")[name].content(), **changes})


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_a_distribution_wherever_the_episode_goes_on(name: str) -> None:
    found = environment(name)
    assert (found.spec.num_states, found.spec.num_actions) == SIZES[name]
    table = found.table
    assert table.start.sum() == pytest.approx(1)
    going_on = table.following.sum(2)
    assert (table.following >= 0).all()
    assert (going_on <= 1 + 1e-12).all()
    assert (going_on + table.successes <= 1 + 1e-12).all()
    assert (going_on > 1 - 1e-12).any()


@pytest.mark.parametrize("name", ["cliff_walking", "frozen_lake", "taxi"])
def test_the_table_is_what_the_simulator_does(name: str) -> None:
    """Every step that is played has a positive probability, and the mean reward of many is near the expected one."""
    found = environment(name)
    world, table = found.make(), found.table
    chance = torch.Generator().manual_seed(0)
    difference, count = 0.0, 0
    for episode in range(20):
        state, ended = int(world.reset(seed=episode)[0]), False
        while not ended:
            action = int(torch.randint(found.spec.num_actions, (), generator=chance))
            following, reward, terminated, truncated, _ = world.step(action)
            if not terminated:
                assert table.following[state, action, int(following)] > 0
            difference, count = difference + float(reward) - float(table.rewards[state, action]), count + 1
            state, ended = int(following), terminated or truncated
    assert abs(difference / count) < 0.05


def test_slippery_ice_goes_three_ways() -> None:
    table = environment("frozen_lake").table
    assert table.following[0, 2].nonzero().flatten().tolist() == [0, 1, 4]
    assert table.rewards[14, 2] == pytest.approx(1 / 3)
    assert environment("frozen_lake", slippery=False).table.following[0, 2].tolist() == [0, 1, *[0] * 14]
    assert table.following[5].sum() == 0  # a hole


def test_seeds_decide_episodes_and_splits_differ() -> None:
    first, again, other = environment("cart_pole"), environment("cart_pole"), environment("cart_pole", seed=1)
    seeds = {split: first.batches(split, order="sequential")[0].seeds for split in first.splits}
    assert torch.equal(seeds["val"], again.batches("val", order="sequential")[0].seeds)
    assert not torch.equal(seeds["val"], other.batches("val", order="sequential")[0].seeds)
    assert not set(seeds["val"].tolist()) & set(seeds["test"].tolist())
    assert first.fingerprint == other.fingerprint  # what is measured decides nothing that is learned
    assert first.fingerprint != environment("cart_pole", time_limit=200).fingerprint
    assert [
        len(batch.seeds) for batch in environment("cart_pole", episodes=230).batches("val", order="sequential")
    ] == [
        *(100, 100, 30),
    ]


@pytest.mark.parametrize("name", [*TABLES, "cart_pole"])
def test_people_can_look_at_it(name: str) -> None:
    found: Environment = environment(name)
    observation, _ = found.make().reset(seed=0)
    picture = found.picture(observation)
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3
    assert picture.float().std() > 0
    assert found.text(observation)
    later = found.make().reset(seed=5)[0] if name in ("taxi", "cart_pole") else 2
    assert found.text(later) != found.text(observation)


def test_the_agent_is_where_it_stands() -> None:
    assert environment("frozen_lake").text(0) == "@FFF\nFHFH\nFFFH\nHFFG"
    assert environment("cliff_walking").text(36).splitlines()[3] == "@XXXXXXXXXXG"
    row, column, passenger, destination = 1, 2, 4, 0
    state = ((row * 5 + column) * 5 + passenger) * 4 + destination
    assert environment("taxi").text(state).splitlines()[2:] == [
        *("| : |@: : |", "| : : : : |", "| | : | : |", "|Y| : |B: |", "+---------+", "taxi to R"),
    ]
