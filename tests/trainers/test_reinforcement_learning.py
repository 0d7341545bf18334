"""Trainers that learn to act: what they find against what can be computed, and runs that are like all others."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import checkpoint, train
from dlcli.cli.train import resume_run
from dlcli.config import compose
from dlcli.errors import ConfigError, Interrupted
from dlcli.functional.markov_decision import greedy, values_of
from dlcli.saved_run import SavedRun
from dlcli.tasks.control import Control, StandardError, Transitions

OPTIMUM = 0.7402  # of slippery 4x4 ice in 100 steps, by the policy that is best for a discount of 0.99
SHORT_DQN = [
    *("data=cart_pole", "data.episodes=4", "data.time_limit=50", "model.hidden_sizes=[8]", "trainer.max_steps=400"),
    *("trainer.warmup_steps=50", "trainer.batch_size=8", "trainer.replay_size=200", "trainer.eval_every=100"),
    *("trainer.checkpoint_every=100", "trainer.log_every=50"),
]
SHORT_Q = [
    *("data=frozen_lake", "data.episodes=4", "trainer.max_episodes=60", "trainer.eval_every=20"),
    *("trainer.checkpoint_every=20", "trainer.log_every=7"),
]


def run_of(folder: Path, *overrides: str) -> Any:
    return train([f"run_dir={folder}", *overrides])


@pytest.mark.parametrize("trainer", ["value_iteration", "policy_iteration"])
def test_planning_solves_the_linear_system_of_the_best_policy(tmp_path: Path, trainer: str) -> None:
    run = run_of(tmp_path, "data=frozen_lake", f"trainer={trainer}", "data.episodes=400", "trainer.eval_every=1000")
    values = run.model.action_values
    exact = values_of(run.data.table, greedy(values), 0.99)
    torch.testing.assert_close(values.amax(1), exact, rtol=0, atol=1e-8)
    measured = run.summary["metrics"]["val"]
    assert measured["exact_success_rate"] == pytest.approx(OPTIMUM, abs=5e-5)
    assert abs(measured["success_rate"] - OPTIMUM) < 3 * measured["standard_error"]
    assert run.summary["reason"] == "the values change no more"


def test_a_smaller_discount_prefers_another_policy(tmp_path: Path) -> None:
    run = run_of(
        *(tmp_path, "data=frozen_lake", "data.episodes=1", "trainer=policy_iteration", "trainer.discount=0.95"),
    )
    assert run.summary["metrics"]["test"]["exact_success_rate"] == pytest.approx(0.7298, abs=5e-5)


@pytest.mark.parametrize("data", ["frozen_lake_8x8", "cliff_walking", "taxi"])
def test_both_ways_of_planning_agree(tmp_path: Path, data: str) -> None:
    by_value, by_policy = (
        run_of(tmp_path, f"data={data}", f"trainer={trainer}", "data.episodes=2", "trainer.eval_every=10000")
        for trainer in ("value_iteration", "policy_iteration")
    )
    torch.testing.assert_close(*(run.model.action_values.amax(1) for run in (by_value, by_policy)), rtol=0, atol=1e-8)
    if data == "cliff_walking":
        assert by_policy.summary["metrics"]["test"]["mean_return"] == -13


def test_q_learning_masters_slippery_ice(tmp_path: Path) -> None:
    run = run_of(
        tmp_path, "data=frozen_lake", "data.episodes=1000", "trainer.eval_every=5000", "trainer.max_episodes=5000"
    )
    measured = run.summary["metrics"]["test"]
    assert measured["exact_success_rate"] >= 0.729
    assert abs(measured["success_rate"] - measured["exact_success_rate"]) < 3 * measured["standard_error"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_q_learning_masters_slippery_ice_with_every_seed(tmp_path: Path, seed: int) -> None:
    run = run_of(tmp_path, "data=frozen_lake", "data.episodes=1000", f"seed={seed}")
    assert run.summary["metrics"]["test"]["exact_success_rate"] >= 0.729
    last = SavedRun(run.directory, which="last").evaluate("test")
    assert last["exact_success_rate"] >= 0.6  # the latest table, chosen by nobody


def test_the_books_q_learning_finds_the_way(tmp_path: Path) -> None:
    run = run_of(tmp_path, "experiment=d2l/q_learning", "data.episodes=2", "trainer.eval_every=256")
    assert run.summary["metrics"]["test"] == {
        "mean_return": 1.0,
        "standard_error": 0.0,
        "success_rate": 1.0,
        "mean_length": 6.0,
        "exact_return": 1.0,
        "exact_success_rate": 1.0,
    }


def test_sarsa_keeps_away_from_the_cliff_that_q_learning_walks_along(tmp_path: Path) -> None:
    """Sutton and Barto, example 6.6: with exploration, SARSA's way is longer."""
    options = [
        *("data=cliff_walking", "data.episodes=1", "trainer.max_episodes=500", "trainer.discount=1.0"),
        *("trainer.rate=0.5", "trainer.rate_decay=0", "trainer.epsilon=0.1", "trainer.final_epsilon=0.1"),
        *("trainer.eval_every=500", "trainer.log_every=250"),
    ]
    q_learning, sarsa = (run_of(tmp_path, *options, f"trainer={name}") for name in ("q_learning", "sarsa"))
    assert q_learning.summary["metrics"]["test"]["mean_return"] == -13
    assert -20 <= sarsa.summary["metrics"]["test"]["mean_return"] < -13
    assert sarsa.summary["metrics"]["train"]["return"] > q_learning.summary["metrics"]["train"]["return"]


