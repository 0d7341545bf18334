"""Adversarial training: the order of the steps and what each moves, what is measured and drawn, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import dlcli
from dlcli import train
from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.cli.train import resume_run, start_run
from dlcli.data.base import ImageBatch
from dlcli.data.gaussian_2d import PointBatch
from dlcli.errors import ConfigError, DataError
from dlcli.functional.adversarial_losses import discriminator_loss, generator_loss
from dlcli.functional.features import features_and_scores, pooled_pixels
from dlcli.registry import DATA, OPTIMIZERS, SCHEDULERS, TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.gan import noise_for
from dlcli.trainers.step import Stepper
from tests.test_resume import interrupt, outcome, same

DIGITS = ["data=digits", "data.normalize=symmetric", "data.batch_size=64"]
PICTURES = [*DIGITS, "task=gan", "model=dcgan", "model.channels=2", "model.latent_size=5", "trainer.max_steps=4"]
POINTS = ["data=gaussian_2d", "data.train_size=64", "data.val_size=100", "data.test_size=100"]


def make_task(spec: DataSpec | None = None, **options: Any) -> Any:
    task = TASKS.build({**load_yaml(CONFIGS / "task" / "gan.yaml"), **options})
    task.bind(spec or DataSpec(input_shape=(2,)), None, None)
    return task


class Pair(nn.Module):
    """Of points: the generator shifts noise, the discriminator is linear."""

    latent_size = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Linear(2, 2)
        self.discriminator = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"model": self, "generator": self.generator, "discriminator": self.discriminator}


def points(count: int = 6) -> PointBatch:
    return PointBatch(torch.randn(count, 2, generator=torch.Generator().manual_seed(1)) + 3)


# ---------------------------------------------------------------------- the steps


def test_the_generator_meets_the_discriminator_that_has_just_moved() -> None:
    model, batch = Pair(), points()
    torch.manual_seed(5)
    noise = torch.randn(6, 2)
    torch.manual_seed(5)
    losses = make_task().training_step(model.networks, batch)
    first = next(losses)
    made = model.generator(noise)
    judged = model.discriminator(batch.points), model.discriminator(made.detach())
    torch.testing.assert_close(first.value, discriminator_loss("non_saturating", *judged, 0.0))
    assert float(first.logs["discriminator_on_data"]) == pytest.approx(float(judged[0].sigmoid().mean().detach()))
    assert first.network == "discriminator"
    with torch.no_grad():
        model.discriminator[0].weight += 1.0
    second = next(losses)
    torch.testing.assert_close(second.value, generator_loss("non_saturating", model.discriminator(made)))
    assert second.network == "generator"
    assert next(losses, None) is None


def test_each_loss_has_gradients_for_its_own_network_alone() -> None:
    model = Pair()
    for loss in make_task().training_step(model.networks, points()):
        model.zero_grad()
        loss.value.backward()
        other = {"generator": model.discriminator, "discriminator": model.generator}[loss.network]
        assert all(parameter.grad.abs().sum() > 0 for parameter in getattr(model, loss.network).parameters())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in other.parameters())


def test_several_discriminator_steps_share_the_batch_out() -> None:
    model, seen = Pair(), []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = points(7)
    networks = [loss.network for loss in make_task(discriminator_steps=3).training_step(model.networks, batch)]
    assert networks == ["discriminator"] * 3 + ["generator"]
    assert torch.equal(torch.cat(seen[0:6:2]), batch.points)
    assert [len(inputs) for inputs in seen] == [3, 3, 2, 2, 2, 2, 2]
    few = [loss.network for loss in make_task(discriminator_steps=5).training_step(model.networks, points(2))]
    assert few == ["discriminator"] * 5 + ["generator"], "every process of a group takes as many"


class Alone:
    """A group of one process, which adds up as a larger one does."""

    @staticmethod
    def sum_gradients(_: list[Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in values.items()}


def test_in_a_group_each_value_is_added_up_once() -> None:
    """Of several losses of one network the latest is logged, and no norm is added up."""
    results = []
    for group, shares in ((None, None), (Alone(), [1.0])):
        model: Any = Pair()
        torch.manual_seed(2)
        adam = load_yaml(CONFIGS / "optimizer" / "adam.yaml")
        optimizers = {
            name: OPTIMIZERS.build(adam, model.networks[name].named_parameters())
            for name in ("discriminator", "generator")
        }
        schedules = {name: SCHEDULERS.build({"name": "constant", "warmup_steps": 0}, 10, 10) for name in optimizers}
        options: Any = {"precision": "fp32", "compile": False, "clip_norm": None, "clip_value": None}
        stepper = Stepper(
            *(model, make_task(discriminator_steps=3), optimizers, schedules, torch.device("cpu")),
            **options,
            ema_decay=None,
            skip_nonfinite=False,
            group=group,  # type: ignore[arg-type]
        )
        values = [stepper.run([points()], None, True, shares).values for _ in range(3)][-1]
        results.append({name: float(value) for name, value in values.items()})
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert set(results[0]) == {
        *("discriminator_loss", "discriminator_on_data", "discriminator_on_generated", "discriminator_gradient_norm"),
        *("generator_loss", "generator_gradient_norm"),
    }


class Once(torch.autograd.Function):
    """Gives back its input; there is no gradient of its gradient."""

    @staticmethod
    def forward(_ctx: Any, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Compiled(nn.Module):
    """As ``torch.compile`` would leave a module, in much less time."""

    def __init__(self, original: nn.Module):
        super().__init__()
        self._orig_mod = original

    def forward(self, inputs: Tensor) -> Tensor:
        return self._orig_mod(Once.apply(inputs))


def test_the_penalty_passes_by_a_compiled_discriminator() -> None:
    gradients = []
    for wrap in (lambda module: module, Compiled):
        model = Pair()
        networks = {**model.networks, "discriminator": wrap(model.discriminator)}
        torch.manual_seed(1)
        task = make_task(loss="wasserstein", gradient_penalty=10.0)
        next(task.training_step(networks, points())).value.backward()
        gradients.append(model.discriminator[0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_the_penalty_is_added_for_wasserstein() -> None:
    model, batch = Pair(), points()
    values = []
    for penalty in (0.0, 10.0):
        torch.manual_seed(0)
        task = make_task(loss="wasserstein", gradient_penalty=penalty)
        values.append(float(next(task.training_step(model.networks, batch)).value.detach()))
    slope = float(model.discriminator[0].weight.detach().norm())
    assert values[1] - values[0] == pytest.approx(10 * (slope - 1) ** 2, rel=1e-4)


@pytest.mark.parametrize(("loss", "penalty"), [("hinge", None), ("wasserstein", 0.0)])
def test_scores_that_are_no_logits_are_logged_as_they_are(loss: str, penalty: float | None) -> None:
    model, batch = Pair(), points()
    first = next(make_task(loss=loss, gradient_penalty=penalty).training_step(model.networks, batch))
    expected = float(model.discriminator(batch.points).mean().detach())
    assert float(first.logs["discriminator_on_data"]) == pytest.approx(expected)


# ---------------------------------------------------------------------- training


def test_rates_of_their_own_and_a_moving_pair(tmp_path: Path) -> None:
    """With a rate of almost nothing the generator stays where it was."""
    options = [*POINTS, "trainer.max_steps=3", "trainer.log_every=1", "lr_factors={generator.*: 1e-9}"]
    run = train([f"run_dir={tmp_path}", *options])
    config = {**load_yaml(CONFIGS / "model" / "gan_mlp.yaml")}
    torch.manual_seed(0)
    initial = dlcli.build_model(config.pop("name"), input_shape=(2,))
    now, before = run.model.state_dict(), initial.state_dict()
    moved = {name for name in now if not torch.allclose(now[name], before[name], atol=1e-6, rtol=0)}
    assert moved == {name for name in now if name.startswith("discriminator")}
    assert {"discriminator_gradient_norm", "generator_gradient_norm"} <= set(run.summary["metrics"]["train"])


def test_a_factor_for_a_network_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'encoder.\*' fits no parameter that learns; there are generator.\*, disc"):
        train([f"run_dir={tmp_path}", *POINTS, "lr_factors={encoder.*: 2}"])


def test_resume_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    options = [*PICTURES, "task.discriminator_steps=2", "trainer.ema_decay=0.9", "trainer.eval_every=2"]
    options += ["trainer.log_every=1", "trainer.checkpoint_every=1"]

    def begin(name: str) -> Any:
        folder = [f"run_dir={tmp_path / name}"]
        return start_run([*options, *folder], command="", config_dirs=[], plugins=[], quiet=True)

    whole = begin("whole")
    whole.train()
    directory = interrupt(begin("part"), 3)
    resume_run(directory, [], config_dirs=[], plugins=[], quiet=True).train()
    assert same(outcome(directory), outcome(whole.directory))


def test_measuring_more_often_changes_no_weight(tmp_path: Path) -> None:
    states = []
    for every in ("1", "4"):
        run = train([*PICTURES, f"run_dir={tmp_path / every}", f"trainer.eval_every={every}", "trainer.log_every=1"])
        lines = (run.directory / "metrics.jsonl").read_text().splitlines()
        states.append([line for line in map(json.loads, lines) if "train/generator_loss" in line])
    keys = ("step", "train/generator_loss", "train/discriminator_loss", "train/discriminator_on_generated")
    assert [[line[key] for key in keys] for line in states[0]] == [[line[key] for key in keys] for line in states[1]]


# ---------------------------------------------------------------------- what is measured


def test_a_generator_that_gives_back_the_data_has_no_distance() -> None:
    task, batch = make_task(), points(200)
    model: Any = Pair()
    with torch.no_grad():
        model.generator.weight.copy_(torch.eye(2))
        model.generator.bias.fill_(3.0)
    metrics = task.metrics()
    task.evaluation_step({"model": model}, batch, metrics)
    near = metrics["frechet_distance"].compute()
    again = task.metrics()
    task.evaluation_step({"model": model}, batch, again)
    assert again["frechet_distance"].compute() == near, "the noise depends on the batch alone"
    with torch.no_grad():
        model.generator.bias.fill_(5.0)
    far = task.metrics()
    task.evaluation_step({"model": model}, batch, far)
    assert near < 0.1
    assert far["frechet_distance"].compute() == pytest.approx(8, rel=0.1)
    assert far["mean_error"].compute() == pytest.approx(2 / 3, rel=0.1)


def test_pictures_are_compared_by_small_versions_of_them() -> None:
    pictures = torch.rand(2, 3, 16, 16)
    expected = pictures.view(2, 3, 8, 2, 8, 2).mean((3, 5)).flatten(1)
    torch.testing.assert_close(pooled_pixels(pictures, 8), expected)
    assert torch.equal(pooled_pixels(pictures, 16), pictures.flatten(1))
    assert torch.equal(pooled_pixels(torch.ones(2, 5), 8), torch.ones(2, 5))


def test_features_are_what_the_last_linear_layer_reads() -> None:
    lenet = dlcli.build_model("lenet", input_shape=(1, 28, 28), num_classes=10).eval()
    features, scores = features_and_scores(lenet, torch.rand(3, 1, 28, 28))
    assert features.shape == (3, 84)
    torch.testing.assert_close(lenet.dense[-1](features), scores)
    with pytest.raises(ConfigError, match="a Conv2d has no linear layer"):
        features_and_scores(nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a classifier of small digits."""
    run = train([*DIGITS, "model=mlp", "trainer.max_epochs=15", f"run_dir={tmp_path_factory.mktemp('judge')}"])
    assert run.directory is not None
    return run.directory


