"""A small world of its own: a folder with a plug-in and YAML files for every group, and runs on the disk."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dlcli import registry
from dlcli.__main__ import run

PYTHON = """
from typing import Literal

from dlcli.hyperparameters import Count, Duration, PositiveFloat, Probability
from dlcli.registry import DATA, MODELS, OPTIMIZERS, SCHEDULERS, TASKS, TRAINERS


@MODELS.register("fake_net")
class FakeNet:
    def __init__(self, *, vocab_size: int, hidden_size: Count, dropout: Probability, cell: Literal["lstm", "gru"],
                 tied: bool, bias: bool | None):
        pass


@DATA.register("fake_text")
class FakeText:
    provides = ("vocab_size",)
    splits = ("train", "val")

    def __init__(self, *, path: str | None):
        pass


@TASKS.register("fake_task")
class FakeTask:
    metric_directions = {"loss": "min"}


@OPTIMIZERS.register("fake_optimizer")
class FakeOptimizer:
    def __init__(self, *, lr: PositiveFloat):
        pass


@SCHEDULERS.register("fake_linear")
class FakeLinear:
    def __init__(self, total_steps: int, steps_per_epoch: int, *, hold: Duration):
        if hold == 13:
            raise ValueError("13 brings bad luck")
        self.total_steps = total_steps

    def factor(self, step: int) -> float:
        return 1 - step / self.total_steps

    def state_dict(self):
        return {}


@TRAINERS.register("fake_trainer")
class FakeTrainer:
    def __init__(self, *, max_steps: Count | None, max_epochs: Count | None, monitor: str | None):
        pass
"""
NET = "name: fake_net\nhidden_size: {size}  # of the state\ndropout: 0.1\ncell: lstm\ntied: false\nbias: null\n"
FILES = {
    "fakes.py": PYTHON,
    "model/mlp.yaml": f"# A network that is the default here.\n# Source: nowhere, section 1\n{NET.format(size=8)}",
    "model/fake_large.yaml": f"# A wide network.\n# Source: nowhere, section 2\n{NET.format(size=512)}",
    "model/fake_wider.yaml": "# Wider still.\ndefaults:\n  - fake_large\nhidden_size: 1024\n",
    "data/shakespeare.yaml": "# A text.\nname: fake_text\npath: null\n",
    "data/fake_poems.yaml": (
        "# Poems, for which a large network is suggested.\n"
        "defaults:\n  - override /model@_global_.model: fake_large\nname: fake_text\npath: null\n"
    ),
    "task/classification.yaml": "# A task.\nname: fake_task\n",
    "optimizer/adamw.yaml": "# An optimizer.\nname: fake_optimizer\nlr: 0.01\n",
    "scheduler/constant.yaml": "# Falls to zero.\nname: fake_linear\nhold: 1 epoch\n",
    "trainer/minibatch.yaml": "# A trainer.\nname: fake_trainer\nmax_steps: null\nmax_epochs: 5\nmonitor: val/loss\n",
    "experiment/fake/wide.yaml": (
        "# @package _global_\n# A recipe.\n# Source: nowhere, section 3\n"
        "defaults:\n  - override /data: fake_poems\n  - override /model: fake_wider\nmodel:\n  dropout: 0.3\n"
    ),
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A working directory of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def own(tmp_path) -> Path:
    """The folder of the plug-in, for ``--plugin``."""
    for name, text in FILES.items():
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "own"


@pytest.fixture
def dlcli(capsys):
    """Run a command line in this process: ``code, out, err = dlcli("list", "model")``."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def process():
    """Run a command line in a process of its own."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dlcli", *map(str, arguments)]
        root = str(Path(registry.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": root, **options.pop("env", {})}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)

    return call


@pytest.fixture
def make_run():
    """Write a run folder: ``make_run("2026-01-01-lstm", status="failed")`` below ``runs``."""

    def make(name: str, folder: Path = Path("runs"), **summary: object) -> Path:
        directory = folder / name
        directory.mkdir(parents=True)
        (directory / "config.yaml").write_text("seed: 0\n")
        (directory / "last.pt").write_bytes(b"\0" * 200_000)
        content = {
            "status": "finished",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "steps": 1200,
            "seconds": 65.2,
            "best": {"metric": "val/loss", "value": 1.56789, "step": 1000},
            "choices": {"model": "lstm", "data": "shakespeare"},
            "data_source": "mirror",
            "created": f"2026-01-01T00:00:{len(list(folder.iterdir())):02d}",
            **summary,
        }
        (directory / "summary.json").write_text(json.dumps(content))
        return directory

    return make
