"""Task: the objective. It turns batches into losses, metrics, samples and predictions.

A task holds no parameters and opens no files; it does not know how parameters move (the trainer's business) or where
batches come from (the data's). A step that is not "next batch -> losses -> optimizer step" is a trainer, not a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from dlcli.data.base import DataModule
from dlcli.errors import ConfigError
from dlcli.functional.target_scale import TargetScale
from dlcli.metrics.base import Metric
from dlcli.spec import DataSpec


class PerExample(NamedTuple):
    """``function(*tensors)``, a value for each of the B examples along the tensors' first axes, such as right or wrong.

    It is computed when it is read: once for all steps since the last time, where each of them would need as long.
    """

    function: Callable[..., Tensor]
    tensors: tuple[Tensor, ...]  # without gradients

    @property
    def elements(self) -> int:
        """How many numbers are kept until it is read."""
        return sum(tensor.numel() for tensor in self.tensors)

    def mean(self) -> Tensor:
        """The mean over the examples, float32."""
        return self.function(*self.tensors).float().mean()


class Loss(NamedTuple):
    """One thing to minimise: the trainer steps ``network``'s optimizer on ``value``'s gradient.

    value: scalar tensor with a gradient. logs: what to record beside it, scalar tensors (detached by the trainer) or
    values for each example, whose mean is recorded.
    carry: the streams' state after this batch, detached, for a task that carries state.
    """

    value: Tensor
    network: str = "model"
    logs: Mapping[str, Tensor | PerExample] = {}
    carry: tuple[Tensor, ...] | None = None


Networks = Mapping[str, Any]
"""The callables to use, by name: ``networks["model"]`` is the model, compiled, wrapped or averaged as the trainer
decides; its named children that a task trains separately are there by their names."""


class Task:
    """What every objective offers.

    Class attributes, read from the source before anything is imported:
        requires: sizes of DataSpec that the data must define.
        metric_directions: metric name -> "min" or "max", whichever is better, for every scalar metric.
        metric_needs: metric name -> the size of DataSpec without which it is not measured.
        samples: what ``sample`` yields, "text" or "pictures".
        sample_note: what to know about its samples; told with them.
        trains: the networks that have an optimizer each: the model, or named children of it.
        sample_split: the split whose first batch ``sample`` is given after the model; None if the model is enough.
        views: whether batches should hold two random changes of each picture (``ViewsBatch``): "none", "wanted" where
            the data have changes (``data.augmentation``), or "needed".
        smallest_batch: the fewest examples that a training batch can have.
        model_methods: what a model must have for it, beside ``forward``.
        calls_model_only: every parameter is reached by calling ``networks["model"](…)`` once per loss, never a part of
            the model, so that several processes may add up gradients while they are computed.

    A task that can generate has a method ``sample(model, *, …)`` with annotated keyword-only parameters, whose defaults
    are in its YAML under ``sample``; by ``samples`` it yields pieces of text as they come, or pictures, (3, H, W)
    uint8, each for a file. A task that can predict has
    ``predict(model, batch)``, and ``rows_of(predicted)`` if predictions of several models can be averaged.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    metric_directions: ClassVar[Mapping[str, str]] = {}
    metric_needs: ClassVar[Mapping[str, str]] = {}
    samples: ClassVar[str] = "text"
    sample_note: ClassVar[str] = ""
    trains: ClassVar[tuple[str, ...]] = ("model",)
    sample_split: ClassVar[str | None] = None
    views: ClassVar[Literal["none", "wanted", "needed"]] = "none"
    smallest_batch: ClassVar[int] = 1
    model_methods: ClassVar[tuple[str, ...]] = ()
    calls_model_only: ClassVar[bool] = False
    seed: int = 0  # of the run; set once, like the next
    paired: bool = False  # whether batches hold two random changes of each picture
    class_counts: Sequence[int] | None = None  # training examples of each class
    target_scale: TargetScale | None = None  # how the data have changed the targets; set once
    true_parameters: tuple[list[float], float] | None = None  # weights and bias that made the data; set once
    classifier: nn.Module | None = None  # of the run that the option ``classifier`` names; set before it is measured

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        """Yield each loss of the batch. After each, the trainer has stepped that network when the body resumes."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Metric]:
        """Fresh accumulators for an evaluation."""
        raise NotImplementedError

    def begin_evaluation(self, networks: Networks, training: Iterator[Any]) -> None:
        """Called before a split is measured, after ``metrics``, in evaluation mode and without gradients.

        ``training`` gives the training batches in sequence, unchanged, for what is measured against them.
        """

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> tuple[Tensor, ...] | None:
        """Add one batch to the metrics. Returns the streams' state after the batch if the task carries state."""
        raise NotImplementedError

    def carries_state(self, model: nn.Module) -> bool:
        """Whether batches are consecutive windows of streams whose state goes from one batch to the next."""
        return False

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        """Learn the names of tokens or labels, which samples and pictures show. Called once, before anything else."""

    def prepare(self, data: DataModule) -> tuple[str, ...]:
        """Look at the data, on the CPU, before training begins; no random number is drawn. Not called for evaluation.

        Returns:
            what people should know, a line each.
        """
        return ()

    def prediction_rows(self, model: nn.Module, batch: Any) -> dict[str, list[Any]]:
        """Predictions for people, by column: one plain value for each input of the batch, which has no targets.

        Raises:
            ConfigError: the task predicts nothing.
        """
        raise ConfigError("this task predicts nothing; try 'dlcli eval' or 'dlcli sample'")

    def check(self, model: nn.Module, data: DataModule) -> None:
        """Called when all parts are built, before a folder is made. By default nothing is refused.

        Raises:
            ConfigError: this model, or these data, do not fit the task.
        """

    def exported(self, model: nn.Module, batch: Any) -> tuple[nn.Module, Tensor]:
        """The network that other programs are given, and inputs (B, …) for it: the model and the batch's inputs."""
        return model, batch[0]

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """What to look at in TensorBoard after an evaluation, by tag.

        A value is a text (str), an image or a grid of images (uint8 tensor, (3, H, W)), or vectors for the projector
        (``Embedding``).
        """
        return {}
