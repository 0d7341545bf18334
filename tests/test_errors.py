"""Pieces of messages."""

from __future__ import annotations

import pytest

from dlcli.errors import counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (12_345, "12,345 steps"), (0.5, "0.5 steps")]
)
def test_one_thing_is_named_in_the_singular(count: float, text: str) -> None:
    assert counted(count, "step") == text
