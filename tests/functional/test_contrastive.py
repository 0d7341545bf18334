"""The contrastive losses against loops over all pairs, written down from their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.functional.contrastive import (
    alignment,
    mean_closeness,
    nt_xent,
    pair_masks,
    pairwise_margin,
    triplet_semi_hard,
)

GROUPS = [torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.tensor([0, 0, 0, 1, 1, 2, 0, 1])]  # views; classes, one alone


def vectors(seed: int, count: int = 8) -> Tensor:
    return F.normalize(torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def pairs(groups: Tensor, query: int) -> tuple[list[int], list[int]]:
    """The positions of a query's positives and negatives."""
    own = [k for k in range(len(groups)) if k != query and groups[k] == groups[query]]
    return own, [k for k in range(len(groups)) if groups[k] != groups[query]]


@pytest.fixture(params=[False, True], ids=["own keys", "other keys"])
def keys(request: pytest.FixtureRequest) -> Tensor:
    return vectors(1 if request.param else 0)


@pytest.mark.parametrize("groups", GROUPS, ids=["views", "classes"])
def test_nt_xent(keys: Tensor, groups: Tensor) -> None:
    queries, found = vectors(0), []
    for q in range(8):
        own, other = pairs(groups, q)
        if own:
            total = sum(math.exp(float(queries[q] @ keys[k]) / 0.3) for k in own + other)
            found.append(sum(-math.log(math.exp(float(queries[q] @ keys[p]) / 0.3) / total) for p in own) / len(own))
    value = nt_xent(queries, keys, *pair_masks(groups), 0.3)
    assert float(value) == pytest.approx(sum(found) / len(found))


def test_nt_xent_of_views_is_the_cross_entropy_of_finding_the_other_view() -> None:
    queries = vectors(2)
    logits = (queries @ queries.T / 0.5).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6]))
    torch.testing.assert_close(nt_xent(queries, queries, *pair_masks(GROUPS[0]), 0.5), expected)


@pytest.mark.parametrize("groups", GROUPS, ids=["views", "classes"])
def test_triplets_with_semi_hard_negatives(keys: Tensor, groups: Tensor) -> None:
    queries, costs = vectors(0), []
    for q in range(8):
        own, other = pairs(groups, q)
        for p in own:
            near = float((queries[q] - keys[p]).square().sum())
            others = [float((queries[q] - keys[n]).square().sum()) for n in other]
            semi_hard = [distance for distance in others if distance > near]
            chosen = min(semi_hard) if semi_hard else max(others)
            costs.append(max(0.0, near - chosen + 0.4))
    value = triplet_semi_hard(queries, keys, *pair_masks(groups), 0.4)
    assert float(value) == pytest.approx(sum(costs) / len(costs))


@pytest.mark.parametrize("groups", GROUPS, ids=["views", "classes"])
def test_pairwise_margin(keys: Tensor, groups: Tensor) -> None:
    queries, pulled, pushed = vectors(0), [], []
    for q in range(8):
        own, other = pairs(groups, q)
        pulled += [float((queries[q] - keys[k]).square().sum()) / 2 for k in own]
        pushed += [max(0.0, 1.2 - float((queries[q] - keys[k]).norm())) ** 2 / 2 for k in other]
    value = pairwise_margin(queries, keys, *pair_masks(groups), 1.2)
    assert float(value) == pytest.approx(sum(pulled) / len(pulled) + sum(pushed) / len(pushed))


@pytest.mark.parametrize(("loss", "option"), [(nt_xent, 0.3), (triplet_semi_hard, 0.4), (pairwise_margin, 1.2)])
def test_gradients(loss, option: float) -> None:  # type: ignore[no-untyped-def]
    raw = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def value(raw: Tensor) -> Tensor:
        queries = F.normalize(raw)
        return loss(queries, queries, *pair_masks(GROUPS[1]), option)

    assert torch.autograd.gradcheck(value, (raw,))


@pytest.mark.parametrize(("loss", "option"), [(nt_xent, 0.3), (triplet_semi_hard, 0.4), (pairwise_margin, 1.2)])
def test_equal_vectors_and_a_single_thing_give_finite_gradients(loss, option: float) -> None:  # type: ignore[no-untyped-def]
    for groups in (torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 0])):
        raw = torch.ones(4, 3, requires_grad=True)
        queries = F.normalize(raw)
        loss(queries, queries, *pair_masks(groups), option).backward()
        assert raw.grad is not None
        assert raw.grad.isfinite().all()


def test_alignment_and_uniformity() -> None:
    first, second = vectors(0), vectors(1)
    expected = sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True)) / 8
    assert float(alignment(first, second)) == pytest.approx(expected)
    distances = [(first[i] - first[j]).square().sum() for i in range(8) for j in range(8) if i != j]
    assert float(mean_closeness(first)) == pytest.approx(sum(math.exp(-2 * float(d)) for d in distances) / 56)
    assert float(mean_closeness(torch.ones(3, 4) / 2)) == pytest.approx(1)
