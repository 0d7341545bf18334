"""Every schedule: torch's where it has one, closed forms, warm-up, ends, bounds, purity, state, configurations."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcli import catalogue
from dlcli.errors import ConfigError
from dlcli.hyperparameters import accepts
from dlcli.registry import SCHEDULERS
from dlcli.schedulers.base import Schedule

ENTRIES = catalogue.entries("scheduler")
NAMES = SCHEDULERS.names()
STEPS_PER_EPOCH = 7


def build(name: str, total_steps: int, **options: Any) -> Schedule:
    values = {**ENTRIES[name].content(), "warmup_steps": 0, **options}
    schedule = SCHEDULERS.build(values, total_steps, STEPS_PER_EPOCH)
    assert isinstance(schedule, Schedule)
    return schedule


def factors(schedule: Schedule) -> list[float]:
    return [schedule.factor(step) for step in range(schedule.total_steps)]


def torch_rates(scheduler_class: Any, run: int, **options: Any) -> Iterator[float]:
    """The rates of a torch schedule over a run at learning rate 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_class(optimizer, **options)
    for _ in range(run):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        if scheduler.last_epoch < run - 1:
            scheduler.step()


CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("step", {"step_size": 13, "gamma": 0.7}, "StepLR", {"step_size": 13, "gamma": 0.7}),
    ("step", {"step_size": "2 epochs", "gamma": 0.1}, "StepLR", {"step_size": 14, "gamma": 0.1}),
    (
        "multistep",
        {"milestones": ["7 epochs", 20], "gamma": 0.3},
        "MultiStepLR",
        {"milestones": [20, 49], "gamma": 0.3},
    ),
    ("exponential", {"gamma": 0.95, "interval": 1}, "ExponentialLR", {"gamma": 0.95}),
    (
        "linear",
        {"final_factor": 0.25},
        "LinearLR",
        {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 99},
    ),
    ("polynomial", {"power": 2.5}, "PolynomialLR", {"power": 2.5, "total_iters": 99}),
    ("cosine", {"final_factor": 0.1}, "CosineAnnealingLR", {"T_max": 99, "eta_min": 0.1}),
    (
        "cosine_restarts",
        {"period": 9, "period_factor": 2, "final_factor": 0.1},
        "CosineAnnealingWarmRestarts",
        {"T_0": 9, "T_mult": 2, "eta_min": 0.1},
    ),
    ("cosine_restarts", {"period": "1 epoch"}, "CosineAnnealingWarmRestarts", {"T_0": 7}),
    (
        "cyclic",
        {"step_size": 11, "min_factor": 0.2},
        "CyclicLR",
        {"base_lr": 0.2, "max_lr": 1.0, "step_size_up": 11, "cycle_momentum": False},
    ),
    *[
        (
            "one_cycle",
            {"warmup_fraction": fraction, "initial_factor": 1 / 20, "final_factor": 1 / 20 / 50, "anneal": anneal},
            "OneCycleLR",
            {
                "max_lr": 1.0,
                "total_steps": 100,
                "pct_start": fraction,
                "anneal_strategy": torch_name,
                "div_factor": 20,
                "final_div_factor": 50,
                "cycle_momentum": False,
            },
        )
        for anneal, torch_name in [("cosine", "cos"), ("linear", "linear")]
        for fraction in (0.3, 0.125, 1.0)
    ],
]


