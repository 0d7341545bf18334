"""The Python interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dlcli
from dlcli.errors import ConfigError, DataError


def test_build_model_takes_defaults_from_the_yaml_and_sizes_from_the_caller() -> None:
    lenet = dlcli.build_model("lenet", input_shape=(1, 28, 28), num_classes=10)
    assert isinstance(lenet, torch.nn.Module)
    assert lenet(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    mlp = dlcli.build_model("mlp", input_shape=(3,), num_outputs=2, hidden_sizes=[5, 4])
    assert [tuple(p.shape) for p in mlp.parameters()] == [(5, 3), (5,), (4, 5), (4,), (2, 4), (2,)]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lenett", {}, "no model 'lenett'; did you mean lenet"),
        ("mlp", {"input_shape": (3,), "num_outputs": 1, "hiden_sizes": [3]}, "did you mean model.hidden_sizes"),
        ("mlp", {"input_shape": (3,), "num_outputs": 1, "hidden_sizes": [0]}, r"model.hidden_sizes=\[0\]: expected"),
        ("lstm", {"num_classes": 3}, "model 'lstm' needs vocab_size"),
    ],
)
def test_build_model_refuses_what_the_command_line_refuses(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dlcli.build_model(name, **values)


def test_train_returns_the_run_and_load_run_opens_it(tmp_path: Path) -> None:
    run = dlcli.train(["data=digits", "trainer.max_epochs=2", f"run_dir={tmp_path}"])
    assert run.directory is not None
    saved = dlcli.load_run(run.directory)
    assert not saved.model.training
    assert saved.evaluate("test") == pytest.approx(run.summary["metrics"]["test"])
    images = torch.zeros(2, 1, 8, 8)
    assert torch.equal(saved.model(images), run.model.eval()(images))


def test_load_run_takes_last_or_a_path(tmp_path: Path) -> None:
    run = dlcli.train(["data=digits", "trainer.max_epochs=3", "optimizer.lr=0.01", f"run_dir={tmp_path}"])
    assert run.directory is not None
    assert dlcli.load_run(run.directory, checkpoint="last").step == run.summary["steps"]
    assert dlcli.load_run(run.directory, checkpoint=str(run.directory / "best.pt")).step == run.summary["best"]["step"]


def test_load_run_refuses_the_weights_of_another_model(tmp_path: Path) -> None:
    one = dlcli.train(["data=digits", "trainer.max_steps=1", f"run_dir={tmp_path / 'a'}"])
    two = dlcli.train(["data=digits", "trainer.max_steps=1", "model.hidden_sizes=[3]", f"run_dir={tmp_path / 'b'}"])
    assert one.directory is not None
    assert two.directory is not None
    with pytest.raises(DataError, match="holds the weights of another model than 'mlp'"):
        dlcli.load_run(one.directory, checkpoint=str(two.directory / "best.pt"))


def test_load_run_executes_nothing_that_a_config_names(tmp_path: Path) -> None:
    run = dlcli.train(["data=digits", "trainer.max_steps=1", f"run_dir={tmp_path}"])
    assert run.directory is not None
    config = run.directory / "config.yaml"
    canary = tmp_path / "canary"
    config.write_text(
        config.read_text().replace("model:\n", f"model:\n  _target_: os.system\n  command: touch {canary}\n")
    )
    with pytest.raises(ConfigError, match="model._target_ is not allowed"):
        dlcli.load_run(run.directory)
    assert not canary.exists()
