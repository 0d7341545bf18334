"""Filters on logits against brute force, and draws against the distribution."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dlcli.functional.sampling import draw, keep_top_k, keep_top_p, probabilities


def brute_force(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """The distribution by sorting Python numbers, one row."""
    scaled = torch.tensor(logits, dtype=torch.float64) / temperature
    weights = (scaled - scaled.max()).exp().tolist()
    order = sorted(range(len(weights)), key=lambda i: (-weights[i], i))
    kept = order[: top_k or len(order)]
    total = sum(weights[i] for i in kept)
    if top_p is not None:
        nucleus, mass = [], 0.0
        for i in kept:
            if nucleus and mass >= top_p:
                break
            nucleus.append(i)
            mass += weights[i] / total
        kept = nucleus
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(weights))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 3, 11, 50])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.5, 0.93, 1.0])
def test_the_distribution_equals_brute_force(temperature: float, top_k: int | None, top_p: float | None) -> None:
    logits = torch.randn(20, 11, generator=torch.Generator().manual_seed(1)) * 3
    found = probabilities(logits, temperature, top_k, top_p)
    expected = torch.tensor([brute_force(row, temperature, top_k, top_p) for row in logits.tolist()])
    torch.testing.assert_close(found, expected.double(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=torch.float64))


def test_top_k_keeps_exactly_k_also_of_equal_logits() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert keep_top_k(logits, 2).isfinite().tolist() == [[False, True, True, False], [True, True, False, False]]


def test_top_p_keeps_the_fewest_that_reach_p() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    kept = [int(keep_top_p(logits, p).isfinite().sum()) for p in (0.01, 0.49, 0.51, 0.74, 0.76, 0.89, 0.91, 0.999)]
    assert kept == [1, 1, 2, 2, 3, 3, 4, 4]
    assert all(a <= b for a, b in pairwise(kept))


def test_temperature_zero_is_greedy_and_its_limit() -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0, 2.0], [-3.0, -2.0, -1.0, -1.5]])
    assert probabilities(logits, 0, None, None).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert probabilities(logits[1:], 1e-300, None, None).tolist() == [[0, 0, 1, 0]]


def test_draws_follow_the_distribution_and_only_their_generator() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().expand(30_000, 3)

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return draw(logits, temperature=1.0, top_k=2, top_p=None, generator=generator)

    before = torch.get_rng_state()
    tokens = drawn(0)
    assert tokens.shape == (30_000, 1)
    assert tokens.dtype == torch.int64
    shares = tokens.flatten().bincount(minlength=3) / 30_000
    torch.testing.assert_close(shares, torch.tensor([2 / 3, 1 / 3, 0.0]), atol=0.01, rtol=0)
    assert torch.equal(tokens, drawn(0))
    assert not torch.equal(tokens, drawn(1))
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_logits_are_drawn_in_double() -> None:
    assert probabilities(torch.zeros(1, 3, dtype=torch.bfloat16), 1.0, None, None).dtype == torch.float64
