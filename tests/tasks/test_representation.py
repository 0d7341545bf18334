"""Contrastive learning and pretexts: from the command to a saved run, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcli import load_run, train
from dlcli.cli.train import resume_run
from dlcli.config import compose
from dlcli.data.base import ImageBatch, ViewsBatch
from dlcli.data.digits import Digits
from dlcli.errors import ConfigError
from dlcli.functional.contrastive import nt_xent, pair_masks
from dlcli.models.momentum_contrast import MomentumContrast
from dlcli.spec import DataSpec
from dlcli.tasks.contrastive import Contrastive
from dlcli.tasks.pretext import Pretext

CHANGES = "data.augmentation={resized_crop:[0.3,1.0,0.75,1.33]}"
SMALL = ["data=digits", "trainer.max_steps=4", "trainer.log_every=2", "model.stages=[[1,8],[1,16]]"]
COMMON = {"neighbors": 3, "probe_per_class": None, "tsne": False, "sample": {}}


def contrastive(**options: Any) -> Contrastive:
    values = {"loss": "nt_xent", "positives": "views", "temperature": 0.5, "margin": 0.5, **COMMON, **options}
    return Contrastive(**values)


def pretext(kind: str, **options: Any) -> Pretext:
    return Pretext(**{"kind": kind, "noise": 0.5, "mask_share": 0.5, "patch_size": 4, **COMMON, **options})


def test_paired_data_give_two_changes_of_each_picture() -> None:
    changes = {"crop_padding": 2}
    data = Digits(
        batch_size=100, val_fraction=0.1, test_fraction=0.2, split_seed=0, folds=None, fold=0, normalize=True,
        resize=None, augmentation=changes,
    )  # fmt: skip
    data.paired = True
    batch = data.batches("train", order="shuffled", seed=1, epoch=2)[3]
    again = data.batches("train", order="shuffled", seed=1, epoch=2)[3]
    assert isinstance(batch, ViewsBatch)
    assert batch.views.shape == (100, 2, 1, 8, 8)
    assert torch.equal(batch.views, again.views)
    assert not torch.equal(batch.views[:, 0], batch.views[:, 1])
    for picture, views in zip(batch.images, batch.views, strict=True):  # each is moved, and has a black edge
        assert set(views.flatten().tolist()) <= {*picture.flatten().tolist(), float(batch.images.min())}
    measured = data.batches("val", order="sequential")
    assert torch.equal(measured[0].views, data.batches("val", order="sequential")[0].views)
    assert len(measured[0].images) == 100  # as many as in training, so that losses compare
    assert isinstance(data.batches("train", order="sequential")[0], ImageBatch)


class Flat(nn.Module):
    """Embeddings that are the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    features = forward


@pytest.mark.parametrize("positives", ["views", "labels"])
def test_the_loss_is_that_of_the_views_of_a_picture_or_a_class(positives: str) -> None:
    torch.manual_seed(0)
    batch = ViewsBatch(torch.zeros(3, 1, 2, 2), torch.tensor([1, 0, 1]), torch.randn(3, 2, 1, 2, 2))
    (loss,) = contrastive(positives=positives).training_step({"model": Flat()}, batch)
    vectors = nn.functional.normalize(batch.views.view(6, 4))
    groups = torch.tensor([0, 0, 1, 1, 2, 2] if positives == "views" else [1, 1, 0, 0, 1, 1])
    torch.testing.assert_close(loss.value, nt_xent(vectors, vectors, *pair_masks(groups), 0.5))


def test_keys_follow_the_network_after_the_step() -> None:
    torch.manual_seed(0)
    model = MomentumContrast(
        momentum=0.75, input_shape=(1, 8, 8), stages=[(1, 4)], hidden_size=4, embedding_size=3
    ).eval()
    begun = model.projector[0].weight.clone()
    views = torch.randn(4, 2, 1, 8, 8)
    torch.testing.assert_close(model.keys(views[:, 0]), model(views[:, 0]))
    steps = contrastive().training_step({"model": model}, ViewsBatch(views[:, 0], torch.zeros(4), views))
    loss = next(steps)
    loss.value.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in [*model.key_encoder.parameters(), *model.key_projector.parameters()])
    with torch.no_grad():
        for parameter in model.projector.parameters():
            parameter.add_(1.0)  # a step of the optimizer
    assert next(steps, None) is None
    torch.testing.assert_close(model.key_projector[0].weight, begun + 0.25)
    momentum = nn.functional.normalize(model.keys(views.flatten(0, 1)))
    queries = nn.functional.normalize(model(views.flatten(0, 1)))
    (loss,) = contrastive().training_step({"model": model}, ViewsBatch(views[:, 0], torch.zeros(4), views))
    masks = pair_masks(torch.arange(4).repeat_interleave(2))
    torch.testing.assert_close(loss.value, nt_xent(queries, momentum, *masks, 0.5))


