"""Parameters by patterns of their names: frozen ones stay, others learn at rates of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dlcli import train
from dlcli.config import compose, fill_missing
from dlcli.errors import ConfigError
from dlcli.parameter_patterns import begin_by_rules, freeze, rate_factors
from dlcli.registry import MODELS, OPTIMIZERS
from dlcli.run import Run
from dlcli.spec import DataSpec
from dlcli.weights import initialise_from

SMALL = ["data=digits", "model=mlp", "model.hidden_sizes=[8]", "trainer.max_epochs=null", "trainer.max_steps=3"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Linear(2, 1))


def test_parameters_begin_by_the_last_rule_that_fits():
    model, untouched = network(), network()
    begin_by_rules(model, {"0.*": "zeros", "2.weight": "xavier", "3.*": "standard_normal", "3.bias": "default"})
    assert not model[0].weight.any()
    assert not model[0].bias.any()
    bound = (6 / (4 + 2)) ** 0.5  # of Glorot's uniform distribution for 4 inputs and 2 outputs
    assert 0.3 < float(model[2].weight.detach().abs().max()) <= bound
    assert not torch.equal(model[2].weight, untouched[2].weight)
    assert not torch.equal(model[3].weight, untouched[3].weight)
    assert torch.equal(model[2].bias, untouched[2].bias)
    assert torch.equal(model[3].bias, untouched[3].bias)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"head.*": "zeros"}, r"init: 'head.\*' fits no parameter that learns; there are 0.\*, 2.\*, 3.\*"),
        ({"0.*": "he"}, r"init: he is a rule for weights of two axes and more, and '0.bias' has 1; use another rule"),
    ],
)
def test_rules_that_do_not_fit(rules, message):
    with pytest.raises(ConfigError, match=message):
        begin_by_rules(network(), rules)


def test_a_run_begins_by_the_rules_that_it_names(tmp_path):
    options = [*SMALL, "init={output.*:zeros}"]
    assert not any(p.any() for n, p in Run(compose(options)).model.named_parameters() if n.startswith("output"))
    first = train([*SMALL, f"run_dir={tmp_path}"])
    model = MODELS.build(first.config["model"], spec=first.data.spec)
    begin_by_rules(model, {"output.weight": "zeros"})
    said = initialise_from(model, str(first.directory), tmp_path, ["output.weight"])
    assert said == f"init_from {first.directory.name}: 3 of 4 tensors loaded; begun by init: output.weight"
    assert not model.output.weight.any()
    assert torch.equal(model.output.bias, first.model.output.bias)


def test_frozen_parameters_take_no_gradient():
    model = network()
    freeze(model, ["0.*", "*.bias"])
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning == ["2.weight", "3.weight"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["body.*"], r"freeze: 'body.\*' fits no parameter that learns; there are 0.\*, 2.\*, 3.\*"),
        (["*"], r"freeze=\['\*'\]: leaves nothing to learn; freeze fewer parameters"),
    ],
)
def test_what_cannot_be_frozen(patterns, message):
    with pytest.raises(ConfigError, match=message):
        freeze(network(), patterns)


def test_the_last_pattern_that_fits_decides_the_rate():
    names = ["stem.weight", "stem.bias", "head.weight"]
    assert rate_factors(names, {}) == dict.fromkeys(names, 1)
    assert list(rate_factors(names, {"*": 0.1, "head.*": 10, "*.bias": 2}).values()) == [0.1, 2, 10]
    with pytest.raises(ConfigError, match=r"lr_factors: 'tail.\*' fits no parameter that learns; there are stem.\*"):
        rate_factors(names, {"tail.*": 2})


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("config", "reference"),
    [
        ({"name": "sgd", "momentum": 0.9, "nesterov": False}, lambda g: torch.optim.SGD(g, momentum=0.9)),
        ({"name": "adam", "betas": [0.9, 0.999], "eps": 1e-8}, lambda g: torch.optim.Adam(g)),
    ],
)
def test_rates_of_their_own_equal_torchs_parameter_groups(config, reference, fused):
    ours, theirs = network(), network()
    options = {"lr": 0.05, "weight_decay": 0.0, "decay_biases": False, "fused": fused}
    optimizer = OPTIMIZERS.build({**config, **options}, ours.named_parameters())
    optimizer.rate_factors = list(rate_factors(optimizer.names, {"0.*": 0.1, "3.*": 4}).values())
    groups = [{"params": theirs[i].parameters(), "lr": 0.05 * factor} for i, factor in ((0, 0.1), (2, 1), (3, 4))]
    other = reference(groups)
    for _ in range(20):
        inputs = torch.randn(5, 3)
        for model, stepper in ((ours, optimizer), (theirs, other)):
            stepper.zero_grad()
            model(inputs).square().mean().backward()
            stepper.step()
    assert optimizer.lr == 0.05
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_a_run_moves_only_what_may_learn(tmp_path):
    options = [*SMALL, "freeze=[hidden.*]", "lr_factors={output.bias:0.001}", "optimizer=sgd"]
    before = {n: p.detach().clone() for n, p in Run(compose(options)).model.named_parameters()}
    run = train([*options, f"run_dir={tmp_path}"])
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in run.model.named_parameters()}
    assert moved["hidden.0.weight"] == moved["hidden.0.bias"] == 0
    assert moved["output.weight"] > 1e-3
    assert 0 < moved["output.bias"] < 1e-3
    assert run.summary["parameters"] == 8 * 10 + 10


def test_weights_of_a_run_with_another_head(tmp_path):
    first = train([*SMALL, f"run_dir={tmp_path}"])
    config = first.config["model"]
    model = MODELS.build(config, spec=DataSpec(input_shape=(1, 8, 8), num_outputs=3))
    assert initialise_from(model, str(first.directory), tmp_path) == (
        f"init_from {first.directory.name}: 2 of 4 tensors loaded; "
        "of another size (fresh): output.bias (10 there, 3 here), output.weight (10×8 there, 3×8 here)"
    )
    state = torch.load(first.directory / "best.pt", weights_only=True)["model"]
    assert torch.equal(model.hidden[0].weight, state["hidden.0.weight"])
    other = MODELS.build(config | {"hidden_sizes": [5]}, spec=DataSpec(input_shape=(3, 8, 8), num_outputs=3))
    with pytest.raises(ConfigError, match=r"no tensor of run .* fits the model: it holds the weights of another"):
        initialise_from(other, str(first.directory), tmp_path)


def test_runs_of_earlier_versions_have_these_options_too():
    config = {"seed": 3}
    assert set(fill_missing(config, {}, [])) >= {"freeze", "lr_factors", "init"}
    assert (config["seed"], config["freeze"], config["lr_factors"], config["init"]) == (3, [], {}, {})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("init={head.*:xaver}", "init=.*: expected a mapping from text to one of default, zeros, normal,"),
        ("freeze=stem", "freeze=stem: expected a list"),
        ("lr_factors={head.*:-1}", "lr_factors=.*: expected a mapping from text to a number greater than 0"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(override, message):
    with pytest.raises(ConfigError, match=message):
        compose(["data=digits", override])
