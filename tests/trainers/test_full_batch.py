"""Trainers whose steps look at all training data: what is refused and when, and losses that mislead."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dlcli import checkpoint, train
from dlcli.config import compose
from dlcli.errors import ConfigError
from dlcli.run import Run
from dlcli.tasks.minimization import Minimization
from dlcli.trainers.hot_and_cold import HotAndColdTrainer
from dlcli.trainers.loop import better
from dlcli.trainers.newton import NewtonTrainer

COMMON: dict[str, Any] = {"max_steps": 1, "monitor": "val/loss", "device": "cpu", "precision": "fp64"}


def newton(**changes: Any) -> NewtonTrainer:
    return NewtonTrainer(**{**COMMON, "lr": 1.0, "hessian": "full", "line_search": False, **changes})


@pytest.mark.parametrize("trainer", ["newton", "hot_and_cold"])
def test_a_large_model_is_refused_before_a_folder_is_made(tmp_path: Path, trainer: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer '{trainer}': 19,210 parameters; expected at most 2,000"):
        train(["data=digits", "model=mlp", f"trainer={trainer}", f"run_dir={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()


def test_a_task_that_trains_several_networks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Minimization, "trains", ("generator", "discriminator"))
    with pytest.raises(ConfigError, match="this task trains generator and discriminator apart"):
        Run(compose(["data=objective", "trainer=newton"]))


def test_a_dry_run_with_frozen_parameters() -> None:
    options = ["data=synthetic_regression", "model=linear", "trainer=newton", "freeze=['*.weight']"]
    whole = Run(compose(options[:-1])).try_batch()
    part = Run(compose(options)).try_batch()
    assert part["loss"] == pytest.approx(whole["loss"])
    assert part["gradient_norm"] < whole["gradient_norm"]


def test_the_loss_is_one_function_of_the_parameters() -> None:
    """Dropout is off, so that two looks see the same; the model is in training mode again afterwards."""
    model = ["model=mlp", "model.hidden_sizes=[8]", "model.dropout=0.5"]
    run = Run(compose(["data=synthetic_regression", *model, "trainer=hot_and_cold"]))
    run.model.train()
    assert run.try_batch() == run.try_batch()
    assert all(module.training for module in run.model.modules())


@pytest.mark.parametrize(
    ("value", "best", "direction", "expected"),
    [
        (1.0, None, "min", True),
        (math.nan, None, "min", False),  # else it would stay the best for ever
        (math.inf, None, "max", False),
        (1.0, 2.0, "min", True),
        (1.0, 2.0, "max", False),
        (2.0, 2.0, "min", False),
        (math.nan, 2.0, "max", False),
    ],
)
def test_better(value: float, best: float | None, direction: str, expected: bool) -> None:
    assert better(value, None if best is None else {"value": best}, direction) is expected


@pytest.mark.parametrize(
    ("up", "down", "expected"),
    [
        (0.5, 0.7, 1.5),
        (0.7, 0.5, 0.5),
        (0.5, 0.5, 1.0),
        (0.5, math.nan, 1.5),
        (math.nan, 0.5, 0.5),
        (math.nan, math.nan, 1.0),
    ],
)
def test_a_weight_never_goes_where_the_loss_is_not_finite(
    monkeypatch: pytest.MonkeyPatch, up: float, down: float, expected: float
) -> None:
    trainer = HotAndColdTrainer(**COMMON, step_size=0.5, eval_every=None)
    losses = iter([1.0, up, down])
    monkeypatch.setattr(trainer, "_loss", lambda _: next(losses))
    weight = nn.Parameter(torch.ones(1))
    trainer._step(None, [weight])  # type: ignore[arg-type]
    assert weight.item() == expected


def test_a_parameter_without_effect_has_zeros_in_the_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.ones(1))
    trainer = newton()
    monkeypatch.setattr(trainer, "_loss", lambda _: used.square().sum())
    value, gradient, hessian = trainer._derivatives(None, [used, unused])  # type: ignore[arg-type]
    assert (value, gradient.tolist()) == (9.0, [6.0, 0.0])
    assert hessian is not None
    assert hessian.tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_a_line_search_goes_down_where_the_function_bends_down(tmp_path: Path) -> None:
    """At its start x cos(0.15 πx) has a negative second derivative, and Newton's direction leads uphill."""
    options = ["data=objective", "data.function=cosine", "trainer=newton", f"run_dir={tmp_path}"]
    run = train([*options, "model.start=[9.0]", "trainer.max_steps=6", "trainer.line_search=true"])
    assert run.directory is not None
    rows = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert all(after < before or after == pytest.approx(before, abs=1e-9) for before, after in pairwise(losses))
    assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize("trainer", ["newton", "hot_and_cold"])
def test_the_way_has_one_position_for_each_step(tmp_path: Path, trainer: str) -> None:
    """And none for what a line search or hot and cold only tried."""
    options = ["data=objective", "data.function=ravine", f"trainer={trainer}", f"run_dir={tmp_path}"]
    if trainer == "newton":
        options += ["trainer.lr=0.6", "trainer.hessian=none", "trainer.line_search=true"]
    run = train([*options, "trainer.max_steps=4", "model.start=[-5.0, -2.0]"])
    model: Any = run.model
    assert run.directory is not None
    assert model.visited == 4
    assert model.trail[0].tolist() == [-5.0, -2.0]
    assert len(model.trail[:4].unique(dim=0)) == 4
    assert checkpoint.load(run.directory / "last.pt")["model"]["visited"] == 4


def test_a_mini_batch_step_of_several_batches_is_one_position(tmp_path: Path) -> None:
    run = train(["data=objective", "trainer.accumulate=2", "trainer.max_steps=3", f"run_dir={tmp_path}"])
    model: Any = run.model
    assert model.visited == 3