def test_softmax_explores_by_value() -> None:
    import random

    from dlcli.registry import TRAINERS

    trainer = TRAINERS.build({**compose(["data=frozen_lake"]).config["trainer"], "exploration": "softmax"})
    chance = random.Random(0)
    drawn = [trainer._choose([0.0, 0.5 * math.log(3)], 0.5, chance) for _ in range(4000)]
    assert sum(drawn) / 4000 == pytest.approx(0.75, abs=0.03)  # exp(log 3) : exp(0)
    assert {trainer._choose([0.0, 1e6, 0.0], 1.0, chance) for _ in range(50)} == {1}
    assert trainer._choose([0.0, 1.0], 0.0, chance) == 1


# ------------------------------------------------------------------ runs


@pytest.mark.parametrize("options", [SHORT_Q, [*SHORT_Q, "trainer=sarsa"], SHORT_DQN], ids=["q", "sarsa", "dqn"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    whole = run_of(tmp_path / "whole", *options)
    trainer = type(whole.trainer)
    played, keep = [], trainer._play

    def interrupting(self: Any, *arguments: Any) -> Any:
        played.append(1)
        if len(played) == 9:
            signal.raise_signal(signal.SIGINT)
        return keep(self, *arguments)

    monkeypatch.setattr(trainer, "_play", interrupting)
    with pytest.raises(Interrupted, match="saved; continue with: dlcli train --resume"):
        run_of(tmp_path / "cut", *options)
    assert len(played) == 9
    monkeypatch.undo()
    (directory,) = (tmp_path / "cut").iterdir()
    run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=True)
    run.train()
    for name in ("last", "best"):
        ours, theirs = (checkpoint.load(found.directory / f"{name}.pt") for found in (run, whole))
        assert all(torch.equal(tensor, theirs["model"][key]) for key, tensor in ours["model"].items())
        for state in (ours, theirs):
            state["loop"].pop("seconds")
            state["loop"].pop("offsets")
        assert str(ours["loop"]) == str(theirs["loop"])
        assert str(ours.get("replay")) == str(theirs.get("replay"))
    assert run.summary["metrics"]["test"] == whole.summary["metrics"]["test"]
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "time"}
            for line in (d / "metrics.jsonl").read_text().splitlines()
        ]
        for d in (directory, whole.directory)
    ]
    if options is not SHORT_DQN:  # an interrupted one logs where it stopped as well
        assert logs[0] == logs[1]


def test_a_run_is_opened_with_other_episodes(tmp_path: Path) -> None:
    run = run_of(tmp_path, "data=frozen_lake", "trainer=policy_iteration", "data.episodes=4")
    assert (run.directory / "best.pt").exists()
    opened = SavedRun(run.directory, overrides=["data.episodes=150", "data.seed=3"])
    measured = opened.evaluate("val")
    assert 0 < measured["standard_error"] < 0.05
    assert set(measured) == set(Control.metric_directions)
    text = "".join(opened.sample({"seed": 2}))
    assert text.startswith("@FFF\nFHFH\nFFFH\nHFFG\nstep 1: action ")
    assert text.rsplit("\n", 1)[1] in ("goal reached", "goal not reached")
    assert text == "".join(opened.sample({"seed": 2}))


