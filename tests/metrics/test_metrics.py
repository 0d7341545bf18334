"""Metrics over unequal batches equal scikit-learn on the whole, and add up over processes."""

from collections.abc import Callable

import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from dlcli.metrics.accuracy import Accuracy
from dlcli.metrics.base import Mean, Metric
from dlcli.metrics.bits_per_character import BitsPerCharacter
from dlcli.metrics.confusion_matrix import ConfusionMatrix
from dlcli.metrics.regression import R2, MeanAbsoluteError, RootMeanSquaredError

SIZES = [7, 1, 30, 2, 64]  # of the batches
EXAMPLES = sum(SIZES)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def over_batches(make: Callable[[], Metric], *tensors: Tensor) -> Metric:
    """One metric over all batches in two processes' shares, whose states are then added as an all-reduce would."""
    shares = [make(), make()]
    for i, batch in enumerate(zip(*[tensor.split(SIZES) for tensor in tensors], strict=True)):
        shares[i % 2].update(*batch)
    shares[0].state = shares[0].state + shares[1].state
    assert shares[0].state.dtype == torch.float64
    return shares[0]


@pytest.mark.parametrize("num_targets", [1, 3])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (22.5, 9.2), (1e4, 3.0)])
def test_regression_metrics_equal_sklearn(
    num_targets: int, offset: float, scale: float, generator: torch.Generator
) -> None:
    targets = offset + scale * torch.randn(EXAMPLES, num_targets, generator=generator, dtype=torch.float64)
    predictions = targets + scale * 0.7 * torch.randn(EXAMPLES, num_targets, generator=generator, dtype=torch.float64)
    y, p = targets.numpy(), predictions.numpy()
    expected = {
        MeanAbsoluteError: sklearn_metrics.mean_absolute_error(y, p),
        RootMeanSquaredError: sklearn_metrics.mean_squared_error(y, p) ** 0.5,
        (lambda: R2(num_targets)): sklearn_metrics.r2_score(y, p),
    }
    for make, value in expected.items():
        found = over_batches(make, predictions, targets).compute()  # type: ignore[arg-type]
        assert isinstance(found, float)
        assert found == pytest.approx(value, rel=1e-7)


def test_the_mean_over_batches_of_rmse_would_be_wrong() -> None:
    metric = RootMeanSquaredError()
    metric.update(torch.tensor([[3.0]]), torch.tensor([[0.0]]))
    metric.update(torch.zeros(8, 1), torch.zeros(8, 1))
    assert metric.compute() == pytest.approx(1.0)  # not (3 + 0) / 2


@pytest.mark.parametrize(("prediction", "expected"), [(0.1, 1.0), (0.3, 0.0)])
def test_r2_of_a_target_that_never_changes(prediction: float, expected: float) -> None:
    metric = R2(1)
    for _ in range(100):
        metric.update(torch.full((37, 1), prediction), torch.full((37, 1), 0.1))
    assert metric.compute() == expected


@pytest.mark.parametrize("top_k", [1, 2, 5, 6])
def test_accuracy_equals_sklearn(top_k: int, generator: torch.Generator) -> None:
    outputs = torch.randn(EXAMPLES, 6, generator=generator)
    labels = torch.randint(6, (EXAMPLES,), generator=generator)
    classes = list(range(6))
    if top_k == 6:
        expected = 1.0
    else:
        expected = sklearn_metrics.top_k_accuracy_score(labels, outputs, k=top_k, labels=classes)
    assert over_batches(lambda: Accuracy(top_k), outputs, labels).compute() == pytest.approx(expected)


def test_accuracy_of_tokens_counts_every_position() -> None:
    metric = Accuracy()
    metric.update(torch.eye(3)[torch.tensor([[0, 1], [2, 2]])], torch.tensor([[0, 1], [1, 2]]))
    assert metric.compute() == 0.75


def test_nan_outputs_are_not_right() -> None:
    metric = Accuracy(2)
    metric.update(torch.tensor([[1.0, 2.0, 3.0, float("nan")]]), torch.tensor([0]))
    assert metric.compute() == 0.0


def test_the_confusion_matrix_equals_sklearn(generator: torch.Generator) -> None:
    outputs = torch.randn(EXAMPLES, 4, generator=generator)
    labels = torch.randint(3, (EXAMPLES,), generator=generator)  # class 3 never occurs
    found = over_batches(lambda: ConfusionMatrix(4), outputs, labels).compute()
    expected = sklearn_metrics.confusion_matrix(labels, outputs.argmax(1), labels=range(4))
    assert isinstance(found, Tensor)
    assert found.tolist() == expected.tolist()


def test_bits_per_character_by_hand() -> None:
    metric = BitsPerCharacter()
    metric.update(torch.tensor(2.0).log() * 6, torch.tensor(3))  # 6 bits for 3 characters
    metric.update(torch.tensor(2.0).log() * 2, torch.tensor(5))
    assert metric.compute() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (Mean(), (torch.ones((), requires_grad=True), 3.0)),
        (BitsPerCharacter(), (torch.ones((), requires_grad=True), torch.tensor(3))),
        (MeanAbsoluteError(), (torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1))),
        (RootMeanSquaredError(), (torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1))),
        (R2(1), (torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1))),
    ],
)
def test_metrics_keep_no_graph(metric: Metric, arguments: tuple[Tensor, ...]) -> None:
    metric.update(*arguments)
    assert not metric.state.requires_grad
