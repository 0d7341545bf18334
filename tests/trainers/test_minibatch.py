"""The training loop: budgets, cadence, determinism, accumulation, averaging, and losses that are not finite."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import checkpoint, train
from dlcli.cli.train import resume_run, start_run
from dlcli.config import compose
from dlcli.errors import ConfigError, NonFiniteError
from dlcli.metrics.accuracy import correct
from dlcli.run import Run
from dlcli.tasks.base import PerExample
from dlcli.trainers import minibatch
from dlcli.trainers.minibatch import MinibatchTrainer, numbers

SMALL = ["data=digits", "model=mlp", "model.hidden_sizes=[16]", "data.batch_size=64", "trainer.log_every=5"]
WITHOUT_MODEL = [text for text in SMALL if not text.startswith("model")]

POISONED = '''
"""A linear classifier whose output is not finite at one step."""
import torch
from torch import nn

from dlcli.hyperparameters import Count
from dlcli.registry import MODELS


@MODELS.register("poisoned")
class Poisoned(nn.Module):
    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, bad_step: Count):
        super().__init__()
        self.linear = nn.Linear(torch.Size(input_shape).numel(), num_outputs)
        self.bad_step = bad_step
        self.calls = 0

    def forward(self, inputs):
        outputs = self.linear(inputs.flatten(1))
        if self.training:
            self.calls += 1
            if self.calls == self.bad_step:
                outputs = outputs * float("nan")
        return outputs
'''


BAD_GRADIENT = """

class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("nan")


