"""Reconstruction: the loss by its definition, and what is shown."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcli.data.base import ImageBatch
from dlcli.errors import ConfigError
from dlcli.tasks.reconstruction import Reconstruction


class Half(nn.Module):
    """Gives back half of its input."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / 2


def batch_of(count: int) -> ImageBatch:
    images = torch.randn(count, 1, 4, 5, generator=torch.Generator().manual_seed(count))
    return ImageBatch(images, torch.zeros(count, dtype=torch.int64))


def test_the_loss_is_the_mean_squared_error_over_all_pixels() -> None:
    batch = batch_of(6)
    (loss,) = Reconstruction().training_step({"model": Half()}, batch)
    assert float(loss.value) == pytest.approx(float((batch.images / 2).square().mean()))


def test_unequal_batches_give_the_value_of_the_whole() -> None:
    task, parts = Reconstruction(), [batch_of(5), batch_of(2)]
    metrics = task.metrics()
    for batch in parts:
        task.evaluation_step({"model": Half()}, batch, metrics)
    whole = torch.cat([batch.images for batch in parts])
    assert metrics["loss"].compute() == pytest.approx(float((whole / 2).square().mean()), rel=1e-6)


def test_each_image_is_shown_beside_its_reconstruction() -> None:
    networks: Any = {"model": Half()}
    shown = Reconstruction().preview(networks, batch_of(3))
    assert shown["reconstructions"].dtype == torch.uint8
    assert Reconstruction().preview(networks, (torch.zeros(2, 3),)) == {}


def test_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task 'reconstruction' needs a tensor of shape \(2, 1, 4, 5\)"):
        list(Reconstruction().training_step({"model": nn.Flatten()}, batch_of(2)))
