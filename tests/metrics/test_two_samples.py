"""Distances between two samples against scipy and NumPy, and the classes that a generator hits."""

import numpy as np
import pytest
import torch

from dlcli.metrics.class_coverage import ClassShares, classes_hit
from dlcli.metrics.two_samples import Moments, TwoSamples, covariance_error, frechet_distance, mean_error, products

RANDOM = torch.Generator().manual_seed(0)
REAL = torch.randn(60, 4, generator=RANDOM) @ torch.randn(4, 4, generator=RANDOM) + 1
GENERATED = torch.randn(50, 4, generator=RANDOM) @ torch.randn(4, 4, generator=RANDOM) - 1


def measured(compare, *batches: tuple[torch.Tensor, torch.Tensor]) -> float:
    metric = TwoSamples(4, compare)
    for real, generated in batches:
        metric.update(products(real, generated))
    return metric.compute()


def test_the_frechet_distance_is_that_of_scipys_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    real, generated = REAL.double().numpy(), GENERATED.double().numpy()
    covariances = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((real.mean(0) - generated.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert measured(frechet_distance, (REAL, GENERATED)) == pytest.approx(expected, rel=1e-9)
    assert measured(frechet_distance, (REAL, REAL)) == pytest.approx(0, abs=1e-9)


def test_of_one_dimension_it_is_known() -> None:
    """(m - m')² + (s - s')²."""
    sides = [Moments(torch.tensor([mean]).double(), torch.tensor([[s**2]]).double()) for mean, s in ((1, 3), (5, 1))]
    assert float(frechet_distance(*sides)) == pytest.approx(16 + 4)


def test_features_that_do_not_vary_have_a_distance_too() -> None:
    flat = REAL.clone()
    flat[:, 0] = 2.0
    assert measured(frechet_distance, (flat, flat)) == pytest.approx(0, abs=1e-6)


def test_errors_of_mean_and_covariance() -> None:
    real, generated = REAL.double().numpy(), GENERATED.double().numpy()
    means = real.mean(0), generated.mean(0)
    expected = np.linalg.norm(means[1] - means[0]) / np.linalg.norm(means[0])
    assert measured(mean_error, (REAL, GENERATED)) == pytest.approx(expected, rel=1e-9)
    covariances = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    expected = np.linalg.norm(covariances[1] - covariances[0]) / np.linalg.norm(covariances[0])
    assert measured(covariance_error, (REAL, GENERATED)) == pytest.approx(expected, rel=1e-9)


def test_unequal_batches_give_the_value_of_the_whole() -> None:
    parts = [(REAL[:7], GENERATED[:20]), (REAL[7:], GENERATED[20:])]
    assert measured(frechet_distance, *parts) == pytest.approx(measured(frechet_distance, (REAL, GENERATED)))


def test_a_class_is_hit_by_a_fifth_of_an_equal_share() -> None:
    metrics = {name: ClassShares(4, function) for name, function in (("hit", classes_hit), ("least", torch.min))}
    labels = torch.tensor([0] * 80 + [1] * 14 + [2] * 5 + [3] * 1)
    for part in labels.split(30):
        for metric in metrics.values():
            metric.update(torch.nn.functional.one_hot(part, 4).float())
    assert metrics["hit"].compute() == 3
    assert metrics["least"].compute() == pytest.approx(0.01)
