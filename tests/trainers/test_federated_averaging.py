"""Federated averaging: against plain descent, with and without protection, cut off and resumed, and its refusals."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlcli import checkpoint, load_run, train
from dlcli.cli.train import resume_run
from dlcli.data.base import TensorData
from dlcli.errors import ConfigError, Interrupted, NonFiniteError
from dlcli.federated import aggregation, masks, paillier
from dlcli.federated.vectors import snapshot
from dlcli.trainers import federated_averaging

DIGITS = ["data=digits", "model=linear", "optimizer=sgd", "trainer=federated_averaging", "trainer.rounds=2"]
SMALL = ["data.batch_size=64", "trainer.clients=4", "optimizer.lr=0.05"]
MOMENTUM = [  # a model with batch normalisation, and frozen weights that follow others
    *("model=momentum_contrast", "model.stages=[[1,8]]", "task=contrastive", "task.probe_per_class=5"),
    *("task.neighbors=3", "data.augmentation={resized_crop:[0.3,1.0,0.75,1.33]}", "data.batch_size=256"),
    "trainer.eval_every=3",
]


def weights(run: Any) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in run.model.state_dict().values()])


def federated(folder: Path, *overrides: str) -> Any:
    return train([*DIGITS, *SMALL, f"run_dir={folder}", *overrides])


def rows(run: Any) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.fixture
def short_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of 256 bits, so that tests are quick."""
    key = paillier.generate(256)
    monkeypatch.setattr(federated_averaging, "generate", lambda _: key)


def test_a_federated_run_is_a_run(tmp_path: Path) -> None:
    run = federated(tmp_path, "trainer.rounds=5", "trainer.local_epochs=2")
    assert (run.summary["status"], run.summary["steps"], run.summary["epochs"]) == ("finished", 5, 10)
    assert run.summary["metrics"]["test"]["accuracy"] > 0.9
    assert [row["step"] for row in rows(run)] == [1, 2, 3, 4, 5]
    assert {"train/accuracy", "train/update_norm", "train/learning_rate"} <= set(rows(run)[0])
    assert rows(run)[0]["train/clients"] == 4
    assert rows(run)[0]["train/megabytes_sent"] == pytest.approx(4 * 8 * (65 * 10 + 1) / 1e6)
    assert load_run(str(run.directory)).evaluate("val") == run.summary["metrics"]["val"]
    assert {"model", "scheduler", "loop", "rng"} <= set(checkpoint.load(run.directory / "last.pt"))


def test_one_client_with_all_data_is_plain_descent(tmp_path: Path) -> None:
    options = ["trainer.clients=1", "trainer.partition=consecutive", "trainer.shuffle=false", "trainer.rounds=3"]
    alone = federated(tmp_path, *options)
    plain = train(
        [
            *("data=digits", "model=linear", "optimizer=sgd", "optimizer.lr=0.05", "data.batch_size=64"),
            *("trainer.shuffle=false", "trainer.max_epochs=3", f"run_dir={tmp_path}"),
        ]
    )
    torch.testing.assert_close(weights(alone), weights(plain), rtol=0, atol=1e-6)


