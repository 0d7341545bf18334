"""Gaussian processes as runs: the two trainers agree, and all verbs work on what they learn."""

from __future__ import annotations

import builtins
import csv
import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import load_run, runtime, train
from dlcli.cli.train import resume_run
from dlcli.config import compose
from dlcli.errors import ConfigError, Interrupted, ResourceError
from dlcli.functional import plots
from dlcli.models.gaussian_process import GaussianProcess
from dlcli.saved_run import SavedRun
from dlcli.trainers.gaussian_process import GaussianProcessTrainer

SINES = ["data=sines", "data.train_size=20", "data.val_size=30", "data.test_size=30"]
needs_gpytorch = pytest.mark.skipif(find_spec("gpytorch") is None, reason="gpytorch is not installed (extra gp)")


FIGURE = plots._figure


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than all else."""
    monkeypatch.setattr(plots, "_figure", lambda: None)


@pytest.fixture
def with_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up after those that every test uses."""
    monkeypatch.setattr(plots, "_figure", FIGURE)


def trained(folder: Path, *overrides: str) -> Any:
    return train([*SINES, f"run_dir={folder}", *overrides])


def logged(run: Any) -> list[dict[str, float]]:
    lines = map(json.loads, (run.directory / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


# ------------------------------------------------------------------ GPyTorch


@needs_gpytorch
@pytest.mark.parametrize(
    "kernel",
    ["rbf", "matern12 + matern32", "periodic * linear + matern52", "constant + neural_network", "(rbf + linear) * rbf"],
)
def test_posterior_and_loss_are_those_of_gpytorch(kernel: str) -> None:
    from dlcli.cli.train import prepare
    from dlcli.trainers.gpytorch import import_gpytorch, mirrored

    gpytorch = import_gpytorch()
    run = prepare([*SINES, f"model.kernel={kernel}", "model.noise=0.2"], config_dirs=[], plugins=[], quiet=True)
    model = run.model
    assert isinstance(model, GaussianProcess)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * number - 0.5)
    batches = run.data.batches("train", order="sequential")
    model.observe(batches[index]._replace(features=batches[index].features.double()) for index in range(len(batches)))
    process, likelihood = mirrored(model)
    marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)
    loss = -marginal(process(process.train_inputs[0]), process.train_targets)
    assert loss.item() == pytest.approx(model.loss().item(), abs=1e-7)
    process.eval()
    at = torch.linspace(-1, 6, 40, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        expected = likelihood.eval()(process(at))
        mean, variance = model.predictive(at)
    torch.testing.assert_close(mean[:, 0], expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(variance[:, 0], expected.variance, rtol=0, atol=1e-5)


@needs_gpytorch
def test_both_trainers_go_the_same_way(tmp_path: Path) -> None:
    options = ["model.kernel=rbf + periodic * linear", "trainer.max_steps=15"]
    ours, theirs = (trained(tmp_path, f"trainer={name}", *options) for name in ("gaussian_process", "gpytorch"))
    for here, there in zip(logged(ours), logged(theirs), strict=True):
        assert here == pytest.approx(there, abs=1e-6)
    opened = load_run(str(theirs.directory))
    assert opened.evaluate("test") == theirs.summary["metrics"]["test"]


@needs_gpytorch
def test_gpytorch_learns_one_target(tmp_path: Path) -> None:
    rows = ["data=rows", "data.features=[[1.0],[2.0]]", "data.targets=[[1.0,2.0],[2.0,3.0]]", "model=rbf"]
    with pytest.raises(ConfigError, match="'gpytorch' learns one target, and these data have 2; use trainer=gaussian_"):
        train([*rows, "trainer=gpytorch", f"run_dir={tmp_path}"])


def test_without_gpytorch_its_trainer_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "gpytorch":
            raise ImportError(name)
        return keep(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ConfigError, match=r"^trainer 'gpytorch' needs the package gpytorch: pip install 'dlcli\[gp\]'$"
    ):
        trained(tmp_path, "trainer=gpytorch")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ the trainer


def test_steps_begin_where_they_say_and_end_lower(tmp_path: Path) -> None:
    run = trained(tmp_path, "trainer.max_steps=30")
    log = logged(run)
    first = log[0]
    assert first["train/rbf_lengthscale"] == pytest.approx(0.6931)
    assert first["train/noise"] == pytest.approx(0.6931)
    assert run.summary["metrics"]["train"]["loss"] < log[29]["train/loss"] < first["train/loss"] - 0.1
    assert run.summary["metrics"]["train"]["rbf_lengthscale"] == pytest.approx(
        run.model.hyperparameters()["rbf_lengthscale"]
    )
    assert 0.8 < run.summary["metrics"]["test"]["coverage"] <= 1


def test_lbfgs_finds_a_point_where_the_gradient_vanishes(tmp_path: Path) -> None:
    run = trained(tmp_path, "trainer.method=lbfgs", "trainer.lr=1", "trainer.max_steps=25")
    gradient = torch.autograd.grad(run.model.loss(), list(run.model.parameters()))
    assert max(float(part.abs().max()) for part in gradient) < 1e-4


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    options = [f"trainer.method={method}", "trainer.max_steps=8"]
    whole = trained(tmp_path / "whole", *options)
    keep, calls = GaussianProcess.hyperparameters, []

    def interrupting(model: GaussianProcess) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGTERM)
        return keep(model)

    monkeypatch.setattr(GaussianProcess, "hyperparameters", interrupting)
    with pytest.raises(Interrupted, match="stopped at step 4, saved"):
        trained(tmp_path / "cut", *options)
    monkeypatch.undo()
    (directory,) = (tmp_path / "cut").iterdir()
    run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=True)
    run.train()
    assert all(torch.equal(tensor, run.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())
    assert run.summary["metrics"] == whole.summary["metrics"]
    assert logged(run) == logged(whole)


def test_a_finished_run_goes_on_to_more_steps_as_if_they_had_been_asked_for(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "trainer.max_steps=8")
    short = trained(tmp_path / "short", "trainer.max_steps=3")
    run = resume_run(short.directory, ["trainer.max_steps=8"], config_dirs=[], plugins=[], quiet=True)
    run.train()
    assert run.summary["metrics"] == whole.summary["metrics"] != short.summary["metrics"]
    assert [line for line in logged(run) if "train/loss" in line] == [
        line for line in logged(whole) if "train/loss" in line
    ]
    for which in ("best", "last"):
        opened = SavedRun(short.directory, which=which)
        assert (opened.step, opened.model.hyperparameters()) == (8, whole.model.hyperparameters())
    before = logged(run)
    again = resume_run(short.directory, [], config_dirs=[], plugins=[], quiet=True)
    again.train()
    assert (again.summary["metrics"], logged(again)) == (whole.summary["metrics"], before)


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, calls = GaussianProcess.hyperparameters, []

    def failing(model: GaussianProcess) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("pulled plug")
        return keep(model)

    options = ["trainer.max_steps=8", "trainer.checkpoint_every=2"]
    monkeypatch.setattr(GaussianProcess, "hyperparameters", failing)
    with pytest.raises(RuntimeError, match="pulled plug"):
        trained(tmp_path / "cut", *options)
    monkeypatch.undo()
    (directory,) = (tmp_path / "cut").iterdir()
    assert SavedRun(directory).step == 4
    run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=True)
    run.train()
    whole = trained(tmp_path / "whole", *options)
    assert (run.summary["metrics"], logged(run)) == (whole.summary["metrics"], logged(whole))


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    run = trained(tmp_path, "trainer.max_steps=3", "freeze=[raw_noise]", "model.noise=0.0625")
    assert run.model.hyperparameters()["noise"] == pytest.approx(0.0625)


