"""Hot and cold: the book's loop, several weights, resuming, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import checkpoint, train
from dlcli.cli.train import resume_run
from dlcli.errors import ConfigError, Interrupted

ONE = ["data=rows", "trainer=hot_and_cold", "model.bias=false", "model.weights=[[0.5]]"]


def learn(folder: Path, *overrides: str) -> Any:
    return train([*ONE, f"run_dir={folder}", *overrides])


def losses(directory: Path) -> list[float]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


def test_the_books_loop(tmp_path: Path) -> None:
    run = learn(tmp_path, "trainer.step_size=0.1", "trainer.max_steps=15", "trainer.eval_every=4")
    weight, expected = 0.5, []
    for _ in range(15):
        expected.append((0.5 * weight - 0.8) ** 2)
        up, down = (0.5 * (weight + 0.1) - 0.8) ** 2, (0.5 * (weight - 0.1) - 0.8) ** 2
        weight += 0.1 if up < down else -0.1
    assert losses(run.directory) == pytest.approx(expected, abs=1e-7)  # the data are float32
    assert {"optimizer", "scheduler"}.isdisjoint(run.config)
    rows = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val/loss" in row] == [4, 8, 12, 15]


def test_every_weight_goes_to_its_side_and_one_without_effect_stays(tmp_path: Path) -> None:
    table = ["data.features=[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]", "data.targets=[[1.0], [-2.0]]"]
    options = ["model.weights=[[0.0, 0.0, 5.0]]", "trainer.step_size=0.25", "trainer.max_steps=4"]
    run = learn(tmp_path, *table, *options)
    state = checkpoint.load(run.directory / "last.pt")["model"]
    assert state["output.weight"].tolist() == [[1.0, -1.0, 5.0]]


def test_a_signal_stops_it_and_a_resumed_run_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["trainer.step_size=0.01", "trainer.max_steps=12", "trainer.eval_every=5"]
    whole = learn(tmp_path / "whole", *options)
    from dlcli.trainers.hot_and_cold import HotAndColdTrainer

    keep, steps = HotAndColdTrainer._step, []

    def interrupting(self: Any, *arguments: Any) -> dict[str, float]:
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGTERM)
        return keep(self, *arguments)

    monkeypatch.setattr(HotAndColdTrainer, "_step", interrupting)
    with pytest.raises(Interrupted, match="stopped at step 7, saved"):
        learn(tmp_path / "cut", *options)
    (directory,) = (tmp_path / "cut").iterdir()
    resume_run(directory, [], config_dirs=[], plugins=[], quiet=True).train()
    assert losses(directory) == losses(whole.directory)
    states = [checkpoint.load(folder / "last.pt")["model"] for folder in (directory, whole.directory)]
    assert torch.equal(*[state["output.weight"] for state in states])


def test_a_large_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer 'hot_and_cold': 7,850 parameters; expected at most 2,000"):
        train(["data=digits", "data.resize=28", "model=linear", "trainer=hot_and_cold", f"run_dir={tmp_path}"])