class Zeros(nn.Module):
    """Pictures of zeros."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images)


@pytest.mark.parametrize("kind", ["reconstruction", "denoising", "colourisation"])
def test_rebuilding_costs_the_mean_squared_error_of_the_clean_picture(kind: str) -> None:
    images = torch.randn(3, 3, 8, 8)
    loss = pretext(kind).loss_of({"model": Zeros()}, ImageBatch(images, torch.zeros(3)))
    torch.testing.assert_close(loss, images.square().mean())


def test_measuring_and_showing_draw_no_number_of_the_training(tmp_path: Path) -> None:
    options = [*SMALL, "task=pretext", "task.kind=denoising", "model=pooled_autoencoder", "task.probe_per_class=20"]
    first = train([*options, f"run_dir={tmp_path}", "trainer.eval_every=1"])
    second = train([*options, f"run_dir={tmp_path}", "trainer.eval_every=null"])
    weights = [load_run(run.directory, checkpoint="last").model.state_dict() for run in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_only_hidden_patches_count() -> None:
    images = torch.ones(2, 1, 8, 8) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    loss = pretext("masked_patches").loss_of({"model": nn.Identity()}, ImageBatch(images, torch.zeros(2)))
    torch.testing.assert_close(loss, torch.tensor(5.0))  # 0 instead of 1 and 3, at as many pixels each


def test_trained_features_are_measured_beside_untrained_ones_and_pixels(tmp_path: Path) -> None:
    options = [*SMALL, "task=contrastive", "model=simclr", CHANGES, f"run_dir={tmp_path}", "trainer.eval_every=4"]
    run = train(options)
    found = run.summary["metrics"]["test"]
    kinds = ("linear_probe", "knn", "uniformity", "alignment")
    assert set(found) == {"loss", *(f"{prefix}{kind}" for prefix in ("", "untrained_", "pixels_") for kind in kinds)}
    assert found["pixels_linear_probe"] > 0.9
    assert found["pixels_knn"] > 0.9
    assert found["untrained_linear_probe"] > 0.5
    saved = load_run(run.directory)
    assert saved.evaluate("test") == pytest.approx(found, abs=1e-6)
    (picture,) = saved.sample({"num_samples": 2, "num_neighbors": 3, "seed": 0})
    assert picture.shape[0] == 3
    assert (run.directory / "projector" / "sprite.png").exists()
    tuned = train(
        [*SMALL, "model=encoder_classifier", "freeze=[encoder.*]", f"init_from={run.directory}", f"run_dir={tmp_path}"]
    )
    kept = {name: value for name, value in tuned.model.named_parameters() if name.startswith("encoder.")}
    assert kept
    assert all(torch.equal(value, saved.model.state_dict()[name]) for name, value in kept.items())


def test_a_resumed_run_is_the_uninterrupted_one_however_often_it_is_measured(tmp_path: Path) -> None:
    options = [*SMALL, "task=contrastive", "model=momentum_contrast", CHANGES, "task.probe_per_class=20"]
    whole = train([*options, f"run_dir={tmp_path / 'whole'}", "trainer.eval_every=null"])
    half = train([*options, f"run_dir={tmp_path / 'half'}", "trainer.eval_every=1", "trainer.max_steps=2"])
    resume_run(Path(half.directory), ["trainer.max_steps=4"], config_dirs=[], plugins=[], quiet=True).train()
    first, second = (load_run(r.directory, checkpoint="last").model.state_dict() for r in (whole, half))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("rotation", ["model=simclr", "model.embedding_size=4"]),
        ("shuffled_patches", ["model=simclr", "model.embedding_size=24"]),
        ("masked_patches", ["model=pooled_autoencoder"]),
    ],
)
def test_a_pretext_trains_and_is_measured(tmp_path: Path, kind: str, model: list[str]) -> None:
    run = train([*SMALL, "task=pretext", f"task.kind={kind}", *model, f"run_dir={tmp_path}", "task.probe_per_class=20"])
    assert "linear_probe" in run.summary["metrics"]["val"]
    assert run.summary["metrics"]["val"]["alignment"] > 0  # between pictures and their mirror images


@pytest.mark.parametrize(
    ("model", "order"),
    [
        (["task=contrastive", "model=simclr"], []),
        (["task=pretext", "task.kind=denoising", "model=pooled_autoencoder"], ["trainer.shuffle=false"]),
    ],
)
def test_changed_pictures_with_signals_in_any_order(tmp_path: Path, model: list[str], order: list[str]) -> None:
    options = ["trainer.signals=true", "task.probe_per_class=5", "trainer.limit_eval_batches=1"]
    run = train([*SMALL, *model, *order, *options, CHANGES, f"run_dir={tmp_path}"])
    assert "signals/encoder.stages.0.0.0/gradient" in (run.directory / "metrics.jsonl").read_text()
    with pytest.raises(ConfigError, match="--split train: task '.*' measures changes of pictures, .* use val or test"):
        load_run(run.directory).evaluate("train")


def test_a_model_that_cannot_be_set_back_is_refused() -> None:
    class Shifted(Flat):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))

    model = nn.Sequential(nn.Linear(1, 1), Shifted())
    with pytest.raises(ConfigError, match=r"nothing sets its parameter 1.shift back; give Shifted a method reset_para"):
        contrastive().check(model, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data=digits", "model=simclr", CHANGES, "trainer.shuffle=false"], "compares changes; set trainer.shuffle=tr"),
        (["data=digits", "model=simclr", CHANGES, "trainer=newton"], "compares changes; add trainer=minibatch"),
        (["data=digits", "model=simclr", "data.augmentation={mixup:0.4}"], "data.augmentation.mixup: .* leave it out"),
        (["data=digits", "model=simclr", "data.augmentation={crop_padding:null}"], "changes .*; set data.augmentation"),
        (
            ["data=digits", "model=simclr"],
            r"; set data.augmentation, for example 'data.augmentation=\{resized_crop:\[0.3,1.0,0.75,1.33\]\}'$",
        ),
        (["data=digits", "model=simclr", CHANGES, "data.batch_size=1"], "data.batch_size=1: .* use at least 2"),
        (["data=shakespeare", "model=simclr"], "task 'contrastive' needs input_shape, which data 'shakespeare'"),
        (["data=digits", "model=lenet", CHANGES], r"needs a model with features\(\), which model 'lenet' does not"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["task=contrastive", *options])
    assert any(re.search(message, problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("rotation", (1, 8, 6), "rotation needs square pictures, and the pictures have 1×8×6 values"),
        ("shuffled_patches", (1, 7, 7), "shuffled_patches needs even sides"),
        ("colourisation", (1, 8, 8), "colourisation needs colours"),
        ("masked_patches", (1, 8, 6), "task.patch_size=4: expected a divisor of both sides"),
        ("masked_patches", (1, 4, 4), "task.patch_size=4: expected a divisor of both sides"),
        ("rotation", (13,), r"task 'pretext' needs images \(channels, height, width\), not inputs of shape"),
    ],
)
def test_pictures_that_a_pretext_cannot_take(kind: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pretext(kind).bind(DataSpec(input_shape=shape, num_classes=2), None, None)


def test_a_model_with_other_outputs_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="for kind shuffled_patches: use model=simclr model.embedding_size=24"):
        train([*SMALL, "task=pretext", "task.kind=shuffled_patches", "model=simclr", f"run_dir={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()


def test_a_model_with_other_outputs_is_told_what_to_be() -> None:
    batch = ImageBatch(torch.zeros(2, 1, 8, 8), torch.zeros(2))
    with pytest.raises(
        ConfigError, match=r"returns outputs of shape \(2, 64\).*: use model=simclr model.embedding_size=4"
    ):
        pretext("rotation").loss_of({"model": Flat()}, batch)
    with pytest.raises(ConfigError, match="for kind denoising: use model=pooled_autoencoder"):
        pretext("denoising").loss_of({"model": Flat()}, batch)