def test_too_many_rows_are_refused_before_a_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "free_memory", lambda _: 10_000)
    with pytest.raises(ResourceError, match="20 training rows: a kernel matrix takes 0.0 GiB.* use at most 7 rows"):
        trained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="model 'rbf' does not go with trainer 'minibatch': add trainer=gaussian_process"
    ):
        compose([*SINES, "model=rbf", "trainer=minibatch"])
    with pytest.raises(ConfigError, match="task 'probabilistic_regression' does not go with model 'mlp'"):
        compose([*SINES, "model=mlp", "trainer=minibatch", "optimizer=adam"])
    with pytest.raises(ConfigError, match="trainer.precision=fp32: expected one of fp64"):
        compose([*SINES, "trainer.precision=fp32"])
    with pytest.raises(ConfigError, match="data.amplitudes has 1 numbers and data.frequencies 2"):
        train([*SINES, "data.amplitudes=[1.0]"])
    with pytest.raises(ConfigError, match=r"data.low=5: expected less than data.high=5.0"):
        train([*SINES, "data.low=5"])


# ------------------------------------------------------------------ what people do with a run


def test_a_dry_run_measures_the_first_batch() -> None:
    from dlcli.cli.train import prepare

    run = prepare(SINES, config_dirs=[], plugins=[], quiet=True)
    assert isinstance(run.trainer, GaussianProcessTrainer)
    assert run.try_batch()["noise"] == pytest.approx(0.6931)


