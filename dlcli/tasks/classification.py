"""Classification: one of C classes for each input.

Source: d2l sections 4.1 "Softmax Regression" and 4.3 "The Base Classification Model"; DLFS chapter 4; GDL chapters 6
and 8 (squared error); d2l 4.7 (distribution shift); label smoothing: Szegedy et al. 2016, "Rethinking the Inception
Architecture".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.data.base import DataModule
from dlcli.errors import ConfigError
from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.pictures import GREEN, PREVIEW_IMAGES, RED, grid
from dlcli.hyperparameters import Count, Ge, PositiveFloat, Probability
from dlcli.metrics.accuracy import Accuracy, correct
from dlcli.metrics.base import Mean, Metric
from dlcli.metrics.confusion_matrix import ConfusionMatrix
from dlcli.metrics.mistakes import MostConfidentMistakes
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, PerExample, Task
from dlcli.tasks.distribution_shift import CovariateWeights, LabelWeights, examples
from dlcli.tasks.outputs import check_shape


@TASKS.register("classification")
class Classification(Task):
    """Cross-entropy, or squared error on one-hot targets, over batches (inputs, labels (B,) int64).

    In training, labels may also be shares of the classes (B, C), of pictures that were mixed; the accuracy of such a
    batch counts the largest share. With class_weights the mean is then over the batch, not over the weights.

    Model contract: ``model(inputs) -> (B, C)``: logits for cross-entropies, values near 0 and 1 for squared error.

    cross_entropy: the mean over the batch of -sum_c q_c log softmax(outputs)_c, where q is 1 - label_smoothing at the
    label plus label_smoothing / C everywhere. class_weights multiply each term by the weight of its class c, and the
    sum over the batch is divided by the sum of the labels' weights. With a shift_correction it is the mean over the
    batch of each example's loss times its weight.
    cross_entropy_both_terms: as DLFS has it, the value counts -log(1 - p) of the wrong classes too, and the gradient
    does not (``both_terms``).
    squared_error: sum over the outputs, mean over the batch, of (output - one_hot)², without a factor 1/2.

    Metrics: loss (in evaluation without smoothing and weights, so that runs compare), accuracy, top_k_accuracy (only
    where there are more than top_k classes: of fewer it is always 1) and the confusion_matrix, a tensor (C, C) with a
    row for each true class; of images also a picture of the most_confident_mistakes.
    """

    requires: ClassVar[tuple[str, ...]] = ("num_classes",)
    calls_model_only: ClassVar[bool] = True
    metric_directions = {"loss": "min", "accuracy": "max", "top_k_accuracy": "max"}

    def __init__(
        self,
        *,
        loss: Literal["cross_entropy", "cross_entropy_both_terms", "squared_error"],
        label_smoothing: Probability,
        class_weights: list[PositiveFloat] | Literal["balanced"] | None,
        shift_correction: Literal["covariate", "label"] | None,
        shift_split: str,
        max_weight: Annotated[float, Ge(1)],
        top_k: Count,
    ):
        """
        Args:
            loss: what is minimised.
            label_smoothing: the share of the target that is spread evenly over all classes.
            class_weights: one weight for each class, for classes of unequal size or importance; None for equal ones;
                "balanced" for weights in inverse proportion to the classes' training examples, 1 on average over these.
            shift_correction: weigh training examples as if they were drawn like those of ``shift_split``, of which the
                inputs are looked at and never the labels: "covariate" where other inputs are likely there, "label"
                where other classes are (``dlcli.tasks.distribution_shift``).
            max_weight: of an example, in units of the mean.
            top_k: of top_k_accuracy.

        Raises:
            ConfigError: smoothing or weights together with a loss for which they are not defined.
        """
        chosen = {
            "label_smoothing": label_smoothing,
            "class_weights": class_weights,
            "shift_correction": shift_correction,
        }
        options = [f"task.{name}" for name, value in chosen.items() if value]
        if loss != "cross_entropy" and options:
            raise ConfigError(f"{options[0]} belongs to task.loss=cross_entropy, not to {loss}; leave one out")
        if class_weights and shift_correction:
            raise ConfigError("task.class_weights and task.shift_correction both weigh examples; leave one out")
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        self.class_weights = (
            torch.tensor(class_weights, dtype=torch.float64) if isinstance(class_weights, list) else None
        )
        self.shift_correction = shift_correction
        self.shift_split = shift_split
        self.max_weight = max_weight
        self.example_weights: CovariateWeights | LabelWeights | None = None
        self.top_k = top_k
        self.num_classes = 0
        self.label_names: Sequence[str] | None = None

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        """Learn the classes.

        Raises:
            ConfigError: not as many class_weights as classes.
        """
        assert spec.num_classes is not None
        self.num_classes = spec.num_classes
        self.label_names = label_names
        if self.balanced and self.class_counts is not None:
            counts = torch.tensor(self.class_counts, dtype=torch.float64).clamp(min=1)
            self.class_weights = counts.sum() / (self.num_classes * counts)
        if self.class_weights is not None and len(self.class_weights) != self.num_classes:
            raise ConfigError(
                f"task.class_weights has {len(self.class_weights)} weights and the data have {self.num_classes} "
                "classes; give one weight for each class"
            )

    def prepare(self, data: DataModule) -> tuple[str, ...]:
        """Estimate the weights of training examples, if asked for."""
        if self.shift_correction is None:
            return ()
        (inputs, labels), (target, _) = examples(data, "train"), examples(data, self.shift_split)
        if self.shift_correction == "covariate":
            self.example_weights = CovariateWeights(inputs, target, self.max_weight)
        else:
            self.example_weights = LabelWeights(inputs, labels, target, self._names(), self.max_weight)
        return (f"{self.shift_correction} shift towards {self.shift_split}: {self.example_weights.note}",)

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        inputs, labels = batch[:2]
        outputs = self._forward(networks["model"], inputs)
        if self.loss != "cross_entropy":
            value = LOSSES[self.loss](outputs, labels)
        elif self.example_weights is not None:
            each = F.cross_entropy(outputs, labels, reduction="none", label_smoothing=self.label_smoothing)
            value = (each * self.example_weights(inputs, labels).to(each)).mean()
        else:
            weights = None
            if self.class_weights is not None:
                weights = self.class_weights = self.class_weights.to(outputs)  # copied once
            value = F.cross_entropy(outputs, labels, weights, label_smoothing=self.label_smoothing)
        likeliest = labels if labels.ndim == 1 else labels.argmax(1)
        yield Loss(value, logs={"accuracy": PerExample(correct, (outputs.detach(), likeliest))})

    def metrics(self) -> dict[str, Metric]:
        return {
            "loss": Mean(),
            "accuracy": Accuracy(),
            **({"top_k_accuracy": Accuracy(self.top_k)} if self.top_k < self.num_classes else {}),
            "confusion_matrix": ConfusionMatrix(self.num_classes),
            "most_confident_mistakes": MostConfidentMistakes(self._names()),
        }

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        inputs, labels = batch[:2]
        outputs = self._forward(networks["model"], inputs)
        metrics["loss"].update(LOSSES[self.loss](outputs, labels), len(labels))  # type: ignore[arg-type]
        for name in ("accuracy", "top_k_accuracy", "confusion_matrix"):
            if name in metrics:
                metrics[name].update(outputs, labels)
        metrics["most_confident_mistakes"].update(inputs, self._probabilities(outputs), labels)

    def _forward(self, model: Any, inputs: Tensor) -> Tensor:
        outputs = model(inputs)
        check_shape(outputs, (inputs.shape[0], self.num_classes), "classification", "(batch, classes)")
        return at_least_float32(outputs)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Any) -> Tensor:
        """The probability of each class, (B, C).

        For cross_entropy the softmax of the outputs. For squared_error the outputs estimate the probabilities
        themselves: they are cut off at 0 and divided by their sum (equal ones where none is above 0).
        """
        with evaluating(model):
            outputs = self._forward(model, batch[0])
        return self._probabilities(outputs)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        if self.loss != "squared_error":
            return outputs.softmax(1)
        outputs = outputs.clamp(min=0)
        total = outputs.sum(1, keepdim=True)
        return torch.where(total > 0, outputs / total, 1 / self.num_classes)

    def prediction_rows(self, model: nn.Module, batch: Any) -> dict[str, list[Any]]:
        return self.rows_of(self.predict(model, batch))

    def rows_of(self, probabilities: Tensor) -> dict[str, list[Any]]:
        """The likeliest class by number ("prediction") and by name ("label"), and the probability of each class."""
        names = self._names()
        predicted = probabilities.argmax(1).tolist()
        columns = {f"probability_{name}": column for name, column in zip(names, probabilities.T.tolist(), strict=True)}
        return {"prediction": predicted, "label": [names[label] for label in predicted], **columns}

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """For images: "predictions", up to 64 inputs framed in green where the class is right and in red where it is
        wrong, and "mistakes", what was taken for what."""
        images, labels = batch[0][:PREVIEW_IMAGES], batch[1][:PREVIEW_IMAGES].cpu()
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            return {}
        predicted = self.predict(uncompiled(networks["model"]), (images,)).argmax(1).cpu()
        right = (predicted == labels).unsqueeze(1)  # (N, 1)
        colours = torch.where(right, torch.tensor(GREEN), torch.tensor(RED)).to(torch.uint8)  # (N, 3)
        return {"predictions": grid(images, colours), "mistakes": self._mistakes(predicted.tolist(), labels.tolist())}

    def _names(self) -> list[str]:
        return [str(name) for name in self.label_names or range(self.num_classes)]

    def _mistakes(self, predicted: list[int], labels: list[int]) -> str:
        names = self._names()
        wrong = [
            f"image {number}: {names[label]}, taken for {names[guess]}"
            for number, (guess, label) in enumerate(zip(predicted, labels, strict=True), start=1)
            if guess != label
        ]
        return "\n".join([f"{len(labels) - len(wrong)} of {len(labels)} images right", *wrong])


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """(output - one_hot)² for outputs (B, C) and labels (B,): sum over the outputs, mean over the batch."""
    return (outputs - shares(outputs, labels)).square().sum(1).mean()


def shares(outputs: Tensor, labels: Tensor) -> Tensor:
    """What each class should get of an example, (B, C) like the outputs: labels (B,) one-hot, or shares as they are."""
    return labels if labels.ndim == 2 else torch.zeros_like(outputs).scatter_(1, labels.unsqueeze(1), 1.0)


def both_terms(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus -log(1 - p) of each wrong class, cut off at p = 1 - 1e-9; the gradient is that of the first.

    Source: DLFS chapter 4 (SoftmaxCrossEntropy), whose backward pass is (p - one_hot) / batch all the same.
    """
    probabilities = outputs.detach().softmax(1)  # (B, C)
    others = (1 - probabilities).clamp(min=1e-9).log() * (1 - shares(outputs, labels))
    return F.cross_entropy(outputs, labels) - others.sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "cross_entropy_both_terms": both_terms,
    "squared_error": squared_error,
}
"""Outputs (B, C) and labels (B,), or shares of the classes (B, C) -> the mean over the batch."""