def test_one_step_of_each_client_is_one_step_on_all_data(tmp_path: Path) -> None:
    """With one batch for each client the weighted mean of the gradients is that of all data, also for unequal parts."""
    unequal = ["trainer.partition=dirichlet", "trainer.dirichlet_alpha=1", "trainer.rounds=1"]
    options = ["data.batch_size=2000", "optimizer.lr=0.05"]
    together = federated(tmp_path, *unequal, *options)
    plain = train(
        ["data=digits", "model=linear", "optimizer=sgd", *options, "trainer.max_epochs=1", f"run_dir={tmp_path}"]
    )
    assert len({len(part) for part in together.trainer.parts}) > 1
    torch.testing.assert_close(weights(together), weights(plain), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("short_key")
@pytest.mark.parametrize(("kind", "tolerance"), [("masks", 1e-6), ("paillier", 1e-4)])
@pytest.mark.parametrize("silent", ["0.0", "0.3"])
def test_protection_changes_nothing_but_what_the_server_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tolerance: float, silent: str
) -> None:
    """The weights are the same, and no plain update of a client is ever handed to the server."""
    options = ["trainer.clients=7", f"trainer.drop_out={silent}"]
    plain = federated(tmp_path, *options)
    updates, given = [], []
    keep = federated_averaging.FederatedAveragingTrainer._weighted

    def weighted(self: Any, client: int, update: Any) -> Any:
        updates.append(keep(self, client, update))
        return updates[-1]

    monkeypatch.setattr(federated_averaging.FederatedAveragingTrainer, "_weighted", weighted)
    server: Any = aggregation.EncryptedServer if kind == "paillier" else masks.MaskedServer
    receive = server.receive

    def recorded(self: Any, client: int, message: Any) -> None:
        given.append(message)
        receive(self, client, message)

    monkeypatch.setattr(server, "receive", recorded)
    run = federated(tmp_path, *options, f"trainer.secure_aggregation={kind}")
    torch.testing.assert_close(weights(run), weights(plain), rtol=0, atol=tolerance)
    assert [row["train/clients"] for row in rows(run)] == [row["train/clients"] for row in rows(plain)]
    assert len(given) == len(updates) == sum(int(row["train/clients"]) for row in rows(run))
    for update, message in zip(updates, given, strict=True):
        if kind == "paillier":
            sent = [ciphertext % 2**48 for ciphertext in message]
            packed = aggregation.pack(np.rint(update * 2.0**32).astype(np.int64).tolist(), aggregation.slots(256))
            assert not set(sent) & {message % 2**48 for message in packed}
        else:
            integers = np.rint(update * 2.0**32).astype(np.int64)
            assert abs(np.corrcoef(message.view(np.int64).astype(float), integers.astype(float))[0, 1]) < 0.2
            assert (message.view(np.int64) == integers).mean() < 0.01


def test_a_round_that_too_few_answer_leaves_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["trainer.drop_out=0.9", "trainer.secure_aggregation=masks", "trainer.rounds=1"]
    run = train([*DIGITS, *SMALL, *options, f"run_dir={tmp_path}"], quiet=False)
    assert "clients answered, and masks need 3; the model stays as it is" in capsys.readouterr().out
    assert rows_without_loss(run)[0]["train/update_norm"] == 0


def test_a_run_goes_on_for_more_rounds(tmp_path: Path) -> None:
    whole = federated(tmp_path / "whole", "trainer.rounds=3")
    part = federated(tmp_path / "part", "trainer.rounds=1")
    run = resume_run(part.directory, ["trainer.rounds=3"], config_dirs=[], plugins=[], quiet=True)
    run.train()
    assert torch.equal(weights(run), weights(whole))
    with pytest.raises(ConfigError, match=r"has 3 steps behind it already, more than trainer.rounds=2"):
        resume_run(part.directory, ["trainer.rounds=2"], config_dirs=[], plugins=[], quiet=True)


def rows_without_loss(run: Any) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/update_norm" in line]


