"""The losses of generative adversarial networks against their formulas, written out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dlcli.functional.adversarial_losses import discriminator_loss, generator_loss, gradient_penalty
from dlcli.functional.interpolation import on_the_way

ON_DATA, ON_GENERATED = [2.0, -0.5, 0.3], [0.4, -3.0, 1.2]


def mean(function: Callable[[float], float], values: list[float]) -> float:
    return sum(map(function, values)) / len(values)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


BY_HAND = {
    "non_saturating": (
        -0.5 * mean(log_sigmoid, ON_DATA) - 0.5 * mean(lambda x: log_sigmoid(-x), ON_GENERATED),
        -mean(log_sigmoid, ON_GENERATED),
    ),
    "minimax": (
        -0.5 * mean(log_sigmoid, ON_DATA) - 0.5 * mean(lambda x: log_sigmoid(-x), ON_GENERATED),
        mean(lambda x: log_sigmoid(-x), ON_GENERATED),
    ),
    "hinge": (
        mean(lambda x: max(0.0, 1 - x), ON_DATA) + mean(lambda x: max(0.0, 1 + x), ON_GENERATED),
        -mean(lambda x: x, ON_GENERATED),
    ),
    "wasserstein": (
        mean(lambda x: x, ON_GENERATED) - mean(lambda x: x, ON_DATA),
        -mean(lambda x: x, ON_GENERATED),
    ),
}


@pytest.mark.parametrize("loss", BY_HAND)
def test_each_loss_is_its_formula(loss: str) -> None:
    found = discriminator_loss(loss, torch.tensor(ON_DATA), torch.tensor(ON_GENERATED), 0.0)
    assert float(found) == pytest.approx(BY_HAND[loss][0], rel=1e-6)
    assert float(generator_loss(loss, torch.tensor(ON_GENERATED))) == pytest.approx(BY_HAND[loss][1], rel=1e-6)


def test_smoothing_is_of_the_datas_examples_alone() -> None:
    smoothed = 0.9 * mean(log_sigmoid, ON_DATA) + 0.1 * mean(lambda x: log_sigmoid(-x), ON_DATA)
    expected = -0.5 * smoothed - 0.5 * mean(lambda x: log_sigmoid(-x), ON_GENERATED)
    found = discriminator_loss("non_saturating", torch.tensor(ON_DATA), torch.tensor(ON_GENERATED), 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_discriminator_that_knows_nothing_loses_log_two() -> None:
    zeros = torch.zeros(5)
    assert float(discriminator_loss("non_saturating", zeros, zeros, 0.0)) == pytest.approx(math.log(2))
    assert float(generator_loss("non_saturating", zeros)) == pytest.approx(math.log(2))


def test_only_the_non_saturating_generator_learns_from_examples_that_are_seen_through() -> None:
    slopes = {}
    for loss in ("non_saturating", "minimax"):
        scores = torch.full((1,), -10.0, requires_grad=True)
        (slopes[loss],) = torch.autograd.grad(generator_loss(loss, scores), scores)
    assert float(slopes["non_saturating"]) == pytest.approx(-1, abs=1e-4)
    assert float(slopes["minimax"]) == pytest.approx(0, abs=1e-4)


def test_the_penalty_of_a_linear_discriminator_needs_no_points() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0))
    expected = (float(linear[1].weight.detach().norm()) - 1) ** 2
    penalty = gradient_penalty(linear, torch.randn(4, 2, 3), torch.randn(4, 2, 3))
    assert penalty.requires_grad
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    weight = linear[1].weight.detach()
    slope = 2 * (weight.norm() - 1) * weight / weight.norm()
    torch.testing.assert_close(linear[1].weight.grad, slope)


def test_the_penalty_looks_between_the_examples() -> None:
    seen: list[Tensor] = []

    def discriminator(examples: Tensor) -> Tensor:
        seen.append(examples)
        return examples.sum(1)

    real, generated = torch.ones(50, 3), torch.zeros(50, 3)
    gradient_penalty(discriminator, real, generated)
    (between,) = seen
    assert torch.equal(between[:, 0], between[:, 1]), "one share for all numbers of an example"
    assert 0 <= between.min() < 0.2 < 0.8 < between.max() <= 1


def test_the_way_keeps_its_distance_from_the_origin() -> None:
    points = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    way = on_the_way(points, 5).view(3, 5, 8)
    torch.testing.assert_close(way.norm(dim=2), torch.ones(3, 5))
    torch.testing.assert_close(way[:, 0], points)
    torch.testing.assert_close(way[:, -1], points.roll(-1, 0))
    steps = (way[0, 1:] * way[0, :-1]).sum(1).acos()
    torch.testing.assert_close(steps, steps[:1].expand(4), msg="equal angles")


def test_where_there_is_no_great_circle_the_way_is_straight() -> None:
    points = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    torch.testing.assert_close(on_the_way(points, 3)[:3], torch.tensor([[1.0, 0], [-0.5, 0], [-2, 0]]))
