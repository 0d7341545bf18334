"""What scripts/flower runs: its command line, and that its rounds are dlcli's, in a small stand-in for Flower.

Flower itself need not be here; with -m slow it is tried where scripts/flower has made its environment.
"""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flower_rounds import __main__ as command_line

from dlcli import load_run, train
from dlcli.errors import ConfigError, DataError
from dlcli.run_records import read_json

ROOT = Path(__file__).parents[1]
DIGITS = [
    *("data=digits", "model=linear", "optimizer=sgd", "optimizer.lr=0.05", "data.batch_size=64", "scheduler=cosine"),
    *("trainer=federated_averaging", "trainer.rounds=3", "trainer.clients=4", "trainer.partition=dirichlet"),
    *("trainer.dirichlet_alpha=1", "trainer.local_epochs=2"),
]


class Message:
    """Content on its way, or the reason why there is none."""

    def __init__(self, content: Any = None, *, reply_to: Message | None = None, failed: bool = False):
        self.content, self.failed = content, failed
        self.metadata = SimpleNamespace(reply_to_message_id=id(reply_to))

    def has_error(self) -> bool:
        return self.failed


class FedAvg:
    """The same question for every client; means of arrays and of metrics, weighted by one of the metrics."""

    def __init__(self, *, min_train_nodes: int, min_available_nodes: int, weighted_by_key: str):
        self.nodes, self.key = min_train_nodes, weighted_by_key

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> list[Message]:
        return [Message({"arrays": arrays, "config": config}) for _ in range(self.nodes)]

    def aggregate_train(self, server_round: int, replies: list[Message]) -> tuple[Any, Any]:
        contents = [reply.content for reply in replies if not reply.has_error()]
        if not contents:
            return None, None
        shares = np.array([content["metrics"][self.key] for content in contents], dtype=float)
        shares /= shares.sum()
        pairs = list(zip(shares, contents, strict=True))
        names = contents[0]["metrics"].keys() - {self.key}
        mean = sum(share * content["arrays"]["weights"].numpy() for share, content in pairs)
        means = {name: sum(share * content["metrics"][name] for share, content in pairs) for name in names}
        return {"weights": Array(mean)}, means


class Array:
    def __init__(self, values: Any):
        self.bytes = np.asarray(values).tobytes()

    def numpy(self) -> Any:
        return np.frombuffer(self.bytes).copy()


class App:
    """Of a server or of clients: its decorators leave functions as they are."""

    def main(self) -> Any:
        return lambda function: function

    train = main


class Grid:
    """Clients with the numbers ``numbers``, whose replies arrive one at a time and in the wrong order."""

    def __init__(self, federation: ModuleType, overrides: list[str], numbers: list[int], silent: int | None = None):
        self.answer, self.overrides, self.numbers, self.silent = federation.answer, overrides, numbers, silent

    def push_messages(self, messages: list[Message]) -> list[int]:
        self.replies = []
        for number, message in zip(self.numbers, messages, strict=True):
            context = SimpleNamespace(
                run_config={"overrides": shlex.join(self.overrides)}, node_config={"client": number}
            )
            silent = number == self.silent
            self.replies.append(Message(reply_to=message, failed=True) if silent else self.answer(message, context))
        self.messages = messages
        return [id(message) for message in messages]

    def pull_messages(self, waiting: set[int]) -> list[Message]:
        reply = self.replies.pop()
        assert reply.metadata.reply_to_message_id in waiting
        return [reply]


@pytest.fixture
def federation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with the stand-in for Flower."""
    modules = {
        "flwr": {},
        "flwr.app": {
            "Array": Array,
            "Message": Message,
            "Context": SimpleNamespace,
            **dict.fromkeys(("ArrayRecord", "ConfigRecord", "MetricRecord", "RecordDict"), dict),
        },
        "flwr.clientapp": {"ClientApp": App},
        "flwr.serverapp": {"ServerApp": App, "Grid": Grid},
        "flwr.serverapp.strategy": {"FedAvg": FedAvg},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "flower_rounds.federation", raising=False)
    module = importlib.import_module("flower_rounds.federation")
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.delitem(sys.modules, "flower_rounds.federation")
    return module


def over_flower(federation: ModuleType, folder: Path, numbers: list[int], **options: Any) -> Path:
    """The folder of the run that the stand-in's clients with these numbers have trained."""
    overrides = [*DIGITS, f"run_dir={folder}"]
    context = SimpleNamespace(run_config={"overrides": shlex.join(overrides)})
    federation.serve(Grid(federation, options.pop("clients", overrides), numbers, **options), context)
    (directory,) = folder.iterdir()
    return directory