def test_with_given_hyperparameters_it_is_fitted_in_one_step(tmp_path: Path) -> None:
    run = trained(tmp_path, "trainer=fit", "model.lengthscale=0.5", "model.noise=0.0625", "model.outputscale=1.0")
    assert run.summary["metrics"]["train"]["rbf_lengthscale"] == pytest.approx(0.5)
    assert run.summary["metrics"]["test"]["rmse"] < 0.4


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed (extra plot)")
@pytest.mark.usefixtures("with_pictures")
def test_functions_are_drawn_from_the_posterior_and_the_prior(tmp_path: Path) -> None:
    opened = load_run(str(trained(tmp_path, "trainer=fit").directory))
    options = dict(opened.task.sample_defaults)
    pictures = [next(iter(opened.sample({**options, **change}))) for change in ({}, {"source": "prior"}, {"seed": 3})]
    assert all(picture.dtype == torch.uint8 and picture.shape[0] == 3 for picture in pictures)
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert torch.equal(pictures[0], next(iter(opened.sample(options))))
    run = trained(tmp_path, "trainer=fit")
    shown = run.task.preview({"model": run.model}, run.data.batches("val", order="sequential")[0])
    assert set(shown) == {"kernel_matrix", "posterior", "prior"}


def test_a_table_of_ones_own_is_predicted_with_a_band_in_its_unit(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    points = [(x / 10, 100 + 20 * float(torch.tensor(x / 5).sin())) for x in range(60)]
    table.write_text("x,y\n" + "".join(f"{x},{y + (-1) ** round(10 * x)}\n" for x, y in points))
    run = train(
        [
            *("data=csv", f"data.path={table}", "data.target=y", "model=rbf", f"run_dir={tmp_path / 'runs'}"),
            *("trainer.method=lbfgs", "trainer.lr=1"),
        ]
    )
    assert run.choices["trainer"] == "gaussian_process"
    assert run.choices["task"] == "probabilistic_regression"
    assert run.summary["metrics"]["test"]["rmse"] < 2
    from dlcli.cli.predict import write
    from dlcli.saved_run import Predictions

    output = tmp_path / "predictions.csv"
    assert write(output, "csv", Predictions([load_run(str(run.directory))], table)) == 60
    with output.open() as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    assert set(rows[0]) == {"row", "prediction", "lower", "upper"}
    for row, (_, truth) in zip(rows, points, strict=True):
        assert row["lower"] < row["prediction"] < row["upper"]
        assert row["prediction"] == pytest.approx(truth, abs=4)
        assert 2 < row["upper"] - row["lower"] < 10


def test_functions_of_several_features_are_not_drawn(tmp_path: Path) -> None:
    run = train(
        ["data=synthetic_regression", "data.train_size=20", "model=rbf", "trainer.max_steps=1", f"run_dir={tmp_path}"]
    )
    opened = load_run(str(run.directory))
    with pytest.raises(ConfigError, match="functions are drawn for one feature and one target"):
        next(iter(opened.sample(opened.task.sample_defaults)))