def test_some_of_the_clients_take_part(tmp_path: Path) -> None:
    run = federated(tmp_path, "trainer.clients=10", "trainer.client_fraction=0.3", "trainer.rounds=4")
    assert [row["train/clients"] for row in rows(run)] == [3, 3, 3, 3]
    chosen = [run.trainer._choose(torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert {client for clients in chosen for client in clients} == set(range(10))


def test_the_proximal_term_holds_clients_back(tmp_path: Path) -> None:
    options = ["trainer.rounds=1", "trainer.local_epochs=5", "trainer.partition=dirichlet"]
    free, held = (rows(federated(tmp_path, *options, f"trainer.proximal={mu}"))[0] for mu in (0, 10))
    assert free["train/update_norm"] > 2 * held["train/update_norm"]


def test_the_gradient_of_the_proximal_term() -> None:
    from dlcli.tasks.base import Loss, Task
    from dlcli.trainers.federated_client import Proximal

    class Constant(Task):
        def training_step(self, networks: Any, batch: Any) -> Any:
            yield Loss(networks["model"](batch).sum() * 0)

    model = torch.nn.Linear(3, 2)
    task = Proximal(Constant(), model, 0.7)
    with torch.no_grad():
        model.weight += 2.0
    next(task.training_step({"model": model}, torch.ones(1, 3))).value.backward()
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, torch.full((2, 3), 1.4))


def test_the_schedule_counts_rounds(tmp_path: Path) -> None:
    run = federated(tmp_path, "scheduler=exponential", "scheduler.gamma=0.5", "trainer.rounds=3")
    assert [row["train/learning_rate"] for row in rows(run)] == pytest.approx([0.05, 0.025, 0.0125])


@pytest.mark.parametrize("model", [["model=mlp", "model.dropout=0.2"], MOMENTUM], ids=["dropout", "momentum"])
def test_a_run_that_was_cut_off_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: list[str]
) -> None:
    options = ["trainer.secure_aggregation=masks", "trainer.client_fraction=0.5", "trainer.drop_out=0.1"]
    options += ["trainer.clients=8", "trainer.rounds=3", *model]
    whole = federated(tmp_path / "whole", *options)
    trained = []
    keep = federated_averaging.train_client

    def interrupting(*arguments: Any, **keywords: Any) -> Any:
        trained.append(1)
        if len(trained) == 6:
            signal.raise_signal(signal.SIGTERM)
        return keep(*arguments, **keywords)

    monkeypatch.setattr(federated_averaging, "train_client", interrupting)
    with pytest.raises(Interrupted, match="stopped at step [12], saved"):
        federated(tmp_path / "cut", *options)
    monkeypatch.undo()
    (directory,) = (tmp_path / "cut").iterdir()
    run = resume_run(directory, [], config_dirs=[], plugins=[], quiet=True)
    run.train()
    assert torch.equal(weights(run), weights(whole))
    assert run.summary["metrics"] == whole.summary["metrics"]


@pytest.mark.skipif(importlib.util.find_spec("dp_accounting") is None, reason="dp-accounting is not installed")
def test_noise_has_the_size_that_epsilon_is_reported_for(tmp_path: Path) -> None:
    """Updates that are clipped to almost nothing: what is left of the model's move is the noise."""
    options = ["trainer.clients=20", "trainer.client_fraction=0.5", "trainer.clip_norm=1e-3", "trainer.rounds=1"]
    run = federated(tmp_path, *options, "trainer.noise_multiplier=100")
    row = rows(run)[0]
    expected = 100 * 1e-3 * (65 * 10) ** 0.5 / (0.5 * 20)
    assert row["train/update_norm"] == pytest.approx(expected, rel=0.1)
    assert 0 < row["train/epsilon"] < 0.1
    counts = {len(run.trainer._choose(torch.Generator().manual_seed(0))) for _ in range(20)}
    assert len(counts) > 3  # each client by itself, and not by the run's seed
    again = federated(tmp_path, *options, "trainer.noise_multiplier=100", "trainer.client_fraction=1")
    once = federated(tmp_path, *options, "trainer.noise_multiplier=100", "trainer.client_fraction=1")
    assert not torch.isclose(weights(again), weights(once)).any()  # who has the seed cannot take the noise away


def test_a_client_meets_nothing_of_those_before_it(tmp_path: Path) -> None:
    run = federated(tmp_path, *MOMENTUM, "trainer.rounds=1")
    start = snapshot(run.model)
    alone = run.trainer.train_one(run, 2, 0, start, 1.0).update
    for client in (0, 1):
        run.trainer.train_one(run, client, 0, start, 1.0)
    moved = [not torch.equal(*pair) for pair in zip(snapshot(run.model), start, strict=True)]
    assert all(moved)  # frozen weights and counters too
    np.testing.assert_array_equal(run.trainer.train_one(run, 2, 0, start, 1.0).update, alone)


