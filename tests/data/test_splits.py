"""Index sets: complete, disjoint, and functions of sizes and seeds alone."""

from __future__ import annotations

import numpy as np
import pytest

from dlcli.data.splits import chronological, cut, fold_of, random_order, stratified_order
from dlcli.errors import ConfigError


@pytest.mark.parametrize("seed", range(5))
def test_stratified_parts_have_the_classes_shares(seed: int):
    labels = np.array([0] * 500 + [1] * 100 + [2] * 20 + [3])
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    parts = cut(order, 0.25, 0.2)
    for name, share in (("test", 0.2), ("val", 0.2), ("train", 0.6)):
        counts = np.bincount(labels[parts[name]], minlength=4)
        assert abs(counts[:3] - share * np.array([500, 100, 20])).max() <= 2
    assert 3 in labels[parts["train"]]


def test_every_row_validates_once():
    order = random_order(103, 7)
    folds = [fold_of(order, 4, fold, 0.1) for fold in range(4)]
    assert sorted(np.concatenate([*(parts["val"] for parts in folds), folds[0]["test"]])) == list(range(103))
    sizes = [len(parts["val"]) for parts in folds]
    assert max(sizes) - min(sizes) <= 1


def test_random_rows_are_those_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(50), test_size=0.3, random_state=3)
    parts = cut(random_order(50, 3), 0.2, 0.3)
    assert parts["test"].tolist() == test.tolist()
    assert [*parts["train"], *parts["val"]] == train.tolist()


def test_the_latest_rows_test():
    parts = chronological(np.array([5.0, 1, 4, 2, 3, 0, 7, 6, 9, 8]), 0.25, 0.2)
    assert sorted(parts["test"]) == [8, 9]
    assert sorted(parts["val"]) == [6, 7]


def test_no_fold_is_empty():
    with pytest.raises(ConfigError, match="data.folds=9: only 8 rows left"):
        fold_of(random_order(10, 0), 9, 0, 0.2)
