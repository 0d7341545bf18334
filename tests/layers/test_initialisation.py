import typing

import pytest
import torch
from torch import nn

from dlcli.layers.initialisation import RULES, initialise
from dlcli.registry import MODELS


def linear(rule, fan_in=400, fan_out=100):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(fan_in, fan_out))
    initialise(module, rule)
    return module[0]


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        *(("default", 1 / 400 / 3), ("normal", 0.01**2), ("standard_normal", 1.0), ("xavier", 2 / 500)),
        *(("xavier_normal", 2 / 500), ("he", 2 / 400), ("orthogonal", 1 / 400)),
    ],
)
def test_variance(rule, variance):
    weight = linear(rule).weight
    assert weight.mean().abs() < 4 * (variance / weight.numel()) ** 0.5
    assert weight.var().item() == pytest.approx(variance, rel=0.03)


def test_xavier_is_uniform():
    weight = linear("xavier").weight
    bound = (6 / 500) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.99 * bound


def test_he_counts_a_convolutions_whole_window():
    torch.manual_seed(0)
    convolution = nn.Conv2d(32, 64, 5)
    initialise(convolution, "he")
    assert convolution.weight.var().item() == pytest.approx(2 / (32 * 25), rel=0.03)


def test_orthogonal_rows():
    weight = linear("orthogonal").weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(100), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"standard_normal"}))
def test_biases_are_zero_and_other_layers_are_untouched(rule):
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.PReLU())
    initialise(module, rule)
    assert module[0].bias.eq(0).all()
    assert module[1].weight.eq(1).all()
    assert module[2].weight.eq(0.25).all()


def test_standard_normal_draws_biases_too():
    assert linear("standard_normal", 10, 2000).bias.std().item() == pytest.approx(1, rel=0.1)


def test_default_is_torchs():
    torch.manual_seed(0)
    expected = nn.Linear(400, 100)
    assert torch.equal(linear("default").weight, expected.weight)
    assert torch.equal(linear("default").bias, expected.bias)


def test_activations_keep_their_variance_through_deep_rectifiers():
    torch.manual_seed(0)
    network = nn.Sequential(*[layer for _ in range(20) for layer in (nn.Linear(256, 256, bias=False), nn.ReLU())])
    inputs = torch.randn(256, 256)
    initialise(network, "he")
    assert 0.2 < network(inputs).square().mean() < 5
    initialise(network, "xavier")
    assert network(inputs).square().mean() < 1e-4


@pytest.mark.parametrize("model", ["linear", "mlp", "lenet"])
def test_models_offer_all_of_them(model):
    assert set(typing.get_args(MODELS.signature(model)["init"])) == {"default", *RULES}
