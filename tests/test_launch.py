"""Several processes train one model: as one would, resumed by one, and ended together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from dlcli import checkpoint, launch, train
from dlcli.cli.train import resume_run
from dlcli.errors import ConfigError, DlcliError, Interrupted, NonFiniteError
from dlcli.processes import Server

ROOT = Path(__file__).parents[1]
WAIT = 120.0  # only against hanging
TWO = "trainer.devices=2"
QUICK = ["trainer.log_every=1", "trainer.device=cpu", "trainer.eval_every=20", "trainer.checkpoint_every=20"]
DIGITS = ["data=digits", "model=mlp", "model.hidden_sizes=[16]", "data.batch_size=64", *QUICK]

TROUBLE = '''
"""A classifier with dropout and batch normalisation that can get into trouble at one step, on process 1."""
import os
import signal
import time

import torch
from torch import nn

from dlcli.hyperparameters import Count, Probability
from dlcli.registry import MODELS


@MODELS.register("trouble")
class Trouble(nn.Module):
    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, kind: str, bad_step: Count,
                 dropout: Probability):
        super().__init__()
        self.hidden = nn.Linear(torch.Size(input_shape).numel(), 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(16, num_outputs)
        self.kind, self.bad_step, self.calls = kind, bad_step, 0

    def forward(self, inputs):
        self.calls += self.training
        second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        outputs = self.output(self.dropout(self.norm(self.hidden(inputs.flatten(1))).relu()))
        if self.kind == "slow":
            time.sleep(0.02)
        elif second and self.training and self.calls == self.bad_step:
            if self.kind == "raise":
                raise ValueError("the second process cannot go on")
            if self.kind == "hang":
                time.sleep(600)
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "overflow":
                outputs = outputs * float("nan")
        return outputs
'''


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(warm=["dlcli.run", "sklearn.datasets"]) as server:
        yield server


@pytest.fixture(autouse=True)
def _one_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every launch of this module uses the same server, which has torch imported already."""
    monkeypatch.setattr(launch, "Server", lambda **_: contextlib.nullcontext(server))


