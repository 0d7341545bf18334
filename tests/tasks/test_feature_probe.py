"""Classifiers on features against scikit-learn's, and the untrained copy of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.data.base import ImageBatch
from dlcli.models.simclr import SimCLR
from dlcli.tasks import feature_probe


def clusters(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three overlapping groups of points in six dimensions of different scales, and a constant feature."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=random)
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(9))
    points = (centres[labels] + 0.8 * torch.randn(count, 6, generator=random)) * torch.tensor([1, 10, 0.1, 1, 5, 2])
    return torch.cat([points, torch.full((count, 1), 3.0)], 1), labels


def test_the_linear_classifier_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters(500, 0)
    probe = feature_probe.fit(features, labels, 3)
    spread = features.std(0, correction=0)
    standardised = (features - features.mean(0)) / torch.where(spread > 1e-6, spread, 1.0)
    strength = 1 / (feature_probe.WEIGHT_DECAY * len(labels))  # scikit-learn adds up the losses and C weighs them
    reference = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(standardised.numpy(), labels.numpy())
    shares = probe.linear(features).softmax(1)
    expected = torch.from_numpy(reference.predict_proba(standardised.numpy())).float()
    torch.testing.assert_close(shares, expected, rtol=0, atol=2e-3)


def test_the_votes_are_those_of_the_nearest_by_cosine() -> None:
    features, labels = clusters(60, 0)
    queries, _ = clusters(5, 1)
    found = feature_probe.fit(features, labels, 3).nearest(queries, 7)
    for query, votes in zip(queries, found, strict=True):
        cosines = F.cosine_similarity(query.unsqueeze(0), features)
        expected = torch.zeros(3)
        for row in cosines.argsort(descending=True)[:7].tolist():
            expected[labels[row]] += (cosines[row] / feature_probe.VOTE_TEMPERATURE).exp()
        torch.testing.assert_close(votes, expected, rtol=1e-4, atol=1e-4)
    few = feature_probe.fit(features[:4], labels[:4], 3).nearest(queries, 7)  # no more neighbours than there are
    assert few.isfinite().all()


def test_the_first_examples_of_every_class_are_kept() -> None:
    labels = torch.tensor([0, 0, 1, 0, 1, 1, 2, 0, 1])
    batches = [
        ImageBatch(torch.arange(9.0)[part].view(-1, 1, 1, 1), labels[part])
        for part in (slice(0, 4), slice(4, 6), slice(6, 9))
    ]
    images, kept = feature_probe.some_of_each(iter(batches), 2, 4)
    assert images.flatten().tolist() == [0, 1, 2, 4, 6]
    assert kept.tolist() == [0, 0, 1, 1, 2]
    assert len(feature_probe.some_of_each(iter(batches), None, 4)[1]) == 9


def test_an_untrained_copy_draws_other_weights_and_learns_only_statistics() -> None:
    torch.manual_seed(0)
    model = SimCLR(input_shape=(1, 8, 8), stages=[(1, 4), (1, 8)], hidden_size=4, embedding_size=2)
    kept, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    images = torch.randn(700, 1, 8, 8) * 3 + 1
    torch.set_rng_state(state)
    twin = feature_probe.untrained(model, images, seed=1)
    again = feature_probe.untrained(model, images, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), kept.values(), strict=True))
    assert not torch.equal(twin.encoder.stages[0][0][0].weight, model.encoder.stages[0][0][0].weight)
    assert torch.equal(twin.features(images[:5]), again.features(images[:5]))
    inputs = twin.encoder.stages[0][0][0](images)  # what the first batch normalisation sees
    averaged = torch.stack([part.mean((0, 2, 3)) for part in torch.split(inputs, feature_probe.CHUNK)]).mean(0)
    torch.testing.assert_close(twin.encoder.stages[0][0][1].running_mean, averaged, rtol=1e-4, atol=1e-4)
    assert not twin.training
