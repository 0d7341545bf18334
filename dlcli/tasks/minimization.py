"""Minimisation: the value of a function at a point, to see how optimizers move.

Source: d2l 12.2 "Optimization and Deep Learning" to 12.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlcli.functional.inference import uncompiled
from dlcli.functional.objectives import OBJECTIVES
from dlcli.functional.plots import trajectory
from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task


@TASKS.register("minimization")
class Minimization(Task):
    """The function's value plus noise · point, whose gradient is the function's plus the noise.

    Model contract: ``model(noise (1, D)) -> the point (1, D)``; ``model.remember(position)`` keeps one for the
    picture.
    Metrics: loss (the value), x1 and, of a function of two numbers, x2 (where the point is).
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("point",), "data": ("objective",)}
    metric_directions = {"loss": "min", "x1": "min", "x2": "min"}

    def __init__(self) -> None:
        self.dimension = 0

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        assert spec.input_shape is not None
        self.dimension = spec.input_shape[0]

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        model: Any = uncompiled(networks["model"])
        before = model.point.detach().clone()
        point = networks["model"](batch.noise)  # (1, D)
        value = OBJECTIVES[batch.function].function(point).sum()
        yield Loss(value + (batch.noise * point).sum())
        model.remember(before)  # here a step was taken; what a trainer only tried does not come so far

    def metrics(self) -> dict[str, Metric]:
        return {"loss": Mean(), **{f"x{place}": Mean() for place in range(1, min(self.dimension, 2) + 1)}}

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        point = networks["model"](batch.noise)[0]  # (D,)
        metrics["loss"].update(OBJECTIVES[batch.function].function(point))
        for place in range(min(self.dimension, 2)):
            metrics[f"x{place + 1}"].update(point[place])

    @torch.no_grad()
    def preview(self, networks: Networks, batch: Any) -> dict[str, Tensor]:
        """ "trajectory": the way so far over the function's graph or contour lines."""
        model: Any = uncompiled(networks["model"])
        visited = int(model.visited)
        way = model.trail.roll(-visited, 0) if visited > len(model.trail) else model.trail[:visited]
        return trajectory(OBJECTIVES[batch.function], torch.cat([way, model.point[None]]).double().cpu())
