"""Classification: losses by their definitions, whole-set values, predictions and previews."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.data.base import ImageBatch, TableBatch
from dlcli.errors import ConfigError
from dlcli.functional.pictures import GREEN, RED
from dlcli.spec import DataSpec
from dlcli.tasks.classification import LOSSES, Classification, both_terms, squared_error

DEFAULTS: dict[str, Any] = {
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "class_weights": None,
    "shift_correction": None,
    "shift_split": "test",
    "max_weight": 10.0,
    "top_k": 2,
}
OUTPUTS = [[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-2.0, 3.0, 1.0], [0.0, 4.0, -1.0]]
LABELS = [0, 2, 1, 0]


class Fixed(nn.Module):
    """Returns the inputs as outputs, so that a test writes the outputs down."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class ImageModel(nn.Module):
    """Takes the brightest of the four pixels of an image as its class; dropout shows whether it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(images.mean(1).flatten(1))


def make_task(num_classes: int = 3, label_names: list[str] | None = None, **options: Any) -> Any:
    task = Classification(**{**DEFAULTS, **options})
    task.bind(DataSpec(num_classes=num_classes, num_outputs=num_classes), None, label_names)
    return task


def loss_of(task: Any, outputs: Any = OUTPUTS, labels: Any = LABELS) -> Tensor:
    batch = TableBatch(torch.as_tensor(outputs), torch.as_tensor(labels))
    (loss,) = task.training_step({"model": Fixed()}, batch)
    value: Tensor = loss.value
    return value


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def test_cross_entropy_by_hand() -> None:
    expected = -sum(log_softmax(row)[label] for row, label in zip(OUTPUTS, LABELS, strict=True)) / 4
    assert float(loss_of(make_task())) == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_equals_its_definition() -> None:
    smoothing, expected = 0.3, 0.0
    for row, label in zip(OUTPUTS, LABELS, strict=True):
        target = [smoothing / 3 + (1 - smoothing) * (c == label) for c in range(3)]
        expected -= sum(q * p for q, p in zip(target, log_softmax(row), strict=True)) / 4
    assert float(loss_of(make_task(label_smoothing=smoothing))) == pytest.approx(expected, rel=1e-6)


def test_class_weights_and_smoothing_equal_their_definition() -> None:
    weights, smoothing = [1.0, 5.0, 0.5], 0.2
    total = 0.0
    for row, label in zip(OUTPUTS, LABELS, strict=True):
        target = [smoothing / 3 + (1 - smoothing) * (c == label) for c in range(3)]
        total -= sum(w * q * p for w, q, p in zip(weights, target, log_softmax(row), strict=True))
    expected = total / sum(weights[label] for label in LABELS)
    found = loss_of(make_task(class_weights=weights, label_smoothing=smoothing))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_loss_with_both_terms_by_hand() -> None:
    """The value of DLFS's formula, the gradient of the plain cross-entropy."""
    expected = 0.0
    for row, label in zip(OUTPUTS, LABELS, strict=True):
        probabilities = [math.exp(value) for value in log_softmax(row)]
        expected -= sum(math.log(p if c == label else 1 - p) for c, p in enumerate(probabilities)) / 4
    assert float(loss_of(make_task(loss="cross_entropy_both_terms"))) == pytest.approx(expected, rel=1e-6)
    outputs = torch.tensor(OUTPUTS, requires_grad=True)
    both_terms(outputs, torch.tensor(LABELS)).backward()
    one_hot = F.one_hot(torch.tensor(LABELS), 3)
    torch.testing.assert_close(outputs.grad, (outputs.detach().softmax(1) - one_hot) / 4)


def test_a_certain_mistake_costs_a_finite_loss_in_both_terms() -> None:
    loss = both_terms(torch.tensor([[200.0, 0.0]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(200 - math.log(1e-9), rel=1e-6)


def test_squared_error_is_summed_over_outputs_and_averaged_over_the_batch() -> None:
    expected = sum(
        sum((value - (c == label)) ** 2 for c, value in enumerate(row))
        for row, label in zip(OUTPUTS, LABELS, strict=True)
    )
    assert float(loss_of(make_task(loss="squared_error"))) == pytest.approx(expected / 4)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0]}])
