"""The trainer of fitted models: runs, checkpoints and refusals like those of every other."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import checkpoint, load_run, train
from dlcli.cli.train import resume_run
from dlcli.config import compose
from dlcli.errors import ConfigError, Interrupted

FIT = ["data=digits", "trainer=fit"]


def fitted(folder: Path, model: str, *overrides: str) -> Any:
    return train([f"model={model}", *FIT, f"run_dir={folder}", *overrides])


@pytest.mark.parametrize("model", ["naive_bayes", "k_nearest_neighbors"])
def test_a_fitted_run_is_a_run(tmp_path: Path, model: str) -> None:
    run = fitted(tmp_path, model)
    assert (run.summary["status"], run.summary["steps"]) == ("finished", 1)
    assert run.summary["metrics"]["train"] == {"rows": 1257.0}
    assert run.summary["metrics"]["test"]["accuracy"] > 0.85
    assert run.summary["best"]["metric"] == "val/loss"
    assert {"optimizer", "scheduler"}.isdisjoint(run.config)
    assert {"model", "loop", "rng"} <= set(checkpoint.load(run.directory / "last.pt"))
    opened = load_run(str(run.directory))
    assert opened.evaluate("val") == run.summary["metrics"]["val"]
    logged = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [1, 1]


def test_a_signal_stops_the_reading_and_a_resumed_run_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(tmp_path / "whole", "k_means")
    from dlcli.trainers import fit

    read = []
    keep = fit.Watched.__iter__

    def interrupting(self: Any) -> Any:
        for batch in keep(self):
            read.append(1)
            if len(read) == 3:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(fit.Watched, "__iter__", interrupting)
    with pytest.raises(Interrupted, match="stopped at step 0, saved"):
        fitted(tmp_path / "cut", "k_means")
    assert len(read) == 3
    (directory,) = (tmp_path / "cut").iterdir()
    monkeypatch.undo()
    run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=True)
    run.train()
    assert all(torch.equal(tensor, run.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())
    assert run.summary["metrics"] == whole.summary["metrics"]
    resume_run(directory, [], config_dirs=[], plugins=[], quiet=True).train()  # nothing is left to do
    assert json.loads((directory / "summary.json").read_text())["steps"] == 1


def test_a_linear_model_learns_on_from_the_closed_form(tmp_path: Path) -> None:
    first = fitted(tmp_path, "linear_closed_form")
    second = train(
        [
            *("model=linear", "data=digits", f"run_dir={tmp_path}", f"init_from={first.directory}"),
            *("trainer.max_steps=1", "trainer.max_epochs=null", "optimizer=sgd", "optimizer.lr=1e-12"),
        ]
    )
    assert second.summary["metrics"]["test"]["accuracy"] == first.summary["metrics"]["test"]["accuracy"]


def test_a_fitted_model_goes_with_its_trainer_only() -> None:
    with pytest.raises(
        ConfigError, match="^model 'naive_bayes' does not go with trainer 'minibatch': add trainer=fit$"
    ):
        compose(["model=naive_bayes", "data=digits"])
    with pytest.raises(ConfigError, match=r"trainer 'fit' needs a model with fit\(\), which model 'mlp' does not have"):
        compose(["model=mlp", *FIT])


def test_what_the_trainer_does_not_use_is_no_part_of_the_run() -> None:
    composed = compose(["model=linear_closed_form", "data=synthetic_regression", "trainer=fit"])
    assert {"optimizer", "scheduler"}.isdisjoint({*composed.config, *composed.choices})
    with pytest.raises(ConfigError) as caught:
        compose(["model=naive_bayes", *FIT, "optimizer=sgd", "scheduler.factor=2"])
    assert "optimizer has no effect: trainer 'fit' uses no optimizer; leave it out" in caught.value.problems
    with pytest.raises(ConfigError, match="unknown option 'trainer.max_epochs' of trainer 'fit'"):
        compose(["model=naive_bayes", *FIT, "trainer.max_epochs=3"])


def test_a_dry_run_changes_nothing() -> None:
    from dlcli.cli.train import prepare

    run = prepare(["model=naive_bayes", *FIT], config_dirs=[], plugins=[], quiet=True)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert run.try_batch()["accuracy"] > 0.8
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
