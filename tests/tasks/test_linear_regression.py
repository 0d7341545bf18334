"""Linear regression: the metrics of its parameters, half the squared error, and the data that show overfitting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dlcli import load_run, train
from dlcli.config import compose
from dlcli.data.polynomial import powers
from dlcli.errors import ConfigError

OPTIONS = ["data=synthetic_regression", "task=linear_regression", "model=linear_closed_form", "trainer=fit"]


def test_errors_of_the_parameters_and_the_penalty_are_measured(tmp_path: Path) -> None:
    run = train([*OPTIONS, f"run_dir={tmp_path}"])
    layer, measured = run.model.output, run.summary["metrics"]["val"]
    error = (layer.weight.detach()[0] - torch.tensor([2.0, -3.4])).norm().item()
    assert measured["weight_error"] == pytest.approx(error, rel=1e-3)
    assert measured["weight_error"] < 0.01
    assert measured["bias_error"] == pytest.approx(abs(layer.bias.item() - 4.2), rel=1e-3)
    assert measured["weight_penalty"] == pytest.approx((2.0**2 + 3.4**2) / 2, rel=1e-3)
    assert load_run(str(run.directory)).evaluate("val") == measured


def test_half_the_squared_error(tmp_path: Path) -> None:
    whole, half = (
        train([*OPTIONS, f"task.loss={loss}", f"run_dir={tmp_path}"]).summary["metrics"]["val"]["loss"]
        for loss in ("mse", "half_mse")
    )
    assert half == pytest.approx(whole / 2)


def test_other_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="task 'linear_regression' does not go with model 'mlp': add model=linear"):
        compose(["data=synthetic_regression", "task=linear_regression", "model=mlp"])


def test_weight_decay_shrinks_what_twenty_rows_cannot_teach(tmp_path: Path) -> None:
    plain, decayed = (
        train([f"experiment=d2l/{name}", f"run_dir={tmp_path}"]).summary["metrics"]["val"]
        for name in ("weight_decay_none", "weight_decay_scratch")
    )
    assert decayed["weight_penalty"] < 0.5 * plain["weight_penalty"]


def test_powers_are_divided_by_factorials() -> None:
    expected = torch.tensor([[1.0, 2.0, 2.0, 4 / 3], [1.0, -1.0, 0.5, -1 / 6]], dtype=torch.float64)
    torch.testing.assert_close(powers(torch.tensor([2.0, -1.0], dtype=torch.float64), 3), expected)


def test_a_polynomial_of_the_right_degree_finds_the_coefficients_and_others_are_worse(tmp_path: Path) -> None:
    options = ["data=polynomial", "model=linear_closed_form", "trainer=fit", f"run_dir={tmp_path}"]
    runs = {degree: train([*options, f"data.degree={degree}"]) for degree in (1, 3, 19)}
    weights = runs[3].model.output.weight.detach()[0]
    torch.testing.assert_close(weights, torch.tensor([1.2, -3.4, 5.6]), rtol=0, atol=0.15)
    losses = {degree: run.summary["metrics"]["test"]["loss"] for degree, run in runs.items()}
    assert losses[3] < 0.02 < losses[1]
    assert losses[3] < losses[19]