@pytest.mark.parametrize(("name", "ours", "theirs", "options"), CASES)
def test_equals_torch(name: str, ours: dict[str, Any], theirs: str, options: dict[str, Any]) -> None:
    expected = list(torch_rates(getattr(torch.optim.lr_scheduler, theirs), 100, **options))
    assert factors(build(name, 100, **ours)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_closed_forms() -> None:
    assert factors(build("constant", 9)) == [1.0] * 9
    assert factors(build("linear", 5, final_factor=0.0)) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert factors(build("polynomial", 5, power=2.0, final_factor=0.2)) == pytest.approx([1, 0.65, 0.4, 0.25, 0.2])
    assert factors(build("cosine", 3, final_factor=0.0)) == pytest.approx([1, 0.5, 0])
    assert factors(build("exponential", 5, gamma=0.25, interval=2, min_factor=0.1)) == [1, 0.5, 0.25, 0.125, 0.1]
    assert factors(build("cyclic", 6, step_size=2, min_factor=0.0)) == [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]


def test_inverse_square_root() -> None:
    """By epochs it is d2l's square-root scheduler; after a warm-up, the Transformer's one step later."""
    by_epoch = build("inverse_square_root", 50, interval="1 epoch")
    assert [by_epoch.factor(7 * epoch) for epoch in range(6)] == pytest.approx([(1 + e) ** -0.5 for e in range(6)])

    warmup = 10
    transformer = [min(step**-0.5, step * warmup**-1.5) / warmup**-0.5 for step in range(1, 60)]
    ours = factors(build("inverse_square_root", 60, interval=None, warmup_steps=warmup))
    assert ours[:warmup] == pytest.approx(transformer[:warmup])
    assert ours[warmup:] == pytest.approx(transformer[warmup - 1 :])

    assert factors(build("inverse_square_root", 4, interval=None)) == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


def test_cosine_may_end_before_the_run() -> None:
    schedule = build("cosine", 60, decay_steps="3 epochs", final_factor=0.05, warmup_steps="1 epoch")
    assert schedule.factor(7) == 1.0
    assert schedule.factor(6 + 21) > 0.05
    assert [schedule.factor(step) for step in range(7 + 21, 60)] == pytest.approx([0.05] * 32)


def test_milestones_count_from_the_start_of_the_run() -> None:
    schedule = build("multistep", 40, milestones=["3 epochs", 30], gamma=0.5, warmup_steps=5)
    values = factors(schedule)
    assert values[4:21] == [1.0] * 17
    assert values[21:30] == [0.5] * 9
    assert values[30:] == [0.25] * 10


def test_cycles_begin_at_the_top_after_a_warm_up() -> None:
    schedule = build("cyclic", 12, step_size=2, min_factor=0.5, warmup_steps=4)
    assert factors(schedule) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.75, 1.0, 0.75, 0.5, 0.75]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"one_cycle"}))
@pytest.mark.parametrize("warmup_steps", [1, 8, "2 epochs"])
def test_warm_up_is_linear_and_then_the_schedule_begins(name: str, warmup_steps: int | str) -> None:
    steps = 14 if isinstance(warmup_steps, str) else warmup_steps
    schedule = build(name, 100, warmup_steps=warmup_steps)
    assert [schedule.factor(step) for step in range(steps)] == [(step + 1) / steps for step in range(steps)]
    assert schedule.factor(steps) == 1.0


@pytest.mark.parametrize("name", ["linear", "polynomial", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 10])
@pytest.mark.parametrize("final_factor", [0.0, 0.1, 1.0])
def test_the_end_is_reached_at_the_last_step(name: str, warmup_steps: int, final_factor: float) -> None:
    schedule = build(name, 57, warmup_steps=warmup_steps, final_factor=final_factor)
    assert schedule.factor(warmup_steps) == 1.0
    assert schedule.factor(56) == pytest.approx(final_factor, abs=1e-15)
    assert schedule.factor(80) == schedule.factor(56)  # a run that is prolonged
    if final_factor < 1:
        assert schedule.factor(55) > final_factor


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_one_cycle_ends_and_peak(anneal: str) -> None:
    schedule = build("one_cycle", 50, warmup_fraction=0.3, initial_factor=0.1, final_factor=0.01, anneal=anneal)
    values = factors(schedule)
    assert values[0] == pytest.approx(0.1)
    assert values.index(max(values)) == 14
    assert values[14] == 1.0
    assert values[-1] == pytest.approx(0.01)
    assert values[:15] == sorted(values[:15])
    assert values[14:] == sorted(values[14:], reverse=True)
    assert build("one_cycle", 50, warmup_fraction=0.0).factor(0) == 1.0


def test_one_cycle_refuses_a_second_warm_up() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup_steps=100: expected 0.*set scheduler\.warmup_fraction"):
        build("one_cycle", 1000, warmup_steps=100)


