"""Reconstruction: a network learns to give back its own input, through a narrow code.

Source: DLFS chapter 7 (autoencoders).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.pictures import grid
from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.tasks.outputs import check_shape

PREVIEW_IMAGES = 32


@TASKS.register("reconstruction")
class Reconstruction(Task):
    """The mean squared error between inputs and outputs, over all examples and numbers of each; labels are not used.

    Model contract: ``model(inputs) -> reconstructions`` of the same shape. Metrics: loss.
    """

    requires: ClassVar[tuple[str, ...]] = ("input_shape",)
    metric_directions = {"loss": "min"}

    def __init__(self) -> None:
        pass

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        yield Loss(F.mse_loss(self._forward(networks["model"], batch[0]), batch[0]))

    def metrics(self) -> dict[str, Metric]:
        return {"loss": Mean()}

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        inputs = batch[0]
        metrics["loss"].update(F.mse_loss(self._forward(networks["model"], inputs), inputs), len(inputs))  # type: ignore[arg-type]

    def _forward(self, model: Any, inputs: Tensor) -> Tensor:
        outputs = model(inputs)
        check_shape(outputs, tuple(inputs.shape), "reconstruction", "those of the inputs")
        return at_least_float32(outputs)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Any) -> Tensor:
        """The reconstructions, of the inputs' shape."""
        with evaluating(model):
            return self._forward(model, batch[0])

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """For images: "reconstructions", each image to the left of what the network makes of it."""
        images = batch[0][:PREVIEW_IMAGES]
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            return {}
        rebuilt = self.predict(uncompiled(networks["model"]), (images,))
        return {"reconstructions": grid(torch.cat([images, rebuilt.to(images)], 3))}