def test_the_run_of_a_classifier_measures(judge: Path, tmp_path: Path) -> None:
    options = ["trainer.precision=fp64", "trainer.max_steps=2"]
    run = train([*PICTURES, *options, f"task.classifier={judge}", f"run_dir={tmp_path}"])
    measured = run.summary["metrics"]["test"]
    assert 0 <= measured["smallest_class"] <= 0.1 <= measured["largest_class"] <= 1
    assert 0.1 < measured["confidence"] <= 1
    assert measured["classes_hit"] in range(11)
    assert measured["frechet_distance"] > 0
    saved = dlcli.load_run(run.directory)
    assert saved.evaluate("test") == pytest.approx(measured)
    assert load_yaml(run.directory / "config.yaml")["task"]["classifier"] == str(judge)
    assert not any(parameter.requires_grad for parameter in saved.task.classifier.parameters())


def test_the_datas_own_pictures_hit_every_class(judge: Path) -> None:
    """A generator that has learned the training pictures by heart."""
    data = DATA.build({**load_yaml(judge / "config.yaml")["data"]})
    pictures = data.tensors["train"][0]

    class Memory(nn.Module):
        latent_size = 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def generator(self, noise: Tensor) -> Tensor:
            rows = (noise[:, 0].sigmoid() * len(pictures)).long()
            return data.collate(pictures[rows], rows).images

    task = make_task(data.spec)
    task.classifier = dlcli.load_run(judge).model
    metrics = task.metrics()
    for batch in (data.batches("val", order="sequential")[0], data.batches("test", order="sequential")[0]):
        task.evaluation_step({"model": Memory()}, batch, metrics)
    assert metrics["classes_hit"].compute() == 10
    assert metrics["confidence"].compute() > 0.8
    squares = float(metrics["frechet_distance"].state[0, :-1, :-1].trace()) / 540  # the mean square of the features
    assert metrics["frechet_distance"].compute() < 0.1 * squares


