"""Reconstruction: the loss by its definition, and what is shown."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcli import train
from dlcli.data.base import ImageBatch
from dlcli.errors import ConfigError
from dlcli.functional.embeddings import in_the_plane
from dlcli.spec import DataSpec
from dlcli.tasks.reconstruction import Reconstruction

SAMPLE = {"num_samples": 4, "scale": 1.0, "seed": 0}


def make_task(tsne: bool = False) -> Any:
    return Reconstruction(tsne=tsne, sample=SAMPLE)


class Half(nn.Module):
    """Gives back half of its input."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / 2


def batch_of(count: int) -> ImageBatch:
    images = torch.randn(count, 1, 4, 5, generator=torch.Generator().manual_seed(count))
    return ImageBatch(images, torch.zeros(count, dtype=torch.int64))


def test_the_loss_is_the_mean_squared_error_over_all_pixels() -> None:
    batch = batch_of(6)
    (loss,) = make_task().training_step({"model": Half()}, batch)
    assert float(loss.value) == pytest.approx(float((batch.images / 2).square().mean()))


def test_unequal_batches_give_the_value_of_the_whole() -> None:
    task, parts = make_task(), [batch_of(5), batch_of(2)]
    metrics = task.metrics()
    for batch in parts:
        task.evaluation_step({"model": Half()}, batch, metrics)
    whole = torch.cat([batch.images for batch in parts])
    assert metrics["loss"].compute() == pytest.approx(float((whole / 2).square().mean()), rel=1e-6)


def test_each_image_is_shown_beside_its_reconstruction() -> None:
    networks: Any = {"model": Half()}
    shown = make_task().preview(networks, batch_of(3))
    assert shown["reconstructions"].dtype == torch.uint8
    assert make_task().preview(networks, (torch.zeros(2, 3),)) == {}


def test_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task 'reconstruction' needs a tensor of shape \(2, 1, 4, 5\)"):
        list(make_task().training_step({"model": nn.Flatten()}, batch_of(2)))


class Coder(nn.Module):
    """Codes of two numbers that the decoder puts into every pixel's place."""

    code_size = 2

    def __init__(self, shape: tuple[int, ...] = (1, 4, 5)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.shape = shape

    def encoder(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :2]

    def decoder(self, codes: Tensor) -> Tensor:
        return codes.sum(1)[:, None, None, None].expand(-1, *self.shape) * self.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.decoder(self.encoder(inputs))


def test_random_codes_are_decoded_to_a_grid() -> None:
    task, state = make_task(), torch.get_rng_state()
    seen: list[Tensor] = []
    model = Coder()
    decode = model.decoder
    model.decoder = lambda codes: seen.append(codes) or decode(codes)  # type: ignore[assignment,func-returns-value]
    (picture,) = task.sample(model, num_samples=9, scale=3.0, seed=1)
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3
    next(task.sample(model, num_samples=4, scale=3.0, seed=1))
    next(task.sample(model, num_samples=4, scale=3.0, seed=2))
    assert seen[0].shape == (9, 2)
    assert torch.equal(seen[0][:4], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert 1.5 < seen[0].abs().max() <= 3
    assert torch.equal(torch.get_rng_state(), state)


def test_what_makes_no_pictures_cannot_be_sampled() -> None:
    with pytest.raises(ConfigError, match="the model has no decoder; use model=autoencoder"):
        next(make_task().sample(Half(), num_samples=1, scale=1.0, seed=0))
    with pytest.raises(ConfigError, match=r"what is decoded has the shape \(2, 3, 4\), no pictures"):
        next(make_task().sample(Coder((2, 3, 4)), num_samples=1, scale=1.0, seed=0))


def test_codes_go_to_the_projector_with_their_labels_and_pictures() -> None:
    task, batch = make_task(), batch_of(40)
    task.bind(DataSpec(input_shape=(1, 4, 5)), None, ["zero", "one"])
    shown = task.preview({"model": Coder()}, batch._replace(labels=torch.arange(40) % 2))
    assert set(shown) == {"reconstructions", "codes"}
    codes = shown["codes"]
    torch.testing.assert_close(codes.vectors, batch.images.flatten(1)[:, :2])
    assert codes.labels == ["zero", "one"] * 20
    assert codes.images.shape == (40, 3, 4, 5)
    assert codes.images.dtype == torch.uint8
    table = task.preview({"model": Coder()}, (torch.randn(3, 6), torch.randn(3, 1)))
    assert (table["codes"].labels, table["codes"].images) == (["0", "1", "2"], None)


def test_groups_of_codes_stay_together_in_the_plane() -> None:
    codes = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    codes[30:] += 30
    points = in_the_plane(codes)
    assert points.shape == (60, 2)
    distances = torch.cdist(points, points)
    nearest = distances.fill_diagonal_(torch.inf).argmin(1)
    assert torch.equal(nearest < 30, torch.arange(60) < 30)
    pytest.importorskip("matplotlib")
    shown = make_task(tsne=True).preview({"model": Coder()}, batch_of(8))
    assert shown["tsne"].shape[0] == 3


def test_a_model_of_other_outputs_is_told_which_one_fits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(32, 1, 8, 8\): those of the inputs: use model=autoencoder$"):
        train(["data=digits", "task=reconstruction", f"run_dir={tmp_path}", "trainer.max_steps=1"])
