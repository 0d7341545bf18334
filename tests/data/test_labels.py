"""Some of the classes, and labels that are wrong on purpose."""

from __future__ import annotations

import pytest
import torch

from dlcli.data.labels import only_classes, some_of_each_class, with_noise
from dlcli.errors import ConfigError


def test_the_share_of_wrong_labels_is_exact_and_none_of_them_is_right() -> None:
    labels = torch.arange(10_000) % 10
    noisy = with_noise(labels, 10, 0.25, seed=3)
    wrong = noisy != labels
    assert int(wrong.sum()) == 2_500
    shifts = ((noisy - labels) % 10)[wrong].bincount(minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 200  # each other class as likely: 278 on average
    assert torch.equal(noisy, with_noise(labels, 10, 0.25, seed=3))
    assert not torch.equal(noisy, with_noise(labels, 10, 0.25, seed=4))
    assert torch.equal(labels, with_noise(labels, 10, 0.0, seed=3))


def test_some_classes_are_numbered_anew_in_the_order_given() -> None:
    inputs, labels = torch.arange(6), torch.tensor([0, 1, 2, 2, 1, 0])
    splits, names = only_classes({"train": (inputs, labels)}, ["a", "b", "c"], [2, 0])
    assert names == ["c", "a"]
    assert splits["train"][0].tolist() == [0, 2, 3, 5]
    assert splits["train"][1].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("classes", [[1], [1, 1], [0, 3], []])
def test_classes_that_cannot_be(classes: list[int]) -> None:
    with pytest.raises(ConfigError, match="expected at least two different labels from 0 to 2"):
        only_classes({"train": (torch.zeros(3), torch.arange(3))}, ["a", "b", "c"], classes)


def test_so_many_examples_of_each_class_are_drawn() -> None:
    labels = torch.arange(90) % 3
    inputs, kept = some_of_each_class(torch.arange(90), labels, 4, seed=0)
    assert kept.bincount().tolist() == [4, 4, 4]
    assert torch.equal(labels[inputs], kept)
    assert torch.equal(inputs, inputs.sort().values)
    assert set(inputs.tolist()) < set(some_of_each_class(torch.arange(90), labels, 5, seed=0)[0].tolist())
    assert not torch.equal(inputs, some_of_each_class(torch.arange(90), labels, 4, seed=1)[0])
    assert len(some_of_each_class(inputs, kept, None, seed=0)[0]) == 12
    with pytest.raises(ConfigError, match=r"data.per_class=31: class 0 has 30 training examples"):
        some_of_each_class(torch.arange(90), labels, 31, seed=0)
