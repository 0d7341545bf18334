"""``dlcli gradcheck``: right gradients pass, wrong ones fail with exit code 1."""

from __future__ import annotations

import json

import pytest
import torch

from dlcli import gradcheck
from dlcli.catalogue import entries
from dlcli.scratch import activations
from dlcli.scratch.examples import EXAMPLES

OWN = """
from torch import nn, Tensor
from torch.nn import functional as F
from dlcli.registry import MODELS

@MODELS.register("{name}")
class Own(nn.Module):
    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        self.layer = nn.Linear(input_shape[-1], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        return F.{function}(self.layer(images.mean((1, 2))))
"""


@pytest.mark.parametrize(
    "name", ["conv2d, groups", "max_pool2d, ceil", "batch_norm", "cross_entropy, weights", "gru_cell"]
)
def test_layers_pass(name):
    assert gradcheck.check_function(name, EXAMPLES[name]).error < 1e-7


def test_table_and_json(dlcli):
    code, out, err = dlcli("gradcheck", "l*near")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["kind", "name", "largest", "relative", "error", "verdict"]
    assert [line.split()[:2] for line in lines[1:3]] == [["layer", "linear"], ["model", "linear"]]
    assert lines[-1] == "2 checked, 0 failed"
    records = json.loads(dlcli("gradcheck", "l*near", "--json")[1])
    assert [record["kind"] for record in records] == ["layer", "model"]
    assert all(record["passed"] and record["largest_relative_error"] < 1e-8 for record in records)


def test_recurrent_and_convolutional_models(dlcli):
    code, out, _ = dlcli("gradcheck", "resnet18")
    assert (code, out.splitlines()[-1]) == (0, "1 checked, 0 failed")


def test_a_wrong_derivative_fails(dlcli, monkeypatch):
    """The mistake of a sign in one layer fails that layer and the models that contain it."""
    right = activations.Tanh.backward
    monkeypatch.setattr(activations.Tanh, "backward", staticmethod(lambda ctx, dy: -right(ctx, dy)))
    code, out, _ = dlcli("gradcheck", "tanh")
    assert code == 1
    assert [line.split()[-1] for line in out.splitlines()[1:3]] == ["ok", "FAILED"]  # the autograd has its own
    assert out.splitlines()[-1] == "2 checked, 1 failed"


def test_a_derivative_that_is_slightly_wrong_fails_in_a_model(monkeypatch):
    right = activations.LeakyReLU.backward
    monkeypatch.setattr(
        activations.LeakyReLU, "backward", staticmethod(lambda ctx, dy: (1.01 * right(ctx, dy)[0], None))
    )
    assert not gradcheck.check_model("mlp", entries("model")["mlp"].content()).passed


class Bias(torch.autograd.Function):
    """x + b, with a gradient by b that is wrong by 1 %."""

    @staticmethod
    def forward(_, x, b):
        return x + b

    @staticmethod
    def backward(_, dy):
        return dy, 1.01 * dy.sum(0)


@pytest.mark.parametrize("layers", [2, 20])
def test_one_small_parameter_is_not_hidden_by_the_large_ones(monkeypatch, layers):
    class Biased(torch.nn.Linear):
        def forward(self, x):
            return Bias.apply(30 * x @ self.weight.T, 0.1 * self.bias)

    for bias in (Biased, torch.nn.Linear):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 20))
        model.extend([torch.nn.Linear(20, 20) for _ in range(layers)])
        model.append(bias(20, 10))
        monkeypatch.setattr(gradcheck.model_examples, "build", lambda _, model=model: model)
        finding = gradcheck.check_model("mlp", entries("model")["mlp"].content())
        assert finding.passed == (bias is torch.nn.Linear)


def test_nothing_checked_is_a_failure(dlcli, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "own_strange.py").write_text(OWN.format(name="own_strange", function="mish"))
    (tmp_path / "model" / "own_strange.yaml").write_text("# One of my own.\n# Source: me\nname: own_strange\n")
    code, out, err = dlcli("gradcheck", "own*", "--plugin", tmp_path)
    assert (code, out.splitlines()[-1]) == (1, "0 checked, 0 failed")
    assert err.startswith("note: own_strange is not checked")
    code, out, _ = dlcli("gradcheck", "own*", "--plugin", tmp_path, "--json")
    (record,) = json.loads(out)
    assert (code, record["name"]) == (1, "own_strange")
    assert "mish has no hand-written gradient" in record["unchecked"]


def test_own_models_are_checked_too(dlcli, tmp_path):
    (tmp_path / "model").mkdir()
    for name, function in (("own_good", "silu"), ("own_strange", "mish")):
        (tmp_path / f"{name}.py").write_text(OWN.format(name=name, function=function))
        (tmp_path / "model" / f"{name}.yaml").write_text(f"# One of my own models.\n# Source: me\nname: {name}\n")
    code, out, err = dlcli("gradcheck", "own*", "--plugin", tmp_path)
    assert code == 0
    assert "own_good" in out
    assert err.startswith("note: own_strange is not checked: layers=scratch: torch.nn.functional.mish has no")


def test_nothing_that_matches(dlcli):
    code, _, err = dlcli("gradcheck", "nothing*")
    assert code == 2
    assert err == "dlcli: no operation, no hand-written layer and no model that learns by gradient matches 'nothing*'\n"


def test_parameters_are_left_as_they_were():
    weight = torch.randn(3, dtype=torch.float64)
    before = weight.clone()
    gradcheck.difference(lambda: weight.square().sum(), [weight], [torch.ones_like(weight)], 1e-6)
    assert torch.equal(weight, before)
