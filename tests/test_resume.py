"""A run that was interrupted, killed or damaged ends exactly as one that never was.

The model draws from all three random generators, so that forgetting any of them shows.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli import checkpoint
from dlcli.cli.train import resume_run, start_run
from dlcli.errors import ConfigError, DataError, Interrupted
from dlcli.run import Run
from tests.support.kill_server import run_in_fork, start_in_fork

NOISY = '''
"""A perceptron with dropout and with noise from Python's, NumPy's and torch's generators."""
import random

import numpy as np
import torch
from torch import nn

from dlcli.registry import MODELS


@MODELS.register("noisy")
class Noisy(nn.Module):
    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        size = torch.Size(input_shape).numel()
        self.layers = nn.Sequential(nn.Linear(size, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_outputs))

    def forward(self, inputs):
        inputs = inputs.flatten(1)
        if self.training:
            inputs = inputs * (1 + 0.1 * random.random()) + 0.1 * np.random.rand() + 0.1 * torch.rand_like(inputs)
        return self.layers(inputs)
'''

DIVERGING = [
    *("data=digits", "data.split_seed=2", "data.batch_size=200", "model=noisy", "task=classification"),
    *("trainer.precision=fp16", "optimizer=sgd_momentum", "optimizer.lr=5"),
    *("scheduler=reduce_on_plateau", "scheduler.patience=0"),
    *("trainer.ema_decay=0.5", "trainer.eval_every=2", "trainer.patience=4", "trainer.max_epochs=4"),
    *("trainer.log_every=3", "trainer.checkpoint_every=5"),
]
"""7 steps an epoch, evaluated every 2 steps. Best at step 14; the rate falls; patience ends the run at step 22."""

STREAMS = [
    *("data=text", "model=lstm", "model.hidden_size=8", "model.embedding_size=4", "model.dropout=0.2"),
    *("data.sequence_length=8", "data.batch_size=4", "trainer.max_steps=30", "trainer.eval_every=10"),
    *("trainer.log_every=5", "trainer.checkpoint_every=5"),
]


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    folder = tmp_path / "plugin"
    (folder / "model").mkdir(parents=True)
    (folder / "noisy.py").write_text(NOISY)
    (folder / "model" / "noisy.yaml").write_text("# Noise from three generators\nname: noisy\n")
    return str(folder)


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    generator = random.Random(0)
    file.write_text("".join(generator.choice("abcd efg\n") for _ in range(900)))
    return f"data.path={file}"


def begin(overrides: list[str], plugins: tuple[str, ...] = ()) -> Run:
    run: Run = start_run(overrides, command="test", config_dirs=[], plugins=list(plugins), quiet=True)
    return run


def again(directory: Path, overrides: tuple[str, ...] = (), plugins: tuple[str, ...] = ()) -> Run:
    run: Run = resume_run(directory, list(overrides), config_dirs=[], plugins=list(plugins), quiet=True)
    return run


def interrupt(run: Run, step: int) -> Path:
    """Train until a signal seems to arrive at ``step``; returns the run's folder."""
    asked = run.interrupted

    def interrupted() -> bool:
        if run.trainer.loop.step >= step:
            run.interruption.received = signal.SIGTERM
        return asked()

    run.interrupted = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=f"stopped at step {step}, saved; continue with: dlcli train --resume"):
        run.train()
    assert run.directory is not None
    return run.directory


def outcome(directory: Path) -> dict[str, Any]:
    """All that two equal runs agree on: every state to the bit, and the logs but for times."""
    state = checkpoint.load(directory / "last.pt")
    for key in ("seconds", "offsets"):
        del state["loop"][key]
    state["loop"]["latest"] = {k: v for k, v in state["loop"]["latest"].items() if not k.endswith("per_second")}
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k != "time" and not k.endswith("per_second")} for line in lines]
    best = checkpoint.load(directory / "best.pt")
    return {"last": state, "best": {key: best[key] for key in ("model", "optimizer", "rng")}, "log": kept}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_resume_equals_an_uninterrupted_run(tmp_path: Path, plugin: str) -> None:
    whole = begin([*DIVERGING, f"run_dir={tmp_path / 'whole'}"], (plugin,))
    whole.train()
    assert whole.directory is not None
    assert whole.summary["steps"] == 22, "the interruptions were chosen for a run that patience ends there"
    expected = outcome(whole.directory)
    for step in (0, 1, 6, 7, 8, 17):
        directory = interrupt(begin([*DIVERGING, f"run_dir={tmp_path / str(step)}"], (plugin,)), step)
        again(directory, plugins=(plugin,)).train()
        assert same(outcome(directory), expected), f"interrupted at step {step}"


def forget_optimizer(state: dict[str, Any]) -> None:
    for kept in state["optimizer"]["model"]["state"].values():
        for tensor in kept.values():
            tensor.zero_()


def forget_scheduler(state: dict[str, Any]) -> None:
    initial = begin_state["scheduler"]
    assert not same(state["scheduler"], initial), "the schedule has not listened yet: the test would prove nothing"
    state["scheduler"] = copy.deepcopy(initial)


def forget_random(name: str) -> Callable[[dict[str, Any]], None]:
    def forget(state: dict[str, Any]) -> None:
        state["rng"][name] = copy.deepcopy(begin_state["rng"][name])

    return forget


def forget_loop(**values: Any) -> Callable[[dict[str, Any]], None]:
    def forget(state: dict[str, Any]) -> None:
        changed = {key: value for key, value in values.items() if not same(state["loop"][key], value)}
        assert changed, "nothing was forgotten: the test would prove nothing"
        state["loop"].update(changed)

    return forget


def forget_average(state: dict[str, Any]) -> None:
    state["ema"] = {key: tensor.clone() for key, tensor in state["model"].items()}


def forget_scale(state: dict[str, Any]) -> None:
    state["scaler"] = {"scale": 2.0, "good_steps": 0}


begin_state: dict[str, Any] = {}

OMISSIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "optimizer": forget_optimizer,
    "scheduler": forget_scheduler,
    "python generator": forget_random("python"),
    "numpy generator": forget_random("numpy"),
    "torch generator": forget_random("torch"),
    "epoch": forget_loop(epoch=5),
    "position in the epoch": forget_loop(position=0),
    "loss scale": forget_scale,
    "averaged weights": forget_average,
    "early stopping": forget_loop(stale=0),
    "best metric": forget_loop(best=None),
    "lengths of the logs": forget_loop(offsets={}),
    "losses since the last log": forget_loop(recent={}),
    "latest evaluation": forget_loop(evaluated=-1),
}


@pytest.fixture(scope="module")
def interrupted_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Path], str, dict[str, Any]]:
    """Folders interrupted at steps 11 and 17, their plug-in, and what the uninterrupted run came to."""
    folder = tmp_path_factory.mktemp("omissions")
    (folder / "plugin" / "model").mkdir(parents=True)
    (folder / "plugin" / "noisy.py").write_text(NOISY)
    (folder / "plugin" / "model" / "noisy.yaml").write_text("# Noise\nname: noisy\n")
    plugin = str(folder / "plugin")
    first = interrupt(begin([*DIVERGING, f"run_dir={folder / 'first'}"], (plugin,)), 0)
    begin_state.update(checkpoint.load(first / "last.pt"))
    whole = begin([*DIVERGING, f"run_dir={folder / 'whole'}"], (plugin,))
    whole.train()
    assert whole.directory is not None
    cut = {step: interrupt(begin([*DIVERGING, f"run_dir={folder / str(step)}"], (plugin,)), step) for step in (11, 17)}
    return cut, plugin, outcome(whole.directory)


@pytest.mark.parametrize("part", ["nothing", *OMISSIONS])
def test_leaving_out_any_part_of_the_state_shows(
    tmp_path: Path, interrupted_run: tuple[dict[int, Path], str, dict[str, Any]], part: str
) -> None:
    folders, plugin, expected = interrupted_run
    # That a step was evaluated already only matters in a checkpoint of such a step: the regular one of step 10.
    step, name = (11, "previous.pt") if part == "latest evaluation" else (17, "last.pt")
    directory = tmp_path / folders[step].name
    shutil.copytree(folders[step], directory)
    state = checkpoint.load(directory / name)
    if part != "nothing":
        OMISSIONS[part](state)
    del state["format_version"]
    checkpoint.save(directory / "last.pt", state, keep_previous=False)
    again(directory, plugins=(plugin,)).train()
    assert same(outcome(directory), expected) == (part == "nothing")


def test_carried_state_of_streams_is_resumed(tmp_path: Path, text: str) -> None:
    whole = begin([*STREAMS, text, f"run_dir={tmp_path / 'whole'}"])
    whole.train()
    assert whole.directory is not None
    expected = outcome(whole.directory)
    directory = interrupt(begin([*STREAMS, text, f"run_dir={tmp_path / 'cut'}"]), 12)
    state = checkpoint.load(directory / "last.pt")
    assert [tuple(tensor.shape) for tensor in state["loop"]["carry"]] == [(1, 4, 8), (1, 4, 8)]
    again(directory).train()
    assert same(outcome(directory), expected)

    forgotten = interrupt(begin([*STREAMS, text, f"run_dir={tmp_path / 'forgotten'}"]), 12)
    state = checkpoint.load(forgotten / "last.pt")
    state["loop"]["carry"] = None
    del state["format_version"]
    checkpoint.save(forgotten / "last.pt", state, keep_previous=False)
    again(forgotten).train()
    assert not same(outcome(forgotten), expected)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "adagrad", "yogi"])
def test_resume_at_every_step(tmp_path: Path, optimizer: str, accumulate: int) -> None:
    overrides = [
        *("data=digits", "model=mlp", "model.hidden_sizes=[8]", "model.dropout=0.2", "trainer.max_epochs=3"),
        *(f"optimizer={optimizer}", "scheduler=cosine", "data.batch_size=320", f"trainer.accumulate={accumulate}"),
    ]
    whole = begin([*overrides, f"run_dir={tmp_path / 'whole'}"])
    whole.train()
    assert whole.directory is not None
    expected = checkpoint.load(whole.directory / "last.pt")["model"]
    for step in range(whole.summary["steps"]):
        directory = interrupt(begin([*overrides, f"run_dir={tmp_path / str(step)}"]), step)
        again(directory).train()
        assert same(checkpoint.load(directory / "last.pt")["model"], expected), step


# ------------------------------------------------------------------ kills and signals


def train_in_child(overrides: list[str], folder: str) -> None:
    """Begin the run in ``folder``, or continue the one that is there; ends with dlcli's exit code."""
    torch.set_num_threads(1)
    found = [path for path in Path(folder).glob("*") if (path / "spec.json").exists()]
    try:
        run = again(found[0]) if found else begin([*overrides, f"run_dir={folder}"])
        run.train()
    except Interrupted as stop:
        sys.exit(stop.exit_code)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    (directory,) = (path for path in folder.iterdir() if (path / "summary.json").exists())
    assert json.loads((directory / "summary.json").read_text())["status"] == "finished"
    weights: dict[str, torch.Tensor] = checkpoint.load(directory / "last.pt")["model"]
    return weights


KILLED = [
    *("data=digits", "model=mlp", "model.hidden_sizes=[32]", "model.dropout=0.2", "trainer.max_epochs=15"),
    *("trainer.checkpoint_every=2", "trainer.eval_every=25", "trainer.log_every=5", "scheduler=one_cycle"),
]


def test_fifty_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """What a kill in the midst of writing a checkpoint leaves is tested call by call in test_checkpoint."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_in_fork(train_in_child, KILLED, str(whole)) == 0
    expected = final_weights(whole)
    moments = random.Random(1)
    kills = finished = 0
    while kills < 50 or not finished:
        folder = tmp_path / f"killed-{finished}"
        folder.mkdir(exist_ok=True)
        process = start_in_fork(train_in_child, KILLED, str(folder))
        process.join(moments.uniform(0.05, 0.6) if kills < 50 else 60)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert same(final_weights(folder), expected)
            finished += 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_resumed_run_is_equal(tmp_path: Path, number: int, code: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert run_in_fork(train_in_child, KILLED, str(whole)) == 0
    process = start_in_fork(train_in_child, KILLED, str(cut))
    wait_for_checkpoint(cut)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == code
    (directory,) = cut.iterdir()
    assert json.loads((directory / "summary.json").read_text())["status"] == "stopped"
    assert run_in_fork(train_in_child, KILLED, str(cut)) == 0
    assert same(final_weights(cut), final_weights(whole))


def wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while not list(folder.glob("*/last.pt")):
        assert time.monotonic() < deadline, "no checkpoint after 30 s"
        time.sleep(0.01)


# ------------------------------------------------------------------ refusals


def test_a_damaged_last_checkpoint_falls_back_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["data=digits", "trainer.max_steps=20", "trainer.checkpoint_every=5", f"run_dir={tmp_path}"]
    directory = interrupt(begin(overrides), 12)
    whole = directory / "last.pt"
    whole.write_bytes(whole.read_bytes()[:-100])
    run: Run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=False)
    assert "previous.pt" in capsys.readouterr().out
    assert run.resume_state is not None
    assert run.resume_state["loop"]["step"] == 10
    run.train()
    assert run.summary["steps"] == 20


def test_both_checkpoints_damaged_is_refused(tmp_path: Path) -> None:
    directory = interrupt(begin(["data=digits", f"run_dir={tmp_path}", "trainer.checkpoint_every=5"]), 12)
    for name in ("last.pt", "previous.pt"):
        (directory / name).write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="both"):
        again(directory)


def test_other_data_are_refused(tmp_path: Path, text: str) -> None:
    directory = interrupt(begin([*STREAMS, text, f"run_dir={tmp_path / 'runs'}"]), 12)
    file = Path(text.partition("=")[2])
    file.write_text(file.read_text().replace("a", "b", 1))
    with pytest.raises(DataError, match=r"the data 'text' \(own file\) are not those that the run was started with"):
        again(directory)


def test_only_the_budget_and_the_logging_may_change(tmp_path: Path) -> None:
    directory = interrupt(begin(["data=digits", f"run_dir={tmp_path}"]), 3)
    with pytest.raises(ConfigError, match=r"optimizer.lr cannot change when a run is resumed; only trainer\."):
        again(directory, ("optimizer.lr=1",))
    run = again(directory, ("trainer.max_epochs=null", "trainer.max_steps=6"))
    run.train()
    assert run.summary["steps"] == 6


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    overrides = ["data=digits", "trainer.max_steps=5"]
    run = begin([*overrides, f"run_dir={tmp_path / 'a'}"])
    assert run.directory is not None
    with pytest.raises(ConfigError, match=rf"{run.directory.name} is running \(process {os.getpid()}\); end it first"):
        again(run.directory)
    summary = run.directory / "summary.json"
    summary.write_text(summary.read_text().replace('"pid_started": ', '"pid_started": 1'))  # another process's number
    whole = begin([*overrides, f"run_dir={tmp_path / 'b'}"])
    whole.train()
    assert whole.directory is not None
    again(run.directory).train()
    assert same(outcome(run.directory), outcome(whole.directory))
