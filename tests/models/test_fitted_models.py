"""Models that are fitted: the contract of all of them, and each against scikit-learn or a formula."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.errors import ConfigError
from dlcli.registry import MODELS
from dlcli.spec import DataSpec

DIRECTORY = CONFIGS / "model"
FILES = [
    file
    for file in sorted(DIRECTORY.rglob("*.yaml"))
    if MODELS.has_method(load_yaml(file)["name"], "fit") and "input_shape" in MODELS.signature(load_yaml(file)["name"])
]
CLASSES = DataSpec(input_shape=(1, 4, 4), num_outputs=3, num_classes=3)
NUMBERS = DataSpec(input_shape=(4,), num_outputs=2, num_targets=2)


def build(name: str, spec: DataSpec = CLASSES, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = {**load_yaml(DIRECTORY / f"{name}.yaml"), **options}
    model: nn.Module = MODELS.build(config, spec=spec, label="example")
    return model


def labelled(rows: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, 4, 4) of three classes around different means, labels (N,)."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    means = torch.rand(3, 1, 4, 4, generator=random)
    return means[labels] + 0.3 * torch.randn(rows, 1, 4, 4, generator=random), labels


def numbers(rows: int = 60) -> tuple[Tensor, Tensor]:
    """Features (N, 4) and targets (N, 2), a noisy linear function of them."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 4, generator=random)
    weights = torch.randn(4, 2, generator=random)
    return features, features @ weights + 3 + 0.1 * torch.randn(rows, 2, generator=random)


def batches(inputs: Tensor, targets: Tensor, size: int = 7) -> list[tuple[Tensor, Tensor]]:
    return list(zip(inputs.split(size), targets.split(size), strict=True))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def name(request: pytest.FixtureRequest) -> str:
    file: Path = request.param
    return file.relative_to(DIRECTORY).with_suffix("").as_posix()


def test_saved_and_loaded_state_gives_equal_outputs_whatever_its_size(name: str) -> None:
    inputs, labels = labelled()
    model, other = build(name), build(name)
    model.fit(batches(inputs, labels))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(model(inputs), other(inputs))


def test_the_state_of_a_model_for_other_data_is_refused(name: str) -> None:
    inputs, labels = labelled()
    model = build(name)
    model.fit(batches(inputs, labels))
    other = build(name, DataSpec(input_shape=(1, 4, 5), num_outputs=3, num_classes=3))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(model.state_dict())


def test_outputs_do_not_depend_on_how_the_rows_were_batched_nor_on_evaluation(name: str) -> None:
    inputs, labels = labelled()
    outputs = []
    for size in (7, 60):
        model = build(name)
        torch.manual_seed(3)
        facts = model.fit(batches(inputs, labels, size))
        assert all(np.isfinite(float(value)) for value in facts.values())
        outputs.append(model(inputs))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert outputs[0].shape == (60, 3)
    assert outputs[0].dtype == torch.float32
    assert outputs[0].isfinite().all()


def test_double_precision(name: str) -> None:
    inputs, labels = labelled()
    model = build(name).double()
    model.fit(batches(inputs.double(), labels))
    assert model(inputs.double()).dtype == torch.float64


def test_every_model_learns_what_is_easy(name: str) -> None:
    inputs, labels = labelled(300)
    model = build(name)
    model.fit(batches(inputs, labels))
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.75


# ------------------------------------------------------------------ each by itself


def test_naive_bayes_is_that_of_scikit_learn() -> None:
    from sklearn.naive_bayes import BernoulliNB

    inputs, labels = labelled()
    model = build("naive_bayes", threshold=0.5, smoothing=1.0)
    model.fit(batches(inputs, labels[torch.randperm(60)].clamp(max=2)))  # classes of unequal size are below
    labels[:10] = 0
    model.fit(batches(inputs, labels))
    reference = BernoulliNB(alpha=1.0, binarize=0.5).fit(inputs.flatten(1).numpy(), labels.numpy())
    expected = torch.from_numpy(reference.predict_joint_log_proba(inputs.flatten(1).numpy()))
    torch.testing.assert_close(model(inputs).double(), expected, rtol=0, atol=1e-4)


def test_nearest_class_mean_is_that_of_scikit_learn() -> None:
    from sklearn.neighbors import NearestCentroid

    inputs, labels = labelled()
    model = build("nearest_class_mean")
    model.fit(batches(inputs, labels))
    reference = NearestCentroid().fit(inputs.flatten(1).numpy(), labels.numpy())
    others = labelled(seed=5)[0]
    assert model(others).argmax(1).tolist() == reference.predict(others.flatten(1).numpy()).tolist()


