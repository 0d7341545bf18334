"""Every optimizer against torch.optim or an oracle of our own, on both paths; state, skipping, layouts, imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcli import catalogue
from dlcli.errors import ConfigError
from dlcli.hyperparameters import accepts
from dlcli.optimizers.base import Optimizer
from dlcli.registry import OPTIMIZERS

ENTRIES = catalogue.entries("optimizer")
NAMES = OPTIMIZERS.names()


def build(name: str, named: Any, **options: Any) -> Optimizer:
    optimizer = OPTIMIZERS.build({**ENTRIES[name].content(), **options}, named)
    assert isinstance(optimizer, Optimizer)
    return optimizer


class Network(nn.Module):
    """Weights, biases, a norm, and a branch that only every third step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.branch = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor, use_branch: bool) -> Tensor:
        hidden = self.norm(self.first(x)).tanh()
        return self.last(hidden + self.branch(hidden) if use_branch else hidden)  # type: ignore[no-any-return]


def network(dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(1)
    return Network().to(dtype)


def train(model: Network, optimizer: Any, steps: range) -> list[Tensor]:
    """Train on batches that are a function of the step, with a rate that changes; return the parameters."""
    dtype = model.last.weight.dtype
    base = optimizer.base_lr if isinstance(optimizer, Optimizer) else optimizer.param_groups[0]["initial_lr"]
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator, dtype=torch.float64).to(dtype)  # (8, 4)
        target = torch.randn(8, 3, generator=generator, dtype=torch.float64).to(dtype)  # (8, 3)
        rate = base * (1 + step % 5) / 5
        if isinstance(optimizer, Optimizer):
            optimizer.lr = rate
        else:
            for group in optimizer.param_groups:
                group["lr"] = rate
        optimizer.zero_grad()
        (model(x, use_branch=step % 3 == 1) - target).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("sgd", {"lr": 0.1}, "SGD", {}),
    ("sgd", {"lr": 0.1, "weight_decay": 0.05}, "SGD", {"weight_decay": 0.05}),
    ("sgd", {"lr": 0.1, "momentum": 0.9}, "SGD", {"momentum": 0.9}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True}),
    (
        "sgd",
        {"lr": 0.05, "momentum": 0.5, "nesterov": True, "weight_decay": 0.05},
        "SGD",
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.05},
    ),
    ("adagrad", {}, "Adagrad", {}),
    ("adagrad", {"lr": 0.05, "weight_decay": 0.05, "eps": 1e-6}, "Adagrad", {"weight_decay": 0.05, "eps": 1e-6}),
    ("adadelta", {}, "Adadelta", {}),
    (
        "adadelta",
        {"lr": 2.0, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.05},
        "Adadelta",
        {"rho": 0.8, "eps": 1e-5, "weight_decay": 0.05},
    ),
    ("rmsprop", {}, "RMSprop", {}),
    ("rmsprop", {"centered": True, "eps": 1e-5}, "RMSprop", {"centered": True, "eps": 1e-5}),
    ("rmsprop", {"momentum": 0.9, "alpha": 0.9}, "RMSprop", {"momentum": 0.9, "alpha": 0.9}),
    (
        "rmsprop",
        {"momentum": 0.5, "centered": True, "eps": 1e-5, "weight_decay": 0.05},
        "RMSprop",
        {"momentum": 0.5, "centered": True, "eps": 1e-5, "weight_decay": 0.05},
    ),
    ("adam", {}, "Adam", {}),
    (
        "adam",
        {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.05},
        "Adam",
        {"betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.05},
    ),
    ("adamw", {}, "AdamW", {}),
    (
        "adamw",
        {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.5},
        "AdamW",
        {"betas": (0.8, 0.9), "weight_decay": 0.5},
    ),
]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(("name", "ours", "theirs", "options"), CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.15)],
    ids=["fp64", "fp32", "bf16"],
)
def test_equals_torch(
    name: str,
    ours: dict[str, Any],
    theirs: str,
    options: dict[str, Any],
    fused: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """100 steps, of which the branch has a gradient in every third; biases decay in torch, so they do here."""
    model, reference = network(dtype), network(dtype)
    optimizer = build(name, model.named_parameters(), **ours, decay_biases=True, fused=fused)
    oracle = getattr(torch.optim, theirs)(reference.parameters(), lr=optimizer.base_lr, foreach=False, **options)
    for group in oracle.param_groups:
        group["initial_lr"] = group["lr"]
    steps = range(100) if dtype != torch.bfloat16 else range(5)
    for moved, expected in zip(train(model, optimizer, steps), train(reference, oracle, steps), strict=True):
        torch.testing.assert_close(moved, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_yogi_equals_its_formula(fused: bool) -> None:
    """One number at a time, in Python floats."""
    gradients = [0.5, -2.0, 0.0, 1e-3, 1e-3, 3.0, -0.25]
    lr, (beta1, beta2), eps, decay = 0.1, (0.8, 0.9), 1e-3, 0.05
    weight = nn.Parameter(torch.tensor([[1.5]], dtype=torch.float64))
    optimizer = build(
        "yogi", [("weight", weight)], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, fused=fused
    )
    expected, mean, square = 1.5, 0.0, 0.0
    for step, raw in enumerate(gradients, start=1):
        gradient = raw + decay * expected
        mean = beta1 * mean + (1 - beta1) * gradient
        sign = (gradient**2 > square) - (gradient**2 < square)
        square = square + (1 - beta2) * sign * gradient**2
        expected -= lr * (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)) ** 0.5 + eps)
        weight.grad = torch.full_like(weight, raw)
        optimizer.step()
        assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_fused_equals_plain(name: str) -> None:
    """The two paths differ by rounding only, also where biases and norms do not decay."""
    results = []
    for fused in (True, False):
        model = network()
        results.append(train(model, build(name, model.named_parameters(), weight_decay=0.1, fused=fused), range(50)))
    for fused_result, plain_result in zip(*results, strict=True):
        torch.testing.assert_close(fused_result, plain_result, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_steps_follow_the_gradients(name: str) -> None:
    """Parameters whose gradients come and go: fused equals plain, and a run resumed at any step goes on bit for bit."""
    pattern = [(0, 1), (1,), (1,), (0, 1), (0,), (0, 1, 2), (1, 2), (0, 1)]

    def begin(fused: bool) -> tuple[list[nn.Parameter], Optimizer]:
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(3, 2, dtype=torch.float64)) for _ in range(3)]
        return parameters, build(name, [(str(i), p) for i, p in enumerate(parameters)], fused=fused)

    def walk(parameters: list[nn.Parameter], optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            for i in pattern[step]:
                parameters[i].grad = torch.full_like(parameters[i], 0.1 * (step + 1)) * parameters[i].detach()
            optimizer.step()

    fused, plain = begin(True), begin(False)
    for parts in (fused, plain):
        walk(*parts, range(len(pattern)))
    for i, (a, b) in enumerate(zip(fused[0], plain[0], strict=True)):
        torch.testing.assert_close(a, b, rtol=1e-3 if name == "muon" else 1e-9, atol=1e-9)
        if "step" in plain[1].state[i]:
            assert int(fused[1].state[i]["step"]) == sum(i in present for present in pattern)
    for stop in range(1, len(pattern)):
        parameters, optimizer = begin(True)
        walk(parameters, optimizer, range(stop))
        resumed, other = begin(True)
        other.load_state_dict(optimizer.state_dict())
        with torch.no_grad():
            for a, b in zip(resumed, parameters, strict=True):
                a.copy_(b)
        walk(resumed, other, range(stop, len(pattern)))
        assert all(torch.equal(a, b) for a, b in zip(resumed, fused[0], strict=True))


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_decay_skips_biases_and_norms(name: str, fused: bool) -> None:
    """With zero gradients only decay moves anything: weights, and the rest only when asked."""
    for decay_biases in (False, True):
        model = network()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        optimizer = build(name, model.named_parameters(), weight_decay=0.1, decay_biases=decay_biases, fused=fused)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for key, parameter in model.named_parameters():
            moved = not torch.equal(parameter, before[key])
            may_decay = parameter.ndim == 2 or decay_biases
            assert moved == (may_decay and bool(before[key].any())), key


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{}, {"momentum": 0.9, "nesterov": True}],
    "rmsprop": [{}, {"momentum": 0.9, "centered": True}],
}


