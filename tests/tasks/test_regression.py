"""Regression: losses by hand, metrics against scikit-learn over unequal batches, messages."""

from typing import Any

import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

from dlcli.data.base import TableBatch
from dlcli.errors import ConfigError
from dlcli.spec import DataSpec
from dlcli.tasks.regression import Regression

PREDICTIONS = [[1.0, 2.0], [0.0, -3.0]]
TARGETS = [[1.5, 2.0], [4.0, -1.0]]  # errors -0.5, 0, -4, -2


class Fixed(nn.Module):
    """Returns the features as predictions, so that a test writes the predictions down."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def make_task(loss: str = "mse", delta: float = 1.0, num_targets: int = 2, plots: bool = False) -> Any:
    task = Regression(loss=loss, delta=delta, plots=plots)  # type: ignore[arg-type]
    task.bind(DataSpec(num_targets=num_targets, num_outputs=num_targets), None, None)
    return task


@pytest.mark.parametrize(
    ("loss", "delta", "expected"),
    [
        ("mse", 1.0, (0.25 + 0 + 16 + 4) / 4),
        ("squared_error", 1.0, (0.25 + 0 + 16 + 4) / 2),
        ("l1", 1.0, (0.5 + 0 + 4 + 2) / 4),
        ("huber", 1.0, (0.125 + 0 + (4 - 0.5) + (2 - 0.5)) / 4),
        ("huber", 3.0, (0.125 + 0 + 3 * (4 - 1.5) + 2) / 4),
    ],
)
def test_losses_by_hand(loss: str, delta: float, expected: float) -> None:
    task = make_task(loss, delta)
    predictions = torch.tensor(PREDICTIONS, dtype=torch.float64, requires_grad=True)
    batch = TableBatch(predictions, torch.tensor(TARGETS))
    (found,) = task.training_step({"model": Fixed()}, batch)
    assert found.value.item() == pytest.approx(expected)
    assert found.value.dtype == torch.float64
    distinct = (predictions.detach() + 0.01).requires_grad_()  # away from the kinks
    assert torch.autograd.gradcheck(
        lambda x: next(task.training_step({"model": Fixed()}, batch._replace(features=x))).value, distinct
    )


def test_evaluation_over_unequal_batches_equals_sklearn_on_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = 22 + 9 * torch.randn(50, 2, generator=generator)
    predictions = targets + torch.randn(50, 2, generator=generator)
    task, sizes = make_task(), [33, 16, 1]
    metrics = task.metrics()
    for batch in zip(predictions.split(sizes), targets.split(sizes), strict=True):
        task.evaluation_step({"model": Fixed()}, TableBatch(*batch), metrics)
    y, p = targets.numpy(), predictions.numpy()
    assert set(metrics) == set(Regression.metric_directions)
    assert {name: metric.compute() for name, metric in metrics.items()} == pytest.approx(
        {
            "loss": sklearn_metrics.mean_squared_error(y, p),
            "mae": sklearn_metrics.mean_absolute_error(y, p),
            "rmse": sklearn_metrics.mean_squared_error(y, p) ** 0.5,
            "r2": sklearn_metrics.r2_score(y, p),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("loss", ["l1", "huber"])
def test_the_evaluated_loss_is_the_trained_one(loss: str) -> None:
    task = make_task(loss)
    batch = TableBatch(torch.tensor(PREDICTIONS), torch.tensor(TARGETS))
    metrics = task.metrics()
    task.evaluation_step({"model": Fixed()}, batch, metrics)
    (trained,) = task.training_step({"model": Fixed()}, batch)
    assert metrics["loss"].compute() == pytest.approx(float(trained.value))


def test_predictions_without_an_axis_for_the_targets_are_refused() -> None:
    message = r"outputs of shape \(2,\); task 'regression' needs a tensor of shape \(2, 1\): \(batch, targets\)"
    with pytest.raises(ConfigError, match=message):
        next(make_task(num_targets=1).training_step({"model": Fixed()}, TableBatch(torch.ones(2), torch.ones(2, 1))))


def test_targets_without_an_axis_are_refused() -> None:
    message = r"the data give targets of shape \(2,\); task 'regression' needs \(2, 1\): \(batch, targets\)"
    with pytest.raises(ConfigError, match=message):
        next(make_task(num_targets=1).training_step({"model": Fixed()}, TableBatch(torch.ones(2, 1), torch.ones(2))))


def test_predict_evaluates_the_model_without_gradients() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train()
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = make_task().predict(model, (features,))
    torch.testing.assert_close(found, model[0](features).detach())
    assert not found.requires_grad
    assert model[1].training


def test_pictures_are_drawn_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlcli.tasks import regression

    drawn: list[Any] = []
    monkeypatch.setattr(regression, "points_and_line", lambda *given: drawn.append(given) or torch.zeros(3, 2, 2))
    features = torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 1.0]])
    batch = TableBatch(features, torch.tensor([[1.0], [3.0], [5.5]]))
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 1.0]]))
        model.bias.fill_(-1.0)
    assert make_task(num_targets=1).preview({"model": model}, batch) == {}
    task = make_task(num_targets=1, plots=True)
    assert set(task.preview({"model": model}, batch)) == {"predictions", "effect"}
    assert drawn[0][0].tolist() == [[1, 0], [3, 6], [5.5, 4]]
    assert drawn[0][1].tolist() == [[1, 1], [5.5, 5.5]]
    points, line, name, _ = drawn[1]
    assert name == "feature 0 (from 0)"  # which rises with the target
    assert points.tolist() == [[0, 1], [1, 3], [2, 5.5]]
    torch.testing.assert_close(line[:, 1], 2 * line[:, 0] + features[:, 1].mean() - 1)
    several = make_task(plots=True).preview({"model": Fixed()}, TableBatch(torch.randn(4, 2), torch.randn(4, 2)))
    assert set(several) == {"predictions"}


def test_the_picture_of_points_and_a_line() -> None:
    pytest.importorskip("matplotlib")
    from dlcli.functional.plots import points_and_line, scatter

    for picture in (
        points_and_line(torch.rand(5, 2), torch.rand(2, 2), "x", "y"),
        scatter(torch.rand(2, 2), ["a", "b"]),
    ):
        assert picture is not None
        assert (picture.dtype, picture.shape[0]) == (torch.uint8, 3)
        assert len(picture.flatten(1).unique(dim=1).T) > 2  # something is drawn
