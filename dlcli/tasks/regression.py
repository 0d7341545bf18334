"""Regression: one or more numbers for each input.

Source: d2l section 3.1 "Linear Regression"; DLFS chapters 1 and 2; GDL chapters 4 and 5; Huber 1964, "Robust Estimation
of a Location Parameter".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.plots import points_and_line
from dlcli.hyperparameters import PositiveFloat
from dlcli.metrics.base import Mean, Metric
from dlcli.metrics.regression import R2, MeanAbsoluteError, RootMeanSquaredError
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.tasks.outputs import check_shape


@TASKS.register("regression")
class Regression(Task):
    """An error between predicted numbers and targets over batches (features, targets (B, num_targets)).

    Model contract: ``model(features) -> (B, num_targets)``.

    Losses, each the mean over all examples and outputs (squared_error: the sum over the outputs), where
    e = prediction - target:
    mse: e², with factor 1.
    squared_error: e², summed over the outputs: for one output the same as mse.
    half_mse: e²/2, as d2l writes it: the same minimum, half the gradient.
    l1: |e|.
    huber: e²/2 where |e| is at most delta, else delta (|e| - delta/2).

    Metrics: loss, mae and rmse (in the targets' unit), r2 (1 is perfect, 0 as good as the mean target; averaged over
    the outputs).
    """

    requires: ClassVar[tuple[str, ...]] = ("num_targets",)
    calls_model_only: ClassVar[bool] = True
    metric_directions = {"loss": "min", "mae": "min", "rmse": "min", "r2": "max"}

    def __init__(
        self, *, loss: Literal["mse", "squared_error", "half_mse", "l1", "huber"], delta: PositiveFloat, plots: bool
    ):
        """
        Args:
            loss: what is minimised.
            delta: the error, in the targets' unit, from which huber grows linearly; the others ignore it.
            plots: draw predictions after each evaluation.
        """
        self.loss = loss
        self.delta = delta
        self.plots = plots
        self.num_targets = 0

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        assert spec.num_targets is not None
        self.num_targets = spec.num_targets

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        yield Loss(self._loss(*self._forward(networks["model"], batch)))

    def metrics(self) -> dict[str, Metric]:
        return {
            "loss": Mean(),
            "mae": MeanAbsoluteError(),
            "rmse": RootMeanSquaredError(),
            "r2": R2(self.num_targets),
        }

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        predictions, targets = self._forward(networks["model"], batch)
        metrics["loss"].update(self._loss(predictions, targets), len(targets))  # type: ignore[arg-type]
        for name in ("mae", "rmse", "r2"):
            metrics[name].update(self._in_target_unit(predictions), self._in_target_unit(targets))

    def _forward(self, model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        return self._beside_targets(model(batch[0]), batch)

    def _beside_targets(self, predictions: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """Predictions and targets, (B, num_targets) both and of one floating type."""
        features, targets = batch[:2]
        check_shape(predictions, (len(features), self.num_targets), "regression", "(batch, targets)")
        if targets.shape != predictions.shape:  # their difference would be broadcast silently
            raise ConfigError(
                f"the data give targets of shape {tuple(targets.shape)}; task 'regression' needs "
                f"{tuple(predictions.shape)}: (batch, targets)"
            )
        predictions = at_least_float32(predictions)
        return predictions, targets.to(predictions.dtype)

    def _in_target_unit(self, values: Tensor) -> Tensor:
        """Undo what the data have done to the targets, if they ask for that."""
        return values if self.target_scale is None else self.target_scale.undo(values)

    def _loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        if self.loss == "mse":
            return F.mse_loss(predictions, targets)
        if self.loss == "squared_error":
            return F.mse_loss(predictions, targets) * targets.shape[1]
        if self.loss == "half_mse":
            return F.mse_loss(predictions, targets) / 2
        if self.loss == "l1":
            return F.l1_loss(predictions, targets)
        return F.huber_loss(predictions, targets, delta=self.delta)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Any) -> Tensor:
        """The predicted numbers, (B, num_targets), in the targets' unit."""
        with evaluating(model):
            predictions = model(batch[0])
        check_shape(predictions, (len(batch[0]), self.num_targets), "regression", "(batch, targets)")
        return self._in_target_unit(at_least_float32(predictions))

    def prediction_rows(self, model: nn.Module, batch: Any) -> dict[str, list[Any]]:
        return self.rows_of(self.predict(model, batch))

    def rows_of(self, predicted: Tensor) -> dict[str, list[Any]]:
        """The predicted number ("prediction", or "prediction_0" and so on for several targets)."""
        columns = predicted.T.tolist()
        if len(columns) == 1:
            return {"prediction": columns[0]}
        return {f"prediction_{number}": column for number, column in enumerate(columns)}

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """With ``plots``: "predictions" over the targets, where the diagonal is right; and "effect", the targets over
        the feature that goes with them most closely, and the prediction if it changes and the others keep their mean.

        Source: DLFS chapter 2. The effect is drawn for tables (B, F) with one target.
        """
        if not self.plots:
            return {}
        model = uncompiled(networks["model"])
        predicted = self.predict(model, batch).double().flatten().cpu()
        targets = self._in_target_unit(batch[1]).double().flatten().cpu()
        ends = torch.stack([targets.min(), targets.max()])
        points = torch.stack([targets, predicted], 1)
        shown = {"predictions": points_and_line(points, torch.stack([ends, ends], 1), "target", "prediction")}
        features = batch[0]
        if features.ndim == 2 and self.num_targets == 1:
            rows = features.double().cpu()
            feature = strongest(rows, targets)
            line = torch.linspace(float(rows[:, feature].min()), float(rows[:, feature].max()), 50)
            inputs = features.mean(0).repeat(len(line), 1)
            inputs[:, feature] = line.to(inputs)
            effect = self.predict(model, (inputs,)).flatten().cpu()
            points = torch.stack([rows[:, feature], targets], 1)
            name = f"feature {feature} (from 0)"
            shown["effect"] = points_and_line(points, torch.stack([line, effect.to(line)], 1), name, "target")
        return {tag: picture for tag, picture in shown.items() if picture is not None}


def strongest(features: Tensor, targets: Tensor) -> int:
    """The column of features (N, F) with the largest absolute correlation with the targets (N,)."""
    centred = features - features.mean(0)
    size = centred.norm(dim=0)
    scores = (centred.T @ (targets - targets.mean())).abs() / torch.where(size > 0, size, 1.0)
    return int(scores.argmax())