def summary(directory: Path) -> dict[str, dict[str, float]]:
    """What a run has measured, by split."""
    measured: dict[str, dict[str, float]] = read_json(directory / "summary.json")["metrics"]
    return measured


def weights(directory: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in load_run(str(directory)).model.state_dict().values()])


def test_rounds_over_flower_are_those_of_the_trainer(federation: ModuleType, tmp_path: Path) -> None:
    """Unequal parts, a schedule, two passes, answers in another order: the same weights and the same record."""
    own = train([*DIGITS, f"run_dir={tmp_path / 'own'}"])
    over = over_flower(federation, tmp_path / "over", [2, 0, 3, 1])
    assert len({len(part) for part in own.trainer.parts}) > 1
    torch.testing.assert_close(weights(over), weights(own.directory), rtol=0, atol=1e-6)
    assert summary(over)["val"] == pytest.approx(own.summary["metrics"]["val"], abs=1e-6)
    measured = summary(over)["train"]
    assert measured["clients"] == 4
    assert measured["update_norm"] == pytest.approx(own.summary["metrics"]["train"]["update_norm"], abs=1e-6)
    assert measured["megabytes_sent"] == pytest.approx(4 * 8 * 65 * 10 / 1e6)


def test_a_client_that_fails_is_left_out_of_the_mean(federation: ModuleType, tmp_path: Path) -> None:
    over = over_flower(federation, tmp_path, [0, 1, 2, 3], silent=1)
    assert summary(over)["train"]["clients"] == 3


def test_clients_that_cannot_belong_together_are_refused(federation: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clients \[0, 1, 1, 2\] have answered; start each with a number of its own"):
        over_flower(federation, tmp_path / "twice", [0, 1, 1, 2])
    with pytest.raises(ConfigError, match="client 4: expected a number from 0 to 3"):
        over_flower(federation, tmp_path / "many", [0, 1, 2, 4])
    others = ["data=edges", "model=linear", "trainer=federated_averaging", "trainer.clients=1"]
    with pytest.raises(DataError, match="client 0: its data are not the server's"):
        over_flower(federation, tmp_path / "data", [0, 1, 2, 3], clients=others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=digits"], "trainer 'minibatch': only trainer=federated_averaging has clients"),
        ([*DIGITS, "trainer.drop_out=0.1"], "trainer.drop_out=0.1: not offered over Flower"),
        ([*DIGITS, "trainer.secure_aggregation=masks"], "trainer.secure_aggregation=masks: not offered over Flower"),
        ([*DIGITS, "init_from=latest"], "init_from=latest: over Flower runs begin from their seed"),
        ([*DIGITS, "trainer.clients=null"], "trainer.clients=null: start server and clients on their own"),
        ([*DIGITS, "trainer.round=3"], "trainer.rounds"),
        (["server"], "server: expected server HOST:PORT"),
        (["server", "here", *DIGITS], "here: expected an address HOST:PORT"),
        (["client", "127.0.0.1:1"], "client 127.0.0.1:1: expected client HOST:PORT NUMBER"),
        (["client", "127.0.0.1:1", "one"], "client 127.0.0.1:1 one: expected client HOST:PORT NUMBER"),
        (["client", "127.0.0.1", "1"], "127.0.0.1: expected an address HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("scripts/flower: ")
    assert message in said


def test_help_names_the_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"scripts/flower {way}" in said for way in ("[OVERRIDE...]", "server ADDRESS", "client ADDRESS NUMBER"))


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".flower-venv").exists(), reason="scripts/flower has not been run here")
def test_flower_itself_comes_to_the_same_weights(tmp_path: Path) -> None:
    own = train([*DIGITS, f"run_dir={tmp_path / 'own'}"])
    over = tmp_path / "over"
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([ROOT / "scripts/flower", *DIGITS, f"run_dir={over}"], cwd=tmp_path, env=variables, check=True)
    (directory,) = over.iterdir()
    torch.testing.assert_close(weights(directory), weights(own.directory), rtol=0, atol=1e-6)