def test_a_classifier_must_know_the_same_data(judge: Path, tmp_path: Path) -> None:
    cases = {
        f"task.classifier={judge.name}": r"task.classifier: no run .* \(or task.classifier=null\)",
        "data.resize=16": r"has learned from other data \(resize null\); train a classifier with data.resize=16",
    }
    for option, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            train([*PICTURES, f"run_dir={tmp_path}", f"task.classifier={judge}", option])
    copied = tmp_path / "copied"
    shutil.copytree(judge, copied)
    record = json.loads((copied / "spec.json").read_text())
    damages = {
        "spec.json": (
            json.dumps({**record, "fingerprint": "0"}),
            ConfigError,
            "from other examples of these data; train a",
        ),
        "./spec.json": ("{}", DataError, "spec.json: not the record of a run"),
        "config.yaml": ("task: {name: classification}", DataError, "config.yaml: not the configuration of a run"),
    }
    for file, (text, error, message) in damages.items():
        (copied / file).write_text(text)
        with pytest.raises(error, match=message):
            train([*PICTURES, f"run_dir={tmp_path}", "task.classifier=copied"])
    gan = train([*PICTURES, f"run_dir={tmp_path}", "trainer.max_steps=1"])
    with pytest.raises(ConfigError, match="a run of task 'gan'; name one of task=classification"):
        train([*PICTURES, f"run_dir={tmp_path}", f"task.classifier={gan.directory}"])