bad_gradient = BadGradient.apply
"""


def fit(folder: Path, *overrides: str, plugins: tuple[str, ...] = ()) -> Run:
    return train([*SMALL, f"run_dir={folder}", *overrides], plugins=plugins)


def digest(run: Run, name: str = "last") -> str:
    assert run.directory is not None
    weights = checkpoint.load(run.directory / f"{name}.pt")["model"]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights.values())).hexdigest()


def logged(run: Run, key: str) -> dict[int, float]:
    assert run.directory is not None
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line[key] for line in map(json.loads, lines) if key in line}


@pytest.fixture
def poisoned(tmp_path: Path) -> str:
    folder = tmp_path / "plugin"
    (folder / "model").mkdir(parents=True)
    (folder / "poisoned.py").write_text(POISONED)
    (folder / "model" / "poisoned.yaml").write_text("# A model that fails once\nname: poisoned\nbad_step: 12\n")
    return str(folder)


def test_a_run_learns_and_leaves_its_record(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.max_epochs=8", "optimizer.lr=0.01")
    assert run.summary["status"] == "finished"
    assert run.summary["metrics"]["test"]["accuracy"] > 0.85
    assert run.directory is not None
    names = {file.name for file in run.directory.iterdir()}
    assert {"config.yaml", "spec.json", "summary.json", "metrics.jsonl", "last.pt", "previous.pt", "best.pt"} <= names
    saved = checkpoint.load(run.directory / "last.pt")
    assert {"model", "optimizer", "scheduler", "loop", "rng", "format_version"} <= set(saved)
    losses = logged(run, "train/loss")
    assert list(losses) == list(range(5, run.summary["steps"] + 1, 5))
    assert losses[max(losses)] < losses[5] / 3


def test_same_seed_same_bits_and_another_seed_other_bits(tmp_path: Path) -> None:
    first, second, other = (fit(tmp_path, "trainer.max_steps=7", f"seed={seed}") for seed in (1, 1, 2))
    assert digest(first) == digest(second)
    assert digest(first) != digest(other)


def test_evaluating_and_saving_more_often_never_changes_the_weights(tmp_path: Path) -> None:
    drop = "model.dropout=0.3"
    rare = fit(tmp_path, "trainer.max_steps=12", drop, "trainer.eval_every=12", "trainer.checkpoint_every=null")
    often = fit(tmp_path, "trainer.max_steps=12", drop, "trainer.eval_every=1", "trainer.checkpoint_every=2")
    assert digest(rare) == digest(often)


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_steps=7", "trainer.max_epochs=null"], 7),
        (["trainer.max_epochs=2"], 40),
        (["trainer.max_epochs=0.5"], 10),
        (["trainer.max_epochs=2", "trainer.limit_train_batches=3"], 6),
        (["trainer.max_epochs=2", "trainer.accumulate=3"], 14),
    ],
)
def test_budgets(tmp_path: Path, overrides: list[str], steps: int) -> None:
    run = fit(tmp_path, *overrides)
    assert run.summary["steps"] == steps


def test_wall_clock_budget_ends_a_run_without_other_limits(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.max_epochs=null", "trainer.max_minutes=0.01")
    assert run.summary["reason"] == "the time is over: trainer.max_minutes=0.01"
    assert run.summary["steps"] > 0
    assert run.summary["metrics"]["val"]


def test_early_stopping_waits_for_patience(tmp_path: Path) -> None:
    run = fit(tmp_path, "optimizer.lr=1e-12", "trainer.eval_every=2", "trainer.patience=2", "trainer.max_epochs=10")
    assert run.summary["reason"] == "val/loss has not improved for 2 evaluations"
    best = run.summary["best"]["step"]
    assert run.summary["steps"] == best + 4


def test_the_best_checkpoint_is_the_best_evaluation(tmp_path: Path) -> None:
    run = fit(tmp_path, "optimizer.lr=0.5", "optimizer=sgd", "trainer.max_epochs=3", "trainer.eval_every=7")
    losses = logged(run, "val/loss")
    best = min(losses, key=losses.__getitem__)
    assert run.summary["best"] == {"metric": "val/loss", "value": losses[best], "step": best}
    assert run.directory is not None
    assert checkpoint.load(run.directory / "best.pt")["loop"]["step"] == best


def test_monitoring_a_metric_that_is_better_when_larger(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.monitor=val/accuracy", "trainer.max_epochs=3")
    accuracies = logged(run, "val/accuracy")
    assert run.summary["best"]["value"] == max(accuracies.values())


def test_keep_top_keeps_exactly_the_best_checkpoints(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.keep_top=2", "trainer.eval_every=5", "trainer.max_steps=30")
    losses = logged(run, "val/loss")
    expected = {f"step_{step:08d}.pt" for step in sorted(losses, key=losses.__getitem__)[:2]}
    assert run.directory is not None
    assert {file.name for file in run.directory.glob("step_*.pt")} == expected


def test_accumulated_gradients_equal_those_of_the_large_batch(tmp_path: Path) -> None:
    common = ["trainer.precision=fp64", "trainer.max_steps=4", "optimizer=sgd", "trainer.limit_train_batches=16"]
    large = fit(tmp_path, *common, "data.batch_size=64")
    parts = fit(tmp_path, *common, "data.batch_size=16", "trainer.accumulate=4")
    assert large.directory is not None
    assert parts.directory is not None
    a, b = (checkpoint.load(run.directory / "last.pt")["model"] for run in (large, parts) if run.directory)
    assert all(torch.allclose(a[name], b[name], rtol=1e-12, atol=1e-14) for name in a)


def test_averaged_weights_are_those_that_are_evaluated(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.ema_decay=0.9", "trainer.max_steps=20", "trainer.eval_every=20")
    assert run.directory is not None
    state = checkpoint.load(run.directory / "best.pt")
    assert any(not torch.equal(state["ema"][name], state["model"][name]) for name in state["ema"])
    weights = run.model.state_dict()
    assert all(torch.equal(state["ema"][name], weights[name]) for name in weights)


def test_overfitting_one_batch_reaches_a_tiny_loss(tmp_path: Path) -> None:
    run = fit(
        tmp_path, "trainer.overfit_batches=1", "trainer.max_epochs=null", "trainer.max_steps=200", "optimizer.lr=0.01"
    )
    assert run.summary["metrics"]["train"]["loss"] < 0.05


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    free = fit(tmp_path, "trainer.max_steps=5", "optimizer=sgd", "optimizer.lr=1.0", "trainer.eval_every=null")
    clipped = fit(
        tmp_path,
        "trainer.max_steps=5",
        "optimizer=sgd",
        "optimizer.lr=1.0",
        "trainer.clip_norm=1e-6",
        "trainer.eval_every=null",
    )
    start = initial_weights(free)
    assert free.directory is not None
    assert clipped.directory is not None
    moved = [
        max(
            float((checkpoint.load(run.directory / "last.pt")["model"][name] - start[name]).abs().max())
            for name in start
        )
        for run in (free, clipped)
        if run.directory
    ]
    assert moved[1] < 1e-5 < moved[0]


def initial_weights(run: Run) -> dict[str, torch.Tensor]:
    from dlcli.hydra_composition import Composed

    return {name: tensor.clone() for name, tensor in Run(Composed(run.config, run.choices)).model.state_dict().items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp64"])
def test_other_precisions_learn(tmp_path: Path, precision: str) -> None:
    run = fit(tmp_path, f"trainer.precision={precision}", "trainer.max_epochs=3", "optimizer.lr=0.01")
    assert run.summary["metrics"]["test"]["accuracy"] > 0.7
    assert run.config["trainer"]["precision"] == precision
    kinds = {parameter.dtype for parameter in run.model.parameters()}
    assert kinds == {torch.float64 if precision == "fp64" else torch.float32}


def test_auto_precision_is_written_resolved(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.max_steps=1", "trainer.device=cpu")
    assert run.directory is not None
    assert "precision: fp32" in (run.directory / "config.yaml").read_text()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path: Path, poisoned: str) -> None:
    overrides = [*WITHOUT_MODEL, f"run_dir={tmp_path}", "model=poisoned", "trainer.checkpoint_every=5"]
    message = r"the loss is nan at step 12 \(epoch 1\), learning rate .*batch size 64"
    with pytest.raises(NonFiniteError, match=message) as caught:
        train(overrides, plugins=[poisoned])
    assert caught.value.exit_code == 4
    (directory,) = (path for path in tmp_path.iterdir() if path.name.startswith("poisoned"))
    assert checkpoint.load(directory / "last.pt")["loop"]["step"] == 10
    assert json.loads((directory / "summary.json").read_text())["status"] == "failed"


def test_a_loss_that_is_never_finite_stops_half_precision_too(tmp_path: Path, poisoned: str) -> None:
    overrides = [*WITHOUT_MODEL, f"run_dir={tmp_path}", "model=poisoned", "trainer.precision=fp16"]
    with pytest.raises(NonFiniteError, match="the loss is nan at step 12"):
        train(overrides, plugins=[poisoned])


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path, poisoned: str) -> None:
    """The loss stays finite while a gradient is NaN: only the weights tell."""
    folder = Path(poisoned)
    code = (folder / "poisoned.py").read_text().replace('outputs * float("nan")', "bad_gradient(outputs)")
    (folder / "poisoned.py").write_text(code + BAD_GRADIENT)
    overrides = [*WITHOUT_MODEL, f"run_dir={tmp_path}", "model=poisoned", "trainer.checkpoint_every=5"]
    with pytest.raises(NonFiniteError, match=r"a weight is nan at step \d+ \(epoch 1\)"):
        train([*overrides, "trainer.log_every=4"], plugins=[poisoned])
    (directory,) = (path for path in tmp_path.iterdir() if path.name.startswith("poisoned"))
    weights = checkpoint.load(directory / "last.pt")["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_run_that_rolled_back_resumes_exactly(tmp_path: Path, poisoned: str) -> None:
    from dlcli.errors import Interrupted

    overrides = [
        *(*WITHOUT_MODEL, "model=poisoned", "trainer.on_nonfinite=rollback", "trainer.checkpoint_every=5"),
        *("trainer.max_steps=30", "scheduler=cosine", "trainer.ema_decay=0.9"),
    ]
    whole = train([*overrides, f"run_dir={tmp_path / 'whole'}"], plugins=[poisoned])
    cut = start_run(
        [*overrides, f"run_dir={tmp_path / 'cut'}"], command="test", config_dirs=[], plugins=[poisoned], quiet=True
    )
    asked = cut.interrupted

    def interrupted() -> bool:
        if cut.trainer.loop.step >= 22:
            cut.interruption.received = 15
        return asked()

    cut.interrupted = interrupted
    with pytest.raises(Interrupted):
        cut.train()
    resumed = resume_run(cut.directory, [], config_dirs=[], plugins=[poisoned], quiet=True)
    resumed.train()
    assert digest(resumed) == digest(whole)
    assert logged(resumed, "train/loss") == logged(whole, "train/loss")
    assert len(logged(whole, "train/loss")) == 6, "no step is logged twice"


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_other_policies_leave_the_step_out_and_go_on(tmp_path: Path, poisoned: str, policy: str) -> None:
    overrides = [*WITHOUT_MODEL, f"run_dir={tmp_path}", "model=poisoned", f"trainer.on_nonfinite={policy}"]
    run = train([*overrides, "trainer.max_epochs=2", "trainer.checkpoint_every=5"], plugins=[poisoned])
    assert run.summary["status"] == "finished"
    assert math.isfinite(run.summary["metrics"]["val"]["loss"])
    assert run.trainer.loop.skipped == 1


def test_clipping_by_value_does_not_hide_an_infinite_gradient(tmp_path: Path, poisoned: str) -> None:
    overrides = [*WITHOUT_MODEL, f"run_dir={tmp_path}", "model=poisoned", "trainer.on_nonfinite=skip"]
    run = train([*overrides, "trainer.clip_value=1.0", "trainer.max_epochs=1"], plugins=[poisoned])
    assert run.trainer.loop.skipped == 1


def test_clip_value_bounds_each_element(tmp_path: Path) -> None:
    overrides = ["trainer.max_steps=1", "optimizer=sgd", "optimizer.lr=1.0", "trainer.clip_value=1e-3"]
    run = fit(tmp_path, *overrides, "trainer.eval_every=null")
    start = initial_weights(run)
    assert run.directory is not None
    weights = checkpoint.load(run.directory / "last.pt")["model"]
    assert max(float((weights[name] - start[name]).abs().max()) for name in start) == pytest.approx(1e-3, rel=1e-3)


def test_initial_weights_from_a_run_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = fit(tmp_path, "trainer.max_steps=5")
    assert first.directory is not None
    train([*SMALL, f"run_dir={tmp_path}", "trainer.max_steps=1", f"init_from={first.directory}"], quiet=False)
    assert "4 of 4 tensors loaded" in capsys.readouterr().out
    other = [text for text in SMALL if not text.startswith("model.hidden")]
    train(
        [
            *other,
            "model.hidden_sizes=[16,8]",
            f"run_dir={tmp_path}",
            "trainer.max_steps=1",
            f"init_from={first.directory}",
        ],
        quiet=False,
    )
    assert (
        "3 of 6 tensors loaded; of another size (fresh): output.weight (10×16 there, 10×8 here)"
        in capsys.readouterr().out
    )
    with pytest.raises(ConfigError, match="no tensor of run .* fits the model"):
        train(
            [
                "data=synthetic_regression",
                "model.hidden_sizes=[4]",
                "model=mlp",
                f"run_dir={tmp_path}",
                f"init_from={first.directory}",
            ]
        )


def test_eight_runs_in_the_same_second_get_eight_folders(tmp_path: Path) -> None:
    from dlcli.run_records import new_directory

    names = {new_directory(tmp_path, "lstm-shakespeare-20260101-000000").name for _ in range(8)}
    assert len(names) == 8


def test_an_unwritable_run_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="run_dir=.*cannot be written to; choose another folder"):
        fit(blocked / "runs")


def test_summary_has_what_scripts_rely_on(tmp_path: Path) -> None:
    run = fit(tmp_path, "trainer.max_steps=2")
    assert run.directory is not None
    summary: dict[str, Any] = json.loads((run.directory / "summary.json").read_text())
    keys = {
        "status",
        "steps",
        "epochs",
        "seconds",
        "parameters",
        "best",
        "metrics",
        "data_source",
        "command",
        "versions",
    }
    assert keys <= set(summary)
    assert set(summary["metrics"]) == {"train", "val", "test"}
    assert {"dlcli", "torch"} <= set(summary["versions"])
    assert "git_commit" in summary


def test_without_shuffling_the_batches_come_as_stored(tmp_path: Path) -> None:
    """Every epoch has the order of the data, so a linear model learns what a loop over the stored rows gives."""
    options = ["data=digits", "model=linear", "optimizer=sgd", "data.batch_size=100", "trainer.max_epochs=2"]
    trained = train([*options, "trainer.shuffle=false", "trainer.eval_every=null", f"run_dir={tmp_path}"])
    begun = Run(compose([*options, f"run_dir={tmp_path}"]), quiet=True)
    layer = begun.model.output
    for _ in range(2):
        for images, labels in begun.data.batches("train", order="sequential"):
            layer.zero_grad()
            torch.nn.functional.cross_entropy(begun.model(images), labels).backward()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(trained.model.output.weight, layer.weight)


def test_values_of_examples_do_not_pile_up_on_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is due before the end: they are read whenever they are too many, and the result is the same."""
    options = [*WITHOUT_MODEL, "model=mlp", "model.hidden_sizes=[16]", "trainer.log_every=null"]
    options += ["trainer.eval_every=null", "trainer.checkpoint_every=null", "trainer.max_epochs=1"]
    waited: list[int] = []
    read = MinibatchTrainer._read

    def counted(self: MinibatchTrainer) -> bool:
        waited.append(len(self.tensors))
        return read(self)

    monkeypatch.setattr(MinibatchTrainer, "_read", counted)
    whole = train([*options, f"run_dir={tmp_path}"])
    steps = waited.pop(0)
    assert steps == whole.summary["steps"] > 10
    waited.clear()
    monkeypatch.setattr(minibatch, "MAX_WAITING", 3 * 64 * 11)  # of a batch of 64: ten scores and a label each
    often = train([*options, f"run_dir={tmp_path}"])
    assert waited[:3] == [3, 3, 3]
    assert sum(waited) == steps
    for a, b in zip(whole.model.parameters(), often.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_values_of_examples_are_read_as_the_mean_of_each_step() -> None:
    """Batches of unequal size, and a step whose parts were added up already, beside the plain means."""
    outputs, labels = torch.rand(10, 3), torch.randint(0, 3, (10,))
    parts = list(zip(outputs.split(4), labels.split(4), strict=True))  # 4, 4 and 2 examples
    expected = [float((o.argmax(1) == t).float().mean()) for o, t in parts]
    waiting = [PerExample(correct, part) for part in parts]
    assert numbers(waiting, torch.float32) == pytest.approx(expected)
    assert numbers([waiting[0], waiting[1].mean(), waiting[2]], torch.float64) == pytest.approx(expected)
    assert numbers([torch.tensor(1.5), torch.tensor(2.5)], torch.float32) == [1.5, 2.5]


def test_the_budget_that_ends_a_run_early_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ("trainer.max_epochs=1", "trainer.limit_train_batches=2")
    run = train([*SMALL, *budget, f"run_dir={tmp_path}", "trainer.max_steps=50"], quiet=False)
    assert "max_epochs=1 ends the run at step 2, before trainer.max_steps=50" in capsys.readouterr().out
    resume_run(run.directory, [], config_dirs=[], plugins=[], quiet=False).train()
    assert "nothing is left to do: the run is at the end of its budget of 2 steps" in capsys.readouterr().out
