"""Filters on logits against brute force, and draws against the distribution."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dlcli.functional.sampling import draw, gumbel_noise, keep, keep_top_k, keep_top_p


def probabilities(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The distribution that a draw has."""
    return (keep(logits, temperature, top_k, top_p).double() / temperature).softmax(-1)


def drawn(logits: Tensor, temperature: float, seed: int, top_k: int | None = None) -> Tensor:
    """A token for each row (B, V), all from one generator."""
    noise = gumbel_noise([torch.Generator().manual_seed(seed)], *logits.shape)[:, 0]
    return draw(keep(logits, temperature, top_k, None), temperature * noise)[0]


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
    assert drawn(keep(logits, 0, 3, 0.1), 0, seed=1).tolist() == [1, 2]  # the first of equal ones
    assert drawn(logits, 1e-300, seed=1).tolist() == [1, 2]
    expected = [[False, True, False, False], [False, False, True, False]]
    assert keep(logits, 1e-300, None, 0.5).isfinite().tolist() == expected


def test_draws_follow_the_distribution_and_only_their_generator() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().expand(30_000, 3)
    before = torch.get_rng_state()
    tokens = drawn(logits, 1.0, seed=0, top_k=2)
    assert tokens.shape == (30_000,)
    assert tokens.dtype == torch.int64
    shares = tokens.bincount(minlength=3) / 30_000
    torch.testing.assert_close(shares, torch.tensor([2 / 3, 1 / 3, 0.0]), atol=0.01, rtol=0)
    assert torch.equal(tokens, drawn(logits, 1.0, seed=0, top_k=2))
    assert not torch.equal(tokens, drawn(logits, 1.0, seed=1, top_k=2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_sharpens_or_flattens_the_distribution(temperature: float) -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().expand(30_000, 3)
    shares = drawn(logits, temperature, seed=0).bincount(minlength=3) / 30_000
    torch.testing.assert_close(shares, (logits[0] / temperature).softmax(0), atol=0.01, rtol=0)


def test_noise_of_a_sample_depends_on_its_generator_only_and_not_on_how_much_is_drawn_at_once() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    alone = gumbel_noise(generators(7), 12, 5)
    assert torch.equal(gumbel_noise(generators(3, 7, 4), 12, 5)[:, 1:2], alone)
    (again,) = generators(7)
    assert torch.equal(torch.cat([gumbel_noise([again], count, 5) for count in (1, 2, 9)]), alone)
    assert alone.isfinite().all()


def test_the_winning_sum_shows_logits_that_are_not_finite() -> None:
    noise = torch.zeros(4, 3)
    inf, nan = float("inf"), float("nan")
    logits = torch.tensor([[0.0, -inf, 1.0], [0.0, nan, 1.0], [inf, 0.0, 0.0], [-inf, -inf, -inf]])
    assert draw(logits, noise)[1].isfinite().tolist() == [True, False, False, False]
