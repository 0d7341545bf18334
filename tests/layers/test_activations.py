import math
import typing

import pytest
import torch

from dlcli.layers.activations import ACTIVATIONS, activation
from dlcli.registry import MODELS

FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu_straight_through": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "prelu": lambda x: x if x > 0 else x / 4,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value(name):
    points = [-3.0, -0.5, 0.0, 0.25, 2.0]
    expected = torch.tensor([FORMULAS[name](x) for x in points])
    torch.testing.assert_close(activation(name)(torch.tensor(points)), expected)


def test_straight_through_has_the_derivative_one_everywhere():
    inputs = torch.tensor([-3.0, 0.0, 2.0], requires_grad=True)
    activation("relu_straight_through")(inputs).sum().backward()
    assert inputs.grad.tolist() == [1, 1, 1]


def test_each_call_makes_a_new_module():
    assert activation("prelu") is not activation("prelu")


@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_models_offer_all_of_them(model):
    assert set(typing.get_args(MODELS.signature(model)["activation"])) == set(ACTIVATIONS)