# ---------------------------------------------------------------------- what is drawn


def test_samples_are_a_grid_then_each_picture(tmp_path: Path) -> None:
    run = train([*PICTURES, f"run_dir={tmp_path}"])
    state = torch.get_rng_state()
    task, model = run.task, run.model.train()
    options = {"interpolation": None, "singles": True, "seed": 1}
    grid, *singles = task.sample(model, num_samples=4, **options)
    assert [picture.shape for picture in singles] == [(3, 8, 8)] * 4
    assert grid.shape == (3, 2 * 36, 2 * 36)
    (rows,) = task.sample(model, num_samples=2, interpolation=5, singles=False, seed=1)
    assert rows.shape == (3, 2 * 36, 5 * 36)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_the_preview_shows_the_same_noise_each_time() -> None:
    model = dlcli.build_model("dcgan", input_shape=(1, 8, 8), channels=2)
    task, batch = make_task(DataSpec(input_shape=(1, 8, 8))), ImageBatch(torch.rand(3, 1, 8, 8), torch.zeros(3))
    shown = [task.preview({"model": model.eval()}, batch)["samples"] for _ in range(2)]
    assert torch.equal(*shown)


@pytest.mark.parametrize("latent_size", [2, 7, 100])
def test_the_first_noises_are_the_same_for_any_number(latent_size: int) -> None:
    model = Pair()
    model.latent_size = latent_size
    many = noise_for(model, 40, 3)
    assert all(torch.equal(noise_for(model, count, 3), many[:count]) for count in (1, 2, 5, 39))
    assert not torch.equal(noise_for(model, 40, 4), many)
    assert abs(float(noise_for(model, 5000, 0).std()) - 1) < 0.05