def test_gradients_are_right(options: dict[str, Any]) -> None:
    outputs = torch.tensor(OUTPUTS, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(lambda x: loss_of(make_task(**options), x, labels), outputs)
    assert torch.autograd.gradcheck(lambda x: squared_error(x, labels), outputs)


def test_the_gradient_of_the_squared_error_is_twice_the_difference() -> None:
    outputs = torch.tensor([[0.25, -1.0, 2.0]], requires_grad=True)
    squared_error(outputs, torch.tensor([2])).backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [[0.5, -2.0, 2.0]]


def test_training_records_the_accuracy() -> None:
    (loss,) = make_task().training_step({"model": Fixed()}, (torch.tensor(OUTPUTS), torch.tensor(LABELS)))
    assert float(loss.logs["accuracy"].mean()) == 0.75


def evaluate(task: Any, sizes: list[int], outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    metrics = task.metrics()
    for batch in zip(outputs.split(sizes), labels.split(sizes), strict=True):
        task.evaluation_step({"model": Fixed()}, batch, metrics)
    return {name: metric.compute() for name, metric in metrics.items()}


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_both_terms", "squared_error"])
def test_unequal_batches_give_the_value_of_the_whole(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    task = make_task(4, loss=loss)
    apart, together = evaluate(task, [33, 16, 1], outputs, labels), evaluate(task, [50], outputs, labels)
    assert torch.equal(apart.pop("confusion_matrix"), together.pop("confusion_matrix"))
    assert torch.equal(apart.pop("most_confident_mistakes"), together.pop("most_confident_mistakes"))
    assert set(apart) == set(Classification.metric_directions)
    assert apart == pytest.approx(together, rel=1e-6)
    expected = LOSSES[loss](outputs, labels)
    assert together["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert together["accuracy"] == pytest.approx(float((outputs.argmax(1) == labels).double().mean()))


def test_evaluation_reports_the_plain_cross_entropy() -> None:
    outputs, labels = torch.tensor(OUTPUTS), torch.tensor(LABELS)
    smoothed = make_task(label_smoothing=0.3, class_weights=[1.0, 9.0, 2.0])
    assert evaluate(smoothed, [4], outputs, labels)["loss"] == evaluate(make_task(), [4], outputs, labels)["loss"]


def test_top_k_is_measured_where_there_are_more_classes() -> None:
    outputs, labels = torch.tensor(OUTPUTS), torch.tensor(LABELS)
    assert "top_k_accuracy" not in evaluate(make_task(top_k=5), [4], outputs, labels)
    assert "top_k_accuracy" not in evaluate(make_task(top_k=3), [4], outputs, labels), "all of three classes"
    assert evaluate(make_task(top_k=2), [4], outputs, labels)["top_k_accuracy"] == 1.0
    assert evaluate(make_task(top_k=1), [4], outputs, labels)["top_k_accuracy"] == 0.75


def test_as_many_weights_as_classes() -> None:
    with pytest.raises(ConfigError, match=r"task\.class_weights has 2 weights and the data have 3 classes; give one"):
        make_task(class_weights=[1.0, 2.0])


@pytest.mark.parametrize("option", [{"label_smoothing": 0.1}, {"class_weights": [1.0, 1.0, 1.0]}])
def test_smoothing_and_weights_belong_to_the_cross_entropy(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"task.{next(iter(option))} belongs to task.loss=cross_entropy, not to squ"):
        make_task(loss="squared_error", **option)


def test_a_model_with_other_outputs_is_refused() -> None:
    message = r"returns outputs of shape \(4, 3\); task 'classification' needs a tensor of shape \(4, 10\): \(batch, cl"
    with pytest.raises(ConfigError, match=message):
        loss_of(make_task(10))


def test_predictions_are_probabilities() -> None:
    batch = (torch.tensor(OUTPUTS), torch.tensor(LABELS))
    torch.testing.assert_close(make_task().predict(Fixed(), batch), batch[0].softmax(1))
    outputs = torch.tensor([[-1.0, 1.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 1.0, 0.0]])
    expected = torch.tensor([[0.0, 0.25, 0.75], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(make_task(loss="squared_error").predict(Fixed(), (outputs,)), expected)


def test_the_preview_frames_right_images_green_and_wrong_ones_red() -> None:
    images = torch.eye(4).view(4, 1, 2, 2).repeat(20, 1, 1, 1)  # image i is brightest at pixel i % 4
    labels = torch.arange(80) % 4
    labels[1] = 3
    model, before = ImageModel().train(), torch.get_rng_state()
    task = make_task(4, ["cat", "dog", "cow", "hen"])
    preview = task.preview({"model": model}, ImageBatch(images, labels))
    picture = preview["predictions"]
    side = picture.shape[1] // 8  # 64 images: 8 rows of 8
    assert picture.dtype == torch.uint8
    assert picture[:, 0, 0].tolist() == list(GREEN)
    assert picture[:, 0, side].tolist() == list(RED)
    assert preview["mistakes"] == "63 of 64 images right\nimage 2: hen, taken for dog"
    assert model.training
    assert model.dropout.training
    assert torch.equal(before, torch.get_rng_state())


def test_there_is_no_preview_of_tables() -> None:
    assert make_task().preview({"model": Fixed()}, TableBatch(torch.tensor(OUTPUTS), torch.tensor(LABELS))) == {}