@pytest.mark.parametrize("l2", [0.0, 2.5])
def test_the_closed_form_is_that_of_scikit_learn(l2: float) -> None:
    from sklearn.linear_model import Ridge

    features, targets = numbers()
    model = build("linear_closed_form", NUMBERS, l2=l2)
    facts = model.fit(batches(features, targets))
    reference = Ridge(alpha=l2, solver="svd").fit(features.double().numpy(), targets.double().numpy())
    torch.testing.assert_close(model.output.weight.double(), torch.from_numpy(reference.coef_), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.output.bias.double(), torch.from_numpy(reference.intercept_), rtol=0, atol=1e-5)
    if l2 == 0:
        assert facts["mean_squared_error"] == pytest.approx(F.mse_loss(model(features), targets).item(), rel=1e-4)


def test_the_closed_form_of_inputs_that_depend_on_each_other_is_the_smallest() -> None:
    features, targets = numbers()
    features[:, 3] = 2 * features[:, 0]
    model = build("linear_closed_form", NUMBERS)
    model.fit(batches(features, targets))
    centred = (features - features.mean(0)).double()
    smallest = torch.linalg.pinv(centred) @ (targets - targets.mean(0)).double()
    torch.testing.assert_close(model.output.weight.double(), smallest.T, rtol=0, atol=1e-4)


def test_a_linear_model_starts_from_the_closed_form() -> None:
    features, targets = numbers()
    model, linear = build("linear_closed_form", NUMBERS), build("linear", NUMBERS)
    model.fit(batches(features, targets))
    linear.load_state_dict(model.state_dict())
    assert torch.equal(linear(features), model(features))


def test_nearest_neighbours_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    monkeypatch.setattr("dlcli.models.k_nearest_neighbors.CHUNK", 16)  # several pieces
    inputs, labels = labelled(301)
    queries = labelled(50, seed=7)[0]
    model = build("k_nearest_neighbors", k=5)
    model.fit(batches(inputs, labels))
    reference = KNeighborsClassifier(5).fit(inputs.flatten(1).numpy(), labels.numpy())
    shares = torch.from_numpy(reference.predict_proba(queries.flatten(1).numpy()))
    torch.testing.assert_close(model(queries).exp().double(), (5 * shares + 0.01) / 5.03, rtol=0, atol=1e-5)
    features, targets = numbers()
    model = build("k_nearest_neighbors", NUMBERS, k=3)
    model.fit(batches(features, targets))
    values = KNeighborsRegressor(3).fit(features.numpy(), targets.numpy()).predict(features.numpy())
    torch.testing.assert_close(model(features), torch.from_numpy(values), rtol=0, atol=1e-5)


def test_pixels_are_kept_as_bytes_and_without_loss() -> None:
    inputs, labels = labelled()
    pixels = (inputs * 50).round() / 255 - 0.3
    model = build("k_nearest_neighbors", k=1)
    model.fit(batches(pixels, labels))
    assert model.rows.dtype == torch.uint8
    assert torch.equal(model._values(0), pixels.flatten(1))
    assert model(pixels).argmax(1).tolist() == labels.tolist()
    model.fit(batches(*labelled(100)))
    assert model.rows.dtype == torch.float32, "1,600 different values do not fit in a byte"


def test_k_means_is_that_of_scikit_learn_from_the_same_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.cluster import KMeans

    inputs, labels = labelled(90)
    rows = inputs.flatten(1)
    monkeypatch.setattr("dlcli.models.k_means.plus_plus", lambda rows, count: rows[:count].clone())
    model = build("k_means", k=4, tolerance=0.0)
    facts = model.fit(batches(inputs, labels))
    reference = KMeans(4, init=rows[:4].numpy(), n_init=1, tol=0).fit(rows.numpy())
    torch.testing.assert_close(model.centres, torch.from_numpy(reference.cluster_centers_), rtol=0, atol=1e-4)
    assert facts["mean_squared_distance"] * 90 == pytest.approx(reference.inertia_, rel=1e-4)


def test_first_centres_are_different_rows() -> None:
    from dlcli.models.k_means import plus_plus

    torch.manual_seed(0)
    rows = torch.eye(5).repeat(20, 1)
    assert len(plus_plus(rows, 5).unique(dim=0)) == 5


def test_more_clusters_than_rows() -> None:
    with pytest.raises(ConfigError, match=r"model.k=10: there are only 6 training rows; give fewer clusters"):
        build("k_means").fit(batches(*labelled(6)))