def test_classes_of_pictures_in_folders_are_divided(tmp_path: Path) -> None:
    for number in range(40):
        file = tmp_path / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 200 * (number % 2) + number).save(file)
    run = train(
        [
            *("data=image_folder", f"data.path={tmp_path / 'pictures'}", "data.size=4", "model=linear"),
            *("trainer=federated_averaging", "trainer.rounds=1", "trainer.clients=2", "trainer.partition=dirichlet"),
            *("trainer.dirichlet_alpha=0.01", "seed=5", f"run_dir={tmp_path / 'runs'}"),
        ]
    )
    labels = run.data.train_labels
    assert labels.bincount().tolist() == run.data.class_counts
    shares = [labels[part].float().mean() for part in run.trainer.parts]
    assert sorted(shares) == [0, 1]


def test_updates_are_clipped(tmp_path: Path) -> None:
    run = federated(tmp_path, "trainer.clip_norm=0.01")
    assert all(row["train/update_norm"] <= 0.01 + 1e-9 for row in rows(run))
    assert rows(federated(tmp_path))[0]["train/update_norm"] > 0.1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.clients=1500"], "trainer.clients=1,500: expected at most 1,257, one for each training example"),
        (["trainer.clients=200", "trainer.partition=dirichlet", "trainer.dirichlet_alpha=0.01"], "has no data"),
        (["trainer.key_bits=512"], "trainer.key_bits=512: expected a whole number at least 1024"),
        (
            ["trainer.secure_aggregation=masks", "trainer.client_fraction=0.2"],
            "in a round 1 of 4 clients answers, and the sum of one update is that one",
        ),
        (["trainer.secure_aggregation=paillier", "trainer.clients=1"], "use more trainer.clients or a larger"),
        (["trainer.noise_multiplier=1"], "trainer.noise_multiplier=1 counts in largest norms of an update; set"),
        (
            [
                *("trainer.noise_multiplier=1", "trainer.clip_norm=1", "trainer.client_fraction=0.5"),
                "trainer.secure_aggregation=masks",
            ],
            "noise_multiplier=1 draws each client on its own, sometimes one alone, whose sum .* use trainer.client_fr",
        ),
        (["trainer.show_leak=true"], "trainer.show_leak=true: these data have no words; use data=enron_spam"),
        (["trainer.partition=column", "trainer.clients=null"], "these data name no owners"),
        (["trainer.secure_aggregation=mask"], "trainer.secure_aggregation=mask: expected one of none, masks, paillier"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        federated(tmp_path, *overrides)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_streams_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 500)
    with pytest.raises(ConfigError, match="divides single examples among clients; .*: use pictures or a"):
        train(["data=text", f"data.path={text}", "trainer=federated_averaging", f"run_dir={tmp_path / 'runs'}"])


def test_a_loss_that_is_not_finite_names_client_and_round(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteError, match="the loss or a weight of client 0 is not finite in round 1; lower optimizer.lr"
    ):
        federated(tmp_path, "optimizer.lr=1e38", "trainer.clients=2")


def test_index_sets_are_gathered_in_their_order() -> None:
    class Numbers(TensorData):
        def collate(self, *tensors: torch.Tensor) -> Any:
            return tensors[0].tolist()

    data = Numbers(batch_size=2)
    data.tensors = {"train": (torch.arange(10),)}
    chosen = torch.tensor([7, 3, 9])
    assert [data.batches("train", order="sequential", rows=chosen)[index] for index in (0, 1)] == [[7, 3], [9]]
    shuffled = [data.batches("train", order="shuffled", seed=1, epoch=epoch, rows=chosen) for epoch in range(8)]
    orders = [[*batches[0], *batches[1]] for batches in shuffled]
    assert all(sorted(order) == [3, 7, 9] for order in orders)
    assert len(set(map(tuple, orders))) > 2


def test_owners_of_rows_are_clients(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("who,x,y\n" + "".join(f"{'abc'[row % 3]},{row % 7},{2 * (row % 7)}\n" for row in range(90)))
    run = train(
        [
            *("data=csv", f"data.path={table}", "data.target=y", "data.target_type=number", "model=linear"),
            *("data.client_column=who", "trainer=federated_averaging", "trainer.partition=column"),
            *("trainer.clients=null", "trainer.rounds=1", f"run_dir={tmp_path / 'runs'}"),
        ]
    )
    assert [row["train/clients"] for row in rows(run)] == [3]
    assert sum(map(len, run.trainer.parts)) == len(run.data.tensors["train"][0])
