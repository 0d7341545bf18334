"""Which rows train, validate and test: index sets that depend on sizes and seeds alone. Torch-free.

Each function returns positions of rows by split, or an order of rows that ``cut`` divides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlcli.errors import ConfigError, counted

Indices = np.ndarray[Any, np.dtype[np.int64]]
"""Positions of rows, (rows,) int64."""


def random_order(count: int, seed: int) -> Indices:
    """All rows in an order drawn from the seed, as scikit-learn's ``train_test_split`` draws it."""
    return np.random.RandomState(seed).permutation(count)


def stratified_order(labels: Indices, seed: int) -> Indices:
    """All rows in a random order in which every stretch has the classes in about their shares of the whole.

    Args:
        labels: the class of each row, (rows,).
        seed: of the drawing.

    A class of one row stands in the middle of the order, where ``cut`` takes the training rows from.
    """
    random = np.random.RandomState(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        shift = random.uniform(0.3, 0.7) if len(rows) > 1 else 0.5  # so that classes do not reach the cuts together
        position[rows] = (np.arange(len(rows)) + shift) / len(rows)
    return np.argsort(position, kind="stable")


def in_turns(labels: Indices) -> Indices:
    """Rows of which each is of another class than the one before it, class by class in turns.

    Every row of the largest class occurs once, those of the others again from their first when they are used up.

    Args:
        labels: the class of each row, (rows,).
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    longest = max(len(rows) for rows in classes)
    return np.stack([np.resize(rows, longest) for rows in classes], 1).reshape(-1)


def divide(
    order: Indices, val_fraction: float, test_fraction: float, folds: int | None, fold: int
) -> dict[str, Indices]:
    """``cut``, or with ``folds`` the cross-validation of ``fold_of``: the one place that knows these five options.

    Raises:
        ConfigError: a part without rows, or a fold that does not exist.
    """
    check_fold(folds, fold)
    if folds is not None:
        return fold_of(order, folds, fold, test_fraction)
    return cut(order, val_fraction, test_fraction)


def check_fold(folds: int | None, fold: int) -> None:
    """
    Raises:
        ConfigError: a fold that does not exist.
    """
    if folds is None and fold:
        raise ConfigError(f"data.fold={fold}: say with data.folds how many parts there are")
    if folds is not None and not 0 <= fold < folds:
        raise ConfigError(f"data.fold={fold}: with data.folds={folds}, expected 0 to {folds - 1}")


def cut(order: Indices, val_fraction: float, test_fraction: float) -> dict[str, Indices]:
    """The first rows of an order test (``test_fraction`` of all), the last validate (``val_fraction`` of the others).

    With ``val_fraction`` 0 the test rows validate too, as the books often have it; without test rows those that train.

    Raises:
        ConfigError: no row is left for a part.
    """
    count = len(order)
    tested = math.ceil(test_fraction * count)
    if val_fraction == 0 and tested < count:
        parts = {"train": order[tested:], "val": order[:tested] if tested else order}
        return {**parts, "test": order[:tested]} if tested else parts
    validated = round(val_fraction * (count - tested))
    if validated < 1 or count - tested - validated < 1:
        raise ConfigError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: of {counted(count, 'row')}, "
            f"{tested} test, {validated} validate and {count - tested - validated} train; expected at least 1 each"
        )
    parts = {"train": order[tested : count - validated], "val": order[count - validated :], "test": order[:tested]}
    return parts if tested else {"train": parts["train"], "val": parts["val"]}


def fold_of(order: Indices, folds: int, fold: int, test_fraction: float) -> dict[str, Indices]:
    """Cross-validation: the rows that do not test are cut into ``folds`` stretches, of which number ``fold`` validates.

    The test rows are the same in all folds, and each of the other rows validates in exactly one of them.

    Raises:
        ConfigError: it would be empty.
    """
    tested = math.ceil(test_fraction * len(order))
    rest = order[tested:]
    if len(rest) < folds:
        raise ConfigError(
            f"data.folds={folds}: only {counted(len(rest), 'row')} left beside the test; expected at least one each"
        )
    pieces = np.array_split(rest, folds)  # stretches of a stratified order have the classes in their shares
    train = np.concatenate([piece for number, piece in enumerate(pieces) if number != fold])
    parts = {"train": train, "val": pieces[fold], "test": order[:tested]}
    return parts if tested else {"train": parts["train"], "val": parts["val"]}


def chronological(times: np.ndarray[Any, Any], val_fraction: float, test_fraction: float) -> dict[str, Indices]:
    """The latest rows test, those before them validate, the earliest train; rows of one time in their order."""
    order = np.argsort(times, kind="stable")
    tested = math.ceil(test_fraction * len(order))
    rotated = np.concatenate([order[len(order) - tested :], order[: len(order) - tested]])
    return cut(rotated, val_fraction, test_fraction)