share = st.floats(0, 1)
duration = st.one_of(st.integers(1, 400), st.sampled_from(["1 epoch", "0.5 epoch", "30 epochs", "9 steps"]))
gamma = st.floats(1e-6, 1)
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "constant": {},
    "step": {"step_size": duration, "gamma": gamma},
    "multistep": {"milestones": st.lists(duration, max_size=4), "gamma": gamma},
    "exponential": {"gamma": gamma, "interval": duration, "min_factor": share},
    "linear": {"final_factor": share},
    "polynomial": {"final_factor": share, "power": st.floats(0.01, 20)},
    "inverse_square_root": {"interval": st.one_of(st.none(), duration)},
    "cosine": {"final_factor": share, "decay_steps": st.one_of(st.none(), duration)},
    "cosine_restarts": {"period": duration, "period_factor": st.integers(1, 4), "final_factor": share},
    "cyclic": {"step_size": duration, "min_factor": share},
    "one_cycle": {
        "warmup_fraction": share,
        "initial_factor": share,
        "final_factor": share,
        "anneal": st.sampled_from(["cosine", "linear"]),
        "warmup_steps": st.just(0),
    },
    "reduce_on_plateau": {"factor": st.floats(0.01, 0.99), "min_factor": share, "patience": st.integers(0, 3)},
}


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_bounds_and_purity(name: str, data: st.DataObject) -> None:
    """Factors are within [0, 1] at any step of any run, also past its end, and do not depend on the order asked."""
    total_steps = data.draw(st.one_of(st.integers(1, 3), st.integers(1, 300)))
    warmup = st.one_of(st.just(0), duration)
    options = {key: data.draw(strategy) for key, strategy in {"warmup_steps": warmup, **OPTIONS[name]}.items()}
    schedule = build(name, total_steps, **options)
    steps = list(range(total_steps + 5))
    values = [schedule.factor(step) for step in steps]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in values)
    random.Random(0).shuffle(steps)
    assert all(schedule.factor(step) == values[step] for step in steps)
    if name != "reduce_on_plateau":
        assert schedule.state_dict() == {}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_configurations_fit_and_survive_the_shortest_runs(entry: catalogue.Entry) -> None:
    values = entry.content()
    signature = SCHEDULERS.signature(values["name"])
    assert values.keys() - {"name"} == signature.keys()
    assert all(accepts(values[key], kind) for key, kind in signature.items())
    assert entry.description
    assert entry.source
    for total_steps in (1, 2, 3):
        assert all(0 <= factor <= 1 for factor in factors(SCHEDULERS.build(values, total_steps, 1)))


def test_a_single_step_trains_at_the_full_rate() -> None:
    for name in sorted(set(NAMES) - {"cyclic"}):
        assert build(name, 1).factor(0) == 1.0


def plateau(**options: Any) -> Schedule:
    return build("reduce_on_plateau", 1000, **options)


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown", "threshold"), [(0, 0, 0.0), (2, 0, 1e-2), (3, 4, 0.1)])
def test_plateau_equals_torch(direction: str, patience: int, cooldown: int, threshold: float) -> None:
    settings_ = {"factor": 0.5, "patience": patience, "cooldown": cooldown, "threshold": threshold}
    ours = plateau(min_factor=0.01, **settings_)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=direction, min_lr=0.01, eps=0, **settings_)
    generator = random.Random(3)
    reductions = set()
    for evaluation in range(200):
        value = 1 / (1 + evaluation / 20) + 0.1 * generator.random()
        value = value if direction == "min" else 2 - value
        ours.observe(value, direction)
        theirs.step(value)
        assert ours.factor(evaluation) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        reductions.add(ours.factor(evaluation))
    assert len(reductions) > 2


def test_plateau_knows_the_better_direction_of_negative_values() -> None:
    """A threshold relative to the best's size: -10 to -9.99 is no improvement of something to minimise."""
    schedule = plateau(factor=0.5, patience=0, threshold=0.01, cooldown=0)
    schedule.observe(-10.0, "min")
    schedule.observe(-9.95, "min")
    assert schedule.factor(0) == 0.5
    schedule.observe(-10.2, "min")
    assert schedule.factor(0) == 0.5


def test_plateau_counts_not_a_number_as_no_improvement() -> None:
    schedule = plateau(factor=0.5, patience=1)
    for value in (math.nan, math.nan, 1.0):
        schedule.observe(value, "min")
    assert schedule.factor(0) == 0.5
    schedule.observe(0.5, "min")
    assert schedule.factor(0) == 0.5


def test_plateau_state_survives() -> None:
    """Saved as plain text at any moment, a fresh schedule goes on as the first would."""
    generator = random.Random(5)
    values = [generator.random() for _ in range(60)]
    for stop in range(0, 60, 7):
        whole, first, second = (plateau(factor=0.5, patience=2, cooldown=3) for _ in range(3))
        for value in values[:stop]:
            first.observe(value, "min")
            whole.observe(value, "min")
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for value in values[stop:]:
            whole.observe(value, "min")
            second.observe(value, "min")
            assert second.factor(0) == whole.factor(0)
        assert second.state_dict() == whole.state_dict()


def test_a_pure_schedule_ignores_the_metric() -> None:
    schedule = build("cosine", 20)
    before = factors(schedule)
    schedule.observe(1.0, "min")
    schedule.load_state_dict(schedule.state_dict())
    assert factors(schedule) == before