@pytest.mark.parametrize(("saved", "loaded"), [(True, True), (False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("name", "options"), [(n, o) for n in NAMES for o in OPTIONS.get(n, [{}])])
def test_state_survives_bit_for_bit(
    name: str, options: dict[str, Any], saved: bool, loaded: bool, tmp_path: Any
) -> None:
    """Saved after 7 steps by one path, loaded by either: same bits, and the same path goes on as if never stopped."""
    model = network(torch.float32)
    first = build(name, model.named_parameters(), **options, fused=saved)
    train(model, first, range(7))
    torch.save({"model": model.state_dict(), "optimizer": first.state_dict()}, tmp_path / "state.pt")

    checkpoint = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = network(torch.float32)
    resumed.load_state_dict(checkpoint["model"])
    second = build(name, resumed.named_parameters(), **options, fused=loaded)
    train(network(torch.float32), build(name, network().named_parameters(), **options), range(1))  # unrelated work
    second.load_state_dict(checkpoint["optimizer"])
    assert second.steps == first.steps == 7
    for mine, theirs in zip(second.state, first.state, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)

    results = zip(train(resumed, second, range(7, 14)), train(model, first, range(7, 14)), strict=True)
    for continued, uninterrupted in results:
        if saved == loaded:
            assert torch.equal(continued, uninterrupted)
        else:
            torch.testing.assert_close(continued, uninterrupted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_loads_into_a_running_optimizer(name: str) -> None:
    """Loading after steps were made must reach the lists that the kernels keep."""
    model = network()
    optimizer = build(name, model.named_parameters())
    train(model, optimizer, range(6))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    kept = optimizer.state_dict()
    state = {n: {key: tensor.clone() for key, tensor in tensors.items()} for n, tensors in kept["state"].items()}
    expected = train(model, optimizer, range(6, 12))
    model.load_state_dict(weights)
    optimizer.load_state_dict({"steps": 6, "state": state})
    for again, before in zip(train(model, optimizer, range(6, 12)), expected, strict=True):
        assert torch.equal(again, before)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradient_stay(name: str, fused: bool) -> None:
    model = network()
    model.first.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = build(name, model.named_parameters(), weight_decay=0.1, fused=fused)
    optimizer.step()  # nothing has a gradient yet
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    train(model, optimizer, range(1))  # step 0 does not use the branch
    unmoved = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert unmoved == {"first.weight", "branch.weight", "branch.bias"}


@pytest.mark.parametrize("name", NAMES)
def test_memory_layouts(name: str) -> None:
    """Kernels walk memory: a gradient laid out unlike its parameter, or a parameter with gaps, must not mix them up."""
    values = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    gradients = [torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(5)]

    def moved(parameter: nn.Parameter, channels_last_gradient: bool) -> Tensor:
        optimizer = build(name, [("weight", parameter)], weight_decay=0.1)
        for gradient in gradients:
            layout = torch.channels_last if channels_last_gradient else torch.contiguous_format
            parameter.grad = gradient.clone(memory_format=layout)
            optimizer.step()
        return parameter.detach()

    expected = moved(nn.Parameter(values.clone()), False)
    channels_last = values.clone(memory_format=torch.channels_last)
    torch.testing.assert_close(moved(nn.Parameter(channels_last), False), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(moved(nn.Parameter(values.clone()), True), expected, atol=1e-12, rtol=1e-12)
    sliced = torch.stack([values, values], dim=-1)[..., 0]
    torch.testing.assert_close(moved(nn.Parameter(sliced), False), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_centered_rmsprop_survives_a_constant_gradient(fused: bool) -> None:
    """The variance of a constant gradient rounds to about zero, on either side; its root must not be NaN."""
    weight = nn.Parameter(torch.zeros(50))
    optimizer = build("rmsprop", [("weight", weight)], alpha=0.5, centered=True, eps=1e-3, fused=fused)
    for _ in range(200):
        weight.grad = torch.linspace(0.1, 1, 50)
        optimizer.step()
    assert weight.isfinite().all()


RATES = {"sgd": 0.1, "adagrad": 0.5, "adadelta": 20.0, "rmsprop": 0.01}
ADAPTIVE_RATE = 0.05


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_minimises_a_quadratic(name: str, fused: bool) -> None:
    """sum(scale * (x - 3)^2) / 2 with scales from 0.5 to 5; one iterate in a small neighbourhood of the minimum."""
    x = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    scales = torch.tensor([0.5, 1.0, 2.0, 5.0], dtype=torch.float64)
    optimizer = build(name, [("x", x)], lr=RATES.get(name, ADAPTIVE_RATE), fused=fused)
    for _ in range(800):
        optimizer.zero_grad()
        (scales * (x - 3) ** 2 / 2).sum().backward()
        optimizer.step()
    assert (x - 3).abs().max() < 0.02


ROSENBROCK = {"sgd": 1e-3, "adagrad": 0.5, "adadelta": 1.0, "rmsprop": 2e-3}


@pytest.mark.parametrize("name", NAMES)
def test_descends_rosenbrocks_valley(name: str) -> None:
    """From (-1.5, 2), where (1 - x)^2 + 100 (y - x^2)^2 is 12.5, to near the minimum 0 at (1, 1)."""
    point = nn.Parameter(torch.tensor([-1.5, 2.0], dtype=torch.float64))
    options = {"momentum": 0.9} if name == "sgd" else {}
    optimizer = build(name, [("point", point)], lr=ROSENBROCK.get(name, 0.02), **options)
    for _ in range(3000):
        optimizer.zero_grad()
        x, y = point[0], point[1]
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        value.backward()
        optimizer.step()
    assert value.item() < (0.5 if name == "adadelta" else 0.05)  # it sets its own, cautious pace


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.nesterov=true: needs optimizer\.momentum above 0"):
        build("sgd", network().named_parameters(), nesterov=True)


def test_state_of_another_network_is_refused() -> None:
    optimizer = build("adam", network().named_parameters())
    with pytest.raises(ValueError, match="other parameters"):
        optimizer.load_state_dict({"steps": 1, "state": {"other": {}}})


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_configurations_fit_their_constructors(entry: catalogue.Entry) -> None:
    values = entry.content()
    signature = OPTIMIZERS.signature(values.pop("name"))
    assert values.keys() == signature.keys()
    assert all(accepts(value, signature[key]) for key, value in values.items())
    assert entry.description
    assert entry.source


def test_no_compiler_is_imported() -> None:
    """torch.optim's own step imports torch's compiler and sympy, most of a second; ours must not."""
    program = """
import sys, torch
from dlcli import catalogue
from dlcli.registry import OPTIMIZERS
for entry in catalogue.entries("optimizer").values():
    for fused in (True, False):
        model = torch.nn.Linear(2, 2)
        optimizer = OPTIMIZERS.build({**entry.content(), "fused": fused}, model.named_parameters())
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.load_state_dict(optimizer.state_dict())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stderr
