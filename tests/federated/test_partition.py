"""Clients' examples: every one has its own, and together they have all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlcli.errors import ConfigError
from dlcli.federated.partition import divide

LABELS = np.repeat(np.arange(10), 100)
OPTIONS: dict[str, Any] = {"labels": LABELS, "owners": None, "alpha": 0.5, "seed": 3}


@pytest.mark.parametrize("kind", ["iid", "consecutive", "dirichlet"])
def test_every_example_has_one_client(kind: Any) -> None:
    parts = divide(kind, 1000, 7, **OPTIONS)
    assert len(parts) == 7
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    again = divide(kind, 1000, 7, **OPTIONS)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_equal_parts_are_equal_up_to_one() -> None:
    for kind in ("iid", "consecutive"):
        assert {len(part) for part in divide(kind, 1000, 7, **OPTIONS)} == {142, 143}  # type: ignore[arg-type]
    first, second = divide("consecutive", 10, 2, **OPTIONS)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    seeds = [divide("iid", 1000, 7, **{**OPTIONS, "seed": seed})[0].tolist() for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def unevenness(parts: list[Any]) -> float:
    """The largest share of one class among a client's examples, on average."""
    return float(np.mean([np.bincount(LABELS[part], minlength=10).max() / len(part) for part in parts]))


def test_a_small_alpha_gives_clients_few_classes() -> None:
    even, uneven = (divide("dirichlet", 1000, 5, **{**OPTIONS, "alpha": alpha}) for alpha in (1000.0, 0.1))
    assert unevenness(even) < 0.15
    assert unevenness(uneven) > 0.3
    assert unevenness(divide("iid", 1000, 5, **OPTIONS)) < 0.2


def test_owners_are_clients() -> None:
    parts = divide("column", 6, None, **{**OPTIONS, "owners": np.array([4, 0, 4, 9, 0, 4])})
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 5], [3]]


@pytest.mark.parametrize(
    ("kind", "clients", "changes", "message"),
    [
        ("iid", 1001, {}, "trainer.clients=1,001: expected at most 1,000, one for each training example"),
        ("iid", None, {}, "trainer.clients=null: expected a number of clients for partition=iid"),
        ("column", None, {}, "these data name no owners; data=csv data.client_column=… does"),
        ("column", 3, {"owners": LABELS}, "trainer.clients=3: with partition=column the data say it; use null"),
        ("dirichlet", 3, {"labels": None}, "divides classes, which these data do not have; use iid"),
        ("dirichlet", 50, {"alpha": 1e-3}, r"dirichlet_alpha=0.001: client \d+ has no data \(\d+ of 50 have none\)"),
    ],
)
def test_what_cannot_be_divided_is_said(kind: Any, clients: int | None, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        divide(kind, 1000, clients, **{**OPTIONS, **changes})
