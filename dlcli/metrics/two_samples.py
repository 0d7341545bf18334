"""How far two samples of vectors are from each other, by their means and covariances: the data's and a generator's.

Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (the
Fréchet distance); Dowson and Landau 1982 (its formula for normal distributions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.metrics.base import Metric


class Moments(NamedTuple):
    """mean (F,) and covariance (F, F), float64; of n vectors, divided by n - 1."""

    mean: Tensor
    covariance: Tensor


class TwoSamples(Metric):
    """``compare(of the data, of what was generated)``, over all vectors that were added.

    State (2, F + 1, F + 1): for each sample the sum of v vᵀ, where v is a vector with a 1 appended.
    """

    def __init__(self, size: int, compare: Callable[[Moments, Moments], Tensor]):
        self.state = torch.zeros(2, size + 1, size + 1, dtype=torch.float64)
        self.compare = compare

    def update(self, added: Tensor) -> None:  # type: ignore[override]
        """added: what ``products`` gives for some vectors of both samples, which several comparisons may share."""
        self.state = self.state.to(added.device) + added

    def compute(self) -> float:
        real, generated = (moments(total) for total in self.state.cpu())
        return float(self.compare(real, generated))


def products(real: Tensor, generated: Tensor) -> Tensor:
    """For vectors (B, F) of each sample the sum of v vᵀ, where v has a 1 appended: (2, F + 1, F + 1) float64."""
    extended = [F.pad(vectors.detach().double(), (0, 1), value=1.0) for vectors in (real, generated)]
    return torch.stack([vectors.T @ vectors for vectors in extended])


def moments(total: Tensor) -> Moments:
    """Mean and covariance from the sum of products of one sample, (F + 1, F + 1)."""
    count, mean = total[-1, -1], total[-1, :-1] / total[-1, -1]
    covariance = (total[:-1, :-1] - count * torch.outer(mean, mean)) / (count - 1).clamp(min=1)
    return Moments(mean, covariance)


def frechet_distance(real: Moments, generated: Moments) -> Tensor:
    """|m - m'|² + tr(C + C' - 2 (C C')^½): the squared 2-Wasserstein distance of normal distributions with these
    moments; 0 for equal ones."""
    root = square_root(real.covariance)
    # The eigenvalues of C C' are those of C^½ C' C^½, which is symmetric.
    eigenvalues = torch.linalg.eigvalsh(root @ generated.covariance @ root).clamp(min=0)
    apart = (real.mean - generated.mean).square().sum()
    trace = real.covariance.trace() + generated.covariance.trace() - 2 * eigenvalues.sqrt().sum()
    distance: Tensor = apart + trace.clamp(min=0)
    return distance


def mean_error(real: Moments, generated: Moments) -> Tensor:
    """|m' - m| / |m|."""
    return relative_distance(generated.mean, real.mean)


def covariance_error(real: Moments, generated: Moments) -> Tensor:
    """|C' - C| / |C|, the root of the sum of squares."""
    return relative_distance(generated.covariance, real.covariance)


def relative_distance(found: Tensor, expected: Tensor) -> Tensor:
    """|found - expected| / |expected|, Euclidean over all numbers."""
    distance: Tensor = (found - expected).square().sum().sqrt() / expected.square().sum().sqrt()
    return distance


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix (F, F) without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
