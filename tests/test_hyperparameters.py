"""The check of a value against an annotation, and durations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from dlcli.hyperparameters import (
    Count,
    Duration,
    FilePath,
    Fraction,
    Ge,
    Le,
    MinLen,
    Probability,
    RunReference,
    accepts,
    describe,
    is_path,
    names_run,
    steps_of,
)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [0, 1.5, -2e-3], [True, "1.5", None, float("nan"), float("inf")]),
        (bool, [True, False], [0, 1, "true"]),
        (str, ["", "a"], [1, None]),
        (int | None, [None, 3], ["null", 1.5]),
        (Count, [1, 10], [0, -1, True, 1.0]),
        (Probability, [0, 0.5], [1, -0.1, 1.5]),
        (Fraction, [1, 0.1], [0, 1.1]),
        (Literal["relu", "tanh"], ["relu"], ["gelu", 1, None]),
        (list[int], [[], [1, 2]], [[1.5], 1, ["a"], None]),
        (Annotated[list[Count], MinLen(1)], [[3]], [[], [0]]),
        (tuple[float, float], [[0.9, 0.99]], [[0.9], [0.9, 0.99, 1.0], "ab"]),
        (Annotated[int, Ge(0), Le(2)], [0, 2], [-1, 3]),
        (dict[str, float], [{}, {"a": 1.0}], [{"a": "b"}, {1: 1.0}, []]),
        (Duration, [1, 50, "1 epoch", "2 epochs", "0.5 epoch", "10 steps"], [0, -1, "soon", "0 epochs", 1.5, None, ""]),
        (Duration | None, [None, "1 epoch"], ["x"]),
    ],
)
def test_accepts(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not accepts(value, annotation)] == []
    assert [value for value in bad if accepts(value, annotation)] == []


def test_describe_says_type_range_and_choices() -> None:
    assert describe(Count) == "a whole number at least 1"
    assert describe(Annotated[int, Ge(0), Le(2)]) == "a whole number at least 0 and at most 2"
    assert describe(float | None) == "a number or null"
    assert describe(Literal["relu", "tanh"]) == "one of relu, tanh"
    assert describe(list[int]) == "a list, each a whole number"
    assert describe(tuple[float, float]) == "a list of 2: a number, a number"
    assert "1 epoch" in describe(Duration)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [(7, 7), ("1 epoch", 100), ("2 epochs", 200), ("0.5 epoch", 50), ("30 steps", 30), ("0.001 epoch", 1)],
)
def test_steps_of(duration: int | str, steps: int) -> None:
    assert steps_of(duration, 100) == steps


def test_steps_of_refuses_other_text() -> None:
    with pytest.raises(ValueError, match="'later' is not a duration"):
        steps_of("later", 100)


def test_which_values_are_paths() -> None:
    weights = Literal["pretrained"] | FilePath | None
    assert is_path("a.pth", weights)
    assert is_path("a.csv", FilePath)
    assert not any(is_path(value, weights) for value in ("pretrained", None, ""))
    assert not is_path("a.csv", str)
    assert not is_path(3, Count | None)


def test_which_values_name_a_run() -> None:
    assert names_run("latest", RunReference | None)
    assert not names_run(None, RunReference | None)
    assert not names_run("latest", FilePath | None)
    assert not is_path("latest", RunReference)
