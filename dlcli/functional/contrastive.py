"""Losses that pull vectors of the same thing together and push those of different things apart.

Every function takes queries (N, D) and keys (M, D) of length 1 and two masks (N, M) of bool: which keys are of the same
thing as a query (positive), and which are of another (negative). A key that is the query itself is neither.

Sources: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations"; Khosla et al. 2020,
"Supervised Contrastive Learning"; Schroff et al. 2015, "FaceNet"; Hadsell et al. 2006, "Dimensionality Reduction by
Learning an Invariant Mapping"; Wang & Isola 2020, "Understanding Contrastive Representation Learning through Alignment
and Uniformity on the Hypersphere".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pair_masks(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs of N vectors are of one group (N,), without each with itself, and which are not: two (N, N) bool."""
    same = groups.unsqueeze(1) == groups
    return same.clone().fill_diagonal_(False), ~same


def nt_xent(queries: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the positive keys among all others by the inner product divided by the temperature.

    For each query the mean over its positives of -log(exp(q·p/t) / sum over positives and negatives k of exp(q·k/t)),
    and the mean over the queries that have a positive. With two views of each picture this is SimCLR's loss, with the
    classes as groups that of supervised contrastive learning.
    """
    logits = (queries @ keys.T / temperature).masked_fill(~(positive | negative), -torch.inf)
    log_shares = logits.log_softmax(1).masked_fill(~positive, 0.0)  # (N, M)
    counts = positive.sum(1)
    return -(log_shares.sum(1) / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def triplet_semi_hard(queries: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(0, d(q, p) - d(q, n) + margin) over all pairs of a query and a positive; d is the squared distance.

    The negative n of a pair is the nearest one that is farther away than p (semi-hard: it costs something if it is
    within the margin); where there is none, the farthest. The mean is over all such pairs.
    """
    distances = squared_distances(queries, keys)  # (N, M)
    rows, columns = positive.nonzero(as_tuple=True)  # P pairs
    to_positive = distances[rows, columns]  # (P,)
    to_others, other = distances[rows], negative[rows]  # (P, M)
    farther = other & (to_others > to_positive.unsqueeze(1))
    nearest_farther = to_others.masked_fill(~farther, torch.inf).amin(1)
    farthest = to_others.masked_fill(~other, -torch.inf).amax(1)
    to_negative = torch.where(farther.any(1), nearest_farther, farthest)
    costs = F.relu(to_positive - to_negative + margin)[other.any(1)]
    return costs.sum() / max(1, len(costs))


def pairwise_margin(queries: Tensor, keys: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """The mean of d²/2 over positive pairs and of max(0, margin - d)²/2 over negative ones, added; d is the distance.

    Each kind of pair counts as a whole, since a batch has far more negative than positive ones.
    """
    squares = squared_distances(queries, keys)
    short = F.relu(margin - squares.clamp(min=1e-12).sqrt()).square()  # (N, M); the root has no slope at 0
    pulled = (squares * positive).sum() / positive.sum().clamp(min=1)
    pushed = (short * negative).sum() / negative.sum().clamp(min=1)
    return (pulled + pushed) / 2


def squared_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """|q - k|² for vectors of length 1, (N, D) and (M, D) -> (N, M), from 0 to 4."""
    return (2 - 2 * queries @ keys.T).clamp(min=0)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """The mean squared distance between vectors (N, D) of length 1 and those of the same things; 0 is best."""
    return (first - second).square().sum(1).mean()


def mean_closeness(vectors: Tensor) -> Tensor:
    """The mean over pairs of different rows (N, D), N > 1, of length 1, of exp(-2 |x - y|²).

    Its logarithm is the uniformity: near -4 for vectors spread evenly over a sphere of many axes, 0 for all the same.
    """
    distances = squared_distances(vectors, vectors)
    count = len(vectors)
    return ((-2 * distances).exp().sum() - count) / (count * (count - 1))