@pytest.fixture
def trouble(tmp_path: Path) -> str:
    folder = tmp_path / "plugin"
    (folder / "model").mkdir(parents=True)
    (folder / "trouble.py").write_text(TROUBLE)
    (folder / "model" / "trouble.yaml").write_text("# Trouble\nname: trouble\nkind: none\nbad_step: 10\ndropout: 0.0\n")
    return str(folder)


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """A language model with carried state on a small text, in seven streams."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{number * number} is the square of {number}. " for number in range(400)))
    model = ["model=lstm", "model.hidden_size=12", "model.dropout=0.0"]
    data = ["data=text", f"data.path={file}", "data.batch_size=7", "data.sequence_length=24"]
    return [*data, *model, *QUICK, "trainer.checkpoint_every=13"]


def directory_of(run: Any) -> Path:
    assert run.directory is not None
    return Path(run.directory)


def logged(directory: Path, key: str = "train/loss") -> dict[int, float]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line[key] for line in map(json.loads, lines) if key in line}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load(directory / "last.pt")["model"]
    return state


def alone_and_together(folder: Path, *overrides: str, plugins: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """The same run by one process and by two."""
    alone = train([*overrides, f"run_dir={folder}/alone"], plugins=plugins)
    together = train([*overrides, f"run_dir={folder}/together", TWO], plugins=plugins)
    return directory_of(alone), directory_of(together)


def resume(directory: Path, *overrides: str, plugins: tuple[str, ...] = ()) -> Any:
    run = resume_run(directory, list(overrides), config_dirs=[], plugins=list(plugins), quiet=True)
    run.train()
    return run


def assert_equal_runs(one: Path, other: Path, rtol: float, *, steps: int = 50) -> None:
    expected, found = logged(one), logged(other)
    assert list(found) == list(expected) == list(range(1, steps + 1))
    for step, value in expected.items():
        assert found[step] == pytest.approx(value, rel=rtol), f"step {step}"
    for key in ("val/loss", "train/gradient_norm", "train/learning_rate"):
        expected, found = logged(one, key), logged(other, key)
        assert expected == pytest.approx({step: found[step] for step in expected}, rel=10 * rtol)
    before, after = weights(one), weights(other)
    assert list(before) == list(after)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=10 * rtol)


# ---------------------------------------------------------------------- two are as one


@pytest.mark.parametrize(("precision", "rtol", "batch_size"), [("fp64", 1e-10, 157), ("fp32", 1e-6, 64)])
def test_two_processes_train_as_one_does(tmp_path: Path, precision: str, rtol: float, batch_size: int):
    """50 steps over several epochs of 1,257 examples: the last batch of each has an odd 41 of them, or a single one."""
    overrides = [*DIGITS, f"data.batch_size={batch_size}", f"trainer.precision={precision}", "trainer.max_steps=50"]
    assert_equal_runs(*alone_and_together(tmp_path, *overrides, "trainer.clip_norm=1.0"), rtol)


@pytest.mark.parametrize(("precision", "rtol"), [("fp64", 1e-10), ("fp32", 1e-6)])
def test_streams_with_carried_state_are_divided(tmp_path: Path, text: list[str], precision: str, rtol: float):
    overrides = [*text, "trainer.max_steps=50", f"trainer.precision={precision}"]
    alone, together = alone_and_together(tmp_path, *overrides)
    assert_equal_runs(alone, together, rtol)
    carries = [checkpoint.load(directory / "previous.pt")["loop"]["carry"] for directory in (alone, together)]
    assert [tensor.shape for tensor in carries[1]] == [tensor.shape for tensor in carries[0]]
    for one, other in zip(*carries, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=100 * rtol)


def test_accumulated_batches_and_averaged_weights(tmp_path: Path):
    overrides = [*DIGITS, "trainer.max_steps=15", "trainer.accumulate=3", "trainer.ema_decay=0.9"]
    assert_equal_runs(*alone_and_together(tmp_path, *overrides, "trainer.precision=fp64"), 1e-10, steps=15)


def test_batch_normalisation_over_all_processes(tmp_path: Path, trouble: str):
    overrides = [*DIGITS[:1], "model=trouble", "data.batch_size=64", *QUICK]
    overrides += ["trainer.max_steps=25", "trainer.precision=fp64", "trainer.sync_batch_norm=true"]
    assert_equal_runs(*alone_and_together(tmp_path, *overrides, plugins=(trouble,)), 1e-9, steps=25)


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_another_number_of_processes_resumes(tmp_path: Path, text: list[str], first: int, second: int):
    overrides = [*text, "trainer.precision=fp64", "scheduler=constant"]  # a schedule that knows no end
    whole = train([*overrides, "trainer.max_steps=50", f"run_dir={tmp_path}/whole"])
    begun = train([*overrides, "trainer.max_steps=27", f"run_dir={tmp_path}/part", f"trainer.devices={first}"])
    resume(directory_of(begun), "trainer.max_steps=50", f"trainer.devices={second}")
    assert_equal_runs(directory_of(whole), directory_of(begun), 1e-10)


def test_the_python_interface_returns_the_run(tmp_path: Path):
    run = train([*DIGITS, "trainer.max_steps=5", f"run_dir={tmp_path}", TWO])
    assert run.summary["status"] == "finished"
    assert set(run.summary["metrics"]) == {"train", "val", "test"}
    assert run.config["trainer"]["devices"] == 2
    assert sum(parameter.numel() for parameter in run.model.parameters()) == run.summary["parameters"]


# ---------------------------------------------------------------------- signals


def when_logged(folder: Path, steps: int, action: Callable[[], None]) -> threading.Thread:
    """Do something as soon as the run in this folder has logged so many steps."""

    def watch() -> None:
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            for file in folder.glob("*/metrics.jsonl"):
                if file.read_bytes().count(b"\n") >= steps:
                    action()
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on_as_if_never_stopped(
    tmp_path: Path, trouble: str, number: signal.Signals, code: int
):
    """With dropout: each process goes on with its own random numbers."""
    overrides = ["data=digits", "model=trouble", "model.kind=slow", "model.dropout=0.5", *QUICK, TWO]
    overrides += ["trainer.max_steps=60", "trainer.checkpoint_every=null"]
    whole = train([*overrides, f"run_dir={tmp_path}/whole"], plugins=[trouble])
    thread = when_logged(tmp_path / "part", 10, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match=r"stopped at step \d+, saved; continue with: dlcli train --resume") as caught:
        train([*overrides, f"run_dir={tmp_path}/part"], plugins=[trouble])
    thread.join()
    assert caught.value.exit_code == code
    (directory,) = (tmp_path / "part").iterdir()
    assert json.loads((directory / "summary.json").read_text())["status"] == "stopped"
    assert 10 <= checkpoint.load(directory / "last.pt")["loop"]["step"] < 60
    resume(directory, plugins=(trouble,))
    for name, tensor in weights(directory_of(whole)).items():
        assert torch.equal(weights(directory)[name], tensor)


def test_the_time_limit_ends_all_at_the_same_step(tmp_path: Path, trouble: str):
    overrides = ["data=digits", "model=trouble", "model.kind=slow", *QUICK, TWO, "trainer.max_minutes=0.02"]
    run = train([*overrides, "trainer.max_epochs=null", f"run_dir={tmp_path}"], plugins=[trouble])
    assert run.summary["status"] == "finished"
    assert run.summary["reason"] == "the time is over: trainer.max_minutes=0.02"


# ---------------------------------------------------------------------- trouble on one process


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            "kill",
            DlcliError,
            r"^process 1 of 2 was ended by signal 9; continue with: dlcli train --resume \S+/runs/\S+$",
        ),
        ("raise", DlcliError, r"^process 1 of 2: ValueError: the second process cannot go on; the traceback is in .*$"),
        ("hang", DlcliError, r"^process 1 of 2 did not answer for trainer\.process_timeout=2 seconds; continue with"),
        ("overflow", NonFiniteError, r"^the loss is nan at step 30 \(epoch 1\)"),
    ],
)
def test_trouble_on_one_process_ends_all(
    tmp_path: Path, trouble: str, server: Server, kind: str, error: type[DlcliError], message: str
):
    overrides = ["data=digits", "model=trouble", f"model.kind={kind}", "model.bad_step=30", *QUICK, TWO]
    before = len(psutil.Process(server._process.pid).children())
    with pytest.raises(error, match=message) as caught:
        train(
            [*overrides, "trainer.max_steps=60", "trainer.process_timeout=2", f"run_dir={tmp_path}/runs"],
            plugins=[trouble],
        )
    assert caught.value.exit_code != 0
    assert "\n" not in str(caught.value)
    assert len(psutil.Process(server._process.pid).children()) == before
    (directory,) = (tmp_path / "runs").iterdir()
    # The last checkpoint, of step 20, is good.
    resumed = resume(directory, "trainer.max_steps=22", "trainer.devices=1", plugins=(trouble,))
    assert resumed.summary["status"] == "finished"


def test_a_killed_parent_leaves_no_orphan(tmp_path: Path, trouble: str):
    overrides = ["data=digits", "model=trouble", "model.kind=slow", *QUICK, TWO, f"run_dir={tmp_path}/runs"]
    command = [sys.executable, "-m", "dlcli", "train", *overrides, "--plugin", trouble, "trainer.max_epochs=1000"]
    parent = subprocess.Popen(command, cwd=ROOT)
    try:
        found: list[psutil.Process] = []
        thread = when_logged(tmp_path / "runs", 5, lambda: found.extend(psutil.Process(parent.pid).children(True)))
        thread.join()
    finally:
        parent.kill()
        parent.wait()
    assert len(found) >= 3  # the server and its two processes
    _, alive = psutil.wait_procs(found, timeout=10)
    assert alive == []


# ---------------------------------------------------------------------- other launchers, and mistakes


def test_torchrun_starts_the_same_command(tmp_path: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "dlcli"]
    overrides = [*DIGITS, "trainer.max_steps=20", "trainer.precision=fp64"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "train", *overrides, f"run_dir={tmp_path}/torchrun"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done   the budget of steps or epochs is used") == 1  # one of them speaks
    (directory,) = (tmp_path / "torchrun").iterdir()
    alone = train([*overrides, f"run_dir={tmp_path}/alone"])
    assert_equal_runs(directory_of(alone), directory, 1e-10, steps=20)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.batch_size=1", TWO],
            r"data\.batch_size=1 cannot be divided among trainer\.devices=2 processes; it counts",
        ),
        (["trainer.devices=0"], r"trainer\.devices=0: expected"),
    ],
)
def test_what_cannot_be_divided(tmp_path: Path, overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        train([*DIGITS, *overrides, f"run_dir={tmp_path}"])
    assert not any(path.name.startswith("mlp") for path in tmp_path.iterdir())


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch):
    from dlcli.distributed import own_device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"trainer\.devices=3: this machine has 2 GPUs; use trainer\.devices=2 or"):
        own_device(torch.device("cuda"), 0, 3)
    assert own_device(torch.device("cuda"), 1, 2) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda:1 is a single device, and trainer\.devices=2"):
        own_device(torch.device("cuda:1"), 0, 2)


def test_another_number_than_the_launcher_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: the launcher has started 4 processes; leave the opt"):
        train([*DIGITS, TWO, f"run_dir={tmp_path}"])