def test_points_are_drawn_in_the_plane() -> None:
    pytest.importorskip("matplotlib")
    task, model = make_task(), Pair()
    assert task.preview({"model": model}, points(20))["samples"].shape[0] == 3
    (picture,) = task.sample(model, num_samples=5, interpolation=None, singles=True, seed=0)
    assert picture.dtype == torch.uint8


def test_what_cannot_be_drawn_is_said() -> None:
    model = dlcli.build_model("gan_mlp", input_shape=(5,))
    with pytest.raises(ConfigError, match=r"what is generated has the shape \(5,\); expected pictures of 1 or 3"):
        next(make_task().sample(model, num_samples=1, interpolation=None, singles=False, seed=0))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data=digits", "model=dcgan"], "model 'dcgan' does not go with task 'classification': add task=gan"),
        (
            ["data=shakespeare", "task=gan", "model=dcgan"],
            "task 'gan' needs input_shape, which data 'shakesp",
        ),
        (
            ["data=digits", "task=gan", "model=dcgan"],
            r"from -0.\d\d to 1.\d\d, .* -1 to 1; use data.normalize=sym",
        ),
        ([*DIGITS, "task=gan", "trainer=minibatch_gan"], "'gan' needs a model with a discriminator, which model 'mlp'"),
        ([*DIGITS, "task=gan"], "does not have; models that have it: dcgan, gan_mlp$"),
        (
            [*POINTS, "model.output=tanh"],
            r"the generator makes numbers from -1 to 1; use model.output=linear",
        ),
        (
            [*PICTURES, "task.loss=wasserstein", "task.gradient_penalty=10"],
            "batch norm in the discriminator mixes them; use",
        ),
        ([*POINTS, "task.loss=wasserstein"], "task.loss=wasserstein needs task.gradient_penalty, such as 10"),
        ([*POINTS, "task.gradient_penalty=5"], "task.gradient_penalty=5 belongs to the loss wasserstein, not non_sat"),
        ([*PICTURES, "task.loss=hinge", "task.label_smoothing=0.1"], "task.label_smoothing=0.1 belongs to the losses"),
        (
            [*POINTS, "data.val_size=1"],
            "the data have 1 example in val, and task 'gan' compares .*: at least 2 are need",
        ),
        ([*PICTURES, "trainer.accumulate=2"], "task 'gan' trains several networks in turn; use 1"),
        ([*PICTURES, "trainer.monitor=val/loss"], "trainer.monitor=val/loss: task 'gan' does not measure it"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train([f"run_dir={tmp_path / 'runs'}", *options])
    assert not list((tmp_path / "runs").glob("*"))


def test_examples_of_another_shape_are_refused() -> None:
    model: Any = Pair()
    model.generator = nn.Linear(2, 3)
    with pytest.raises(ConfigError, match=r"task 'gan' needs a tensor of shape \(6, 2\): those of the data's examples"):
        next(make_task().training_step(model.networks, points()))


def test_other_programs_get_the_generator(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from dlcli.export import network_and_inputs, to_safetensors

    run = train([*PICTURES, f"run_dir={tmp_path}", "trainer.max_steps=1"])
    saved = dlcli.load_run(run.directory)
    network, noise = network_and_inputs(saved, saved.model)
    assert network is saved.model.generator
    assert noise.shape[1:] == (5,)
    assert to_safetensors(saved, tmp_path / "gan.safetensors") == 0
    assert set(load_file(tmp_path / "gan.safetensors")) == set(saved.model.state_dict())
