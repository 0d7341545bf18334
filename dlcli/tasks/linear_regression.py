"""Linear regression: a regression whose weights are looked at, and compared with the right ones where these are known.

Source: d2l 3.4 and 3.5 (errors of the estimated parameters), 3.7 (the norm of the weights under weight decay).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.tasks.base import Networks
from dlcli.tasks.regression import Regression


@TASKS.register("linear_regression")
class LinearRegression(Regression):
    """Regression by one linear layer, ``model.output``.

    Further metrics: weight_penalty |W|²/2 without the bias. If the data know the function that made them, weight_error
    and bias_error: the lengths of the differences from the right weights and bias.
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("linear", "linear_closed_form")}
    metric_directions = {
        "loss": "min",
        "mae": "min",
        "rmse": "min",
        "r2": "max",
        "weight_penalty": "min",
    }

    def metrics(self) -> dict[str, Metric]:
        parameters = {"weight_penalty": Mean()}
        if self.true_parameters is not None:
            parameters |= {"weight_error": Mean(), "bias_error": Mean()}
        return {**super().metrics(), **parameters}

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        super().evaluation_step(networks, batch, metrics)
        layer = networks["model"].output
        metrics["weight_penalty"].update(layer.weight.double().square().sum() / 2)
        if self.true_parameters is not None:
            weights, bias = (torch.tensor(values, dtype=torch.float64) for values in self.true_parameters)
            metrics["weight_error"].update((layer.weight.flatten().double() - weights.to(layer.weight.device)).norm())
            metrics["bias_error"].update((layer.bias.double() - bias.to(layer.weight.device)).norm())
