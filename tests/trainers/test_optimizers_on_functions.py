"""Optimizers on functions of one or two numbers: the books' digits, Newton's method and its line search."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import catalogue, experiments, train
from dlcli.config import compose
from dlcli.errors import ConfigError
from dlcli.functional.objectives import OBJECTIVES
from dlcli.functional.plots import trajectory

ENTRIES = catalogue.entries("experiment")
TOYS = [
    name
    for name, entry in ENTRIES.items()
    if name.startswith("d2l/") and "override /data: objective" in entry.file.read_text()
]


def last(directory: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        values.update(json.loads(line))
    return values


@pytest.mark.parametrize("name", TOYS)
def test_the_book_s_digits(tmp_path: Path, name: str) -> None:
    experiment = experiments.read(ENTRIES[name])
    run = train([f"experiment={name}", f"run_dir={tmp_path}", "trainer.device=cpu"])
    reached = last(run.directory)
    assert experiment.reported
    for metric, value in experiment.reported.items():
        tolerance = max(experiment.tolerance(metric), 1e-6 * abs(value))
        assert reached[metric.removesuffix("@last")] == pytest.approx(value, abs=tolerance)


def test_all_toys_are_found() -> None:
    assert len(TOYS) >= 15


def newton(folder: Path, *overrides: str) -> Any:
    return train(["data=objective", "trainer=newton", f"run_dir={folder}", *overrides])


def test_newton_needs_one_step_on_a_quadratic_function_and_one_with_preconditioning_too(tmp_path: Path) -> None:
    for hessian in ("full", "diagonal"):
        run = newton(tmp_path, "data.function=ravine", "trainer.max_steps=1", f"trainer.hessian={hessian}")
        assert run.model.point.abs().max() < 1e-12


def test_a_line_search_turns_a_diverging_rate_into_descent(tmp_path: Path) -> None:
    options = ["data.function=ravine", "trainer.hessian=none", "trainer.lr=0.6", "trainer.max_steps=20"]
    wild = newton(tmp_path, *options)
    searched = newton(tmp_path, *options, "trainer.line_search=true")
    assert last(wild.directory)["val/loss"] > 1000
    losses = [
        json.loads(line)["val/loss"]
        for line in (searched.directory / "metrics.jsonl").read_text().splitlines()
        if "val/loss" in line
    ]
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 0.2


def test_newton_solves_least_squares_in_one_step(tmp_path: Path) -> None:
    options = ["data=synthetic_regression", "model=linear", f"run_dir={tmp_path}"]
    stepped = train([*options, "trainer=newton", "trainer.max_steps=1"])
    solved = train(["data=synthetic_regression", "model=linear_closed_form", "trainer=fit", f"run_dir={tmp_path}"])
    torch.testing.assert_close(stepped.model.output.weight.float(), solved.model.output.weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(stepped.model.output.bias.float(), solved.model.output.bias, rtol=0, atol=1e-5)


def test_newton_refuses_a_large_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer 'newton': 19,210 parameters; expected at most 2,000"):
        train(["data=digits", "model=mlp", "trainer=newton", f"run_dir={tmp_path}"])


def test_noise_of_the_gradient_is_a_pure_function_of_seed_and_step(tmp_path: Path) -> None:
    options = ["data=objective", "data.noise=1", "optimizer.lr=0.1", f"run_dir={tmp_path}"]
    first, again, other = train(options), train(options), train([*options, "seed=1"])
    assert torch.equal(first.model.point, again.model.point)
    assert not torch.equal(first.model.point, other.model.point)


def test_the_way_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    way = torch.tensor([[-5.0, -2.0], [1.0, 1.0]], dtype=torch.float64)
    picture = trajectory(OBJECTIVES["bowl"], way)["trajectory"]
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 400, 500)
    assert not torch.equal(picture, trajectory(OBJECTIVES["bowl"], way[:1])["trajectory"])
    assert "trajectory" in trajectory(OBJECTIVES["cosine"], way[:, :1])


def test_a_function_goes_with_its_task_and_model() -> None:
    with pytest.raises(ConfigError, match="task 'minimization' does not go with model 'linear': add model=point"):
        compose(["data=objective", "model=linear"])
    with pytest.raises(ConfigError, match="the function has 2 numbers; give as many"):
        train(["data=objective", "model.start=[1.0]"])