def test_pictures_show_values_actions_and_an_episode(tmp_path: Path) -> None:
    table, network = run_of(tmp_path, *SHORT_Q), run_of(tmp_path, *SHORT_DQN)
    shown = [
        run.task.preview({"model": run.model}, run.data.batches("val", order="sequential")[0])
        for run in (table, network)
    ]
    assert set(shown[0]) == {"episode", "values", "action_values"}
    assert set(shown[1]) == {"episode"}
    for picture in [*shown[0].values(), *shown[1].values()]:
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3


def test_a_dry_run_changes_nothing() -> None:
    from dlcli.cli.train import prepare

    for options in (SHORT_Q, ["data=taxi", "trainer=value_iteration"], SHORT_DQN):
        run = prepare(options, config_dirs=[], plugins=[], quiet=True)
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        assert all(math.isfinite(value) for value in run.try_batch().values())
        assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


# ------------------------------------------------------------------ deep Q-learning


def test_targets_are_those_of_double_q_learning() -> None:
    from dlcli.registry import TRAINERS

    trainer: Any = TRAINERS.build(compose(["data=cart_pole", "trainer.discount=0.5"]).config["trainer"])
    trainer.network = torch.nn.Linear(1, 2, bias=False)
    trainer.target = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        trainer.network.weight.copy_(torch.tensor([[1.0], [2.0]]))  # prefers the second action
        trainer.target.weight.copy_(torch.tensor([[8.0], [4.0]]))  # is worth 4 there, at most 8
    drawn = {
        "observations": torch.zeros(2, 1),
        "following": torch.ones(2, 1),
        "actions": torch.tensor([0, 1]),
        "rewards": torch.ones(2),
        "going_on": torch.tensor([1.0, 0.0]),
    }
    assert trainer._transitions(drawn).targets.tolist() == [1 + 0.5 * 4, 1]
    trainer.double = False
    assert trainer._transitions(drawn).targets.tolist() == [1 + 0.5 * 8, 1]


def test_the_loss_is_the_squared_error_of_the_actions_that_were_taken() -> None:
    batch = Transitions(torch.eye(2), torch.tensor([1, 0]), torch.tensor([0.0, 5.0]))
    model = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[7.0, 1.0], [0.5, 9.0]]))  # values [7, 0.5] and [1, 9]
    (loss,) = Control(sample={}).training_step({"model": model}, batch)
    assert loss.value.item() == pytest.approx((0.5**2 + 4**2) / 2)


def test_the_standard_error_is_that_of_statistics() -> None:
    values = torch.rand(50, dtype=torch.float64)
    metric = StandardError()
    metric.update(values[:20])
    metric.update(values[20:])
    assert metric.compute() == pytest.approx(float(values.std()) / math.sqrt(50), abs=1e-12)


@pytest.mark.slow
def test_deep_q_learning_balances_the_pole(tmp_path: Path) -> None:
    run = run_of(tmp_path, "data=cart_pole")  # of seeds 0, 1 and 2, the second stays below 475
    assert run.summary["metrics"]["test"]["mean_return"] >= 475


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data=frozen_lake", "model=lenet"], "model 'lenet' needs input_shape, which data 'frozen_lake' does not def"),
        (["data=cart_pole", "trainer=q_learning"], "trainer 'q_learning' needs num_states, which data 'cart_pole'"),
        (["data=cart_pole", "model=q_table"], "data that fit: cliff_walking, frozen_lake, frozen_lake_8x8, taxi"),
        (["data=frozen_lake", "trainer=dqn"], "model 'q_table' does not go with trainer 'dqn': add trainer=q_learning"),
        (["data=digits", "trainer=dqn"], "trainer 'dqn' needs num_actions, which data 'digits' does not define"),
        (["data=frozen_lake", "trainer=minibatch"], "task 'control' does not go with trainer 'minibatch'"),
        (["data=cart_pole", "task=reconstruction"], "trainer 'dqn' does not go with task 'reconstruction': add task=c"),
        (["data=frozen_lake", "optimizer=sgd"], "optimizer has no effect: trainer 'q_learning' uses no optimizer"),
        (
            ["data=cart_pole", "trainer.monitor=val/exact_return"],
            "task 'control' does not measure it; did you mean val/mean_return?",
        ),
        (["data=frozen_lake", "data.map=5x5"], "data.map=5x5: expected one of 4x4, 8x8"),
        (
            ["data=taxi", "trainer=value_iteration", "trainer.discount=1.0"],
            "trainer.discount=1.0: expected a number gr",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_built(overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert any(problem in line for line in caught.value.problems), caught.value.problems


def test_a_network_for_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model 'lenet' needs images, .*got \(4,\)"):
        run_of(tmp_path, "data=cart_pole", "model=lenet")
