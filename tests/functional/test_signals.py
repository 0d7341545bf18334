"""The sizes of outputs and gradients through a network: against numbers by hand, and without changing anything."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import Tensor, nn

from dlcli import train
from dlcli.errors import ConfigError
from dlcli.functional.signals import signals


def test_two_layers_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[3.0], [4.0]])
    model[1].weight.data = torch.tensor([[1.0, -2.0]])
    first, last = signals(model, lambda network: network(torch.ones(1, 1)).sum())
    assert (first.layer, last.layer) == ("0", "1")
    assert first.output == pytest.approx(math.sqrt((9 + 16) / 2))
    assert first.gradient == pytest.approx(math.sqrt((1 + 4) / 2))  # the row of the second matrix
    assert (last.output, last.gradient) == (5.0, 1.0)


def test_layers_that_the_loss_does_not_reach_are_left_out() -> None:
    """A gradient of 0 would read as a vanished one."""
    model = nn.ModuleDict({"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)})
    found = signals(model, lambda pair: pair["discriminator"](pair["generator"](torch.ones(1, 2)).detach()).sum())
    assert [signal.layer for signal in found] == ["discriminator"]


def test_a_product_of_random_matrices_grows_as_theory_says() -> None:
    """The exponent of random 4x4 matrices is (log 2 + digamma(2)) / 2 (Newman 1986), 0.558."""
    torch.manual_seed(0)
    matrices = nn.Sequential(*(nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(300)))
    for matrix in matrices:
        nn.init.normal_(matrix.weight)
    found = signals(matrices, lambda model: model(torch.ones(8, 4, dtype=torch.float64)).sum())
    exponent = (math.log(2.0) + float(torch.digamma(torch.tensor(2.0)))) / 2
    assert math.log(found[-1].output / found[0].output) / 299 == pytest.approx(exponent, abs=0.06)
    assert math.log(found[0].gradient / found[-1].gradient) / 299 == pytest.approx(exponent, abs=0.06)


def test_looking_changes_nothing() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(3, 4, batch_first=True)  # returns a tuple
            self.norm = nn.BatchNorm1d(4)  # keeps running means
            self.drop = nn.Dropout(0.5)
            self.unused = nn.Linear(4, 4)
            self.frozen = nn.Linear(4, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.drop(self.norm(self.cell(inputs)[0][:, -1])).relu_()
            result: Tensor = self.frozen(hidden)
            return result

    model = Model().eval()
    model.frozen.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = signals(model, lambda network: network(torch.randn(5, 6, 3)).square().mean())
    assert [signal.layer for signal in found] == ["cell", "norm", "frozen"]
    assert all(signal.output > 0 and signal.gradient > 0 for signal in found)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_run_records_signals_and_trains_to_the_same_weights(tmp_path) -> None:
    options = [
        *("data=digits", "model=mlp", "model.hidden_sizes=[8,8]", "model.dropout=0.1", f"run_dir={tmp_path}"),
        *("trainer.max_epochs=null", "trainer.max_steps=6", "trainer.eval_every=3", "trainer.log_every=null"),
    ]
    plain, looking = train(options), train([*options, "trainer.signals=true"])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, looking.model.state_dict()[name])
    lines = [json.loads(line) for line in (looking.directory / "metrics.jsonl").read_text().splitlines()]
    shown = {line["step"]: line for line in lines if "signals/hidden.0/gradient" in line}
    assert sorted(shown) == [0, 3, 6]
    assert set(shown[0]) - {"step", "time"} == {
        f"signals/{layer}/{size}" for layer in ("hidden.0", "hidden.3", "output") for size in ("output", "gradient")
    }


def test_signals_are_those_of_one_process() -> None:
    with pytest.raises(ConfigError, match=r"trainer.signals=true looks at one process; use it without trainer.sync"):
        train(["data=digits", "model=mlp", "trainer.signals=true", "trainer.sync_batch_norm=true"])
