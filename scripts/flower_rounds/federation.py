"""What Flower runs: the server, which is a run of dlcli whose rounds reach over the network, and the clients.

Source: D. J. Beutel et al., "Flower: A friendly federated learning research framework" (2020).
"""

from __future__ import annotations

import shlex
import time
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from dlcli.cli.train import prepare, start_run
from dlcli.errors import ConfigError, DataError
from dlcli.federated.vectors import assign, flatten, snapshot
from dlcli.trainers.federated_averaging import FederatedAveragingTrainer

server = ServerApp()
client = ClientApp()


class FlowerTrainer(FederatedAveragingTrainer):
    """Federated averaging whose rounds are Flower's: its strategy asks the clients and averages their weights."""

    grid: Grid

    def one_round(self, run: Any, number: int, start: Any, rate_factor: float) -> dict[str, float] | None:
        """
        Raises:
            ConfigError: two clients have one number. DataError: no client could answer.
        """
        before, count = flatten(run.model), len(self.parts)
        strategy = FedAvg(min_train_nodes=count, min_available_nodes=count, weighted_by_key="examples")
        weights = ArrayRecord({"weights": Array(before)})
        question = ConfigRecord({"number": number, "rate_factor": rate_factor, "fingerprint": run.data.fingerprint})
        messages = strategy.configure_train(number + 1, weights, question, self.grid)
        waiting, replies = set(self.grid.push_messages(messages)), []
        while waiting:
            if run.interrupted():
                return None
            time.sleep(0.2)
            arrived = list(self.grid.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            replies += arrived
        answers = [reply for reply in replies if not reply.has_error()]
        numbers = sorted(int(reply.content["who"]["client"]) for reply in answers)
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"clients {numbers} have answered; start each with a number of its own")
        mean, means = strategy.aggregate_train(number + 1, replies)
        if mean is None or means is None:
            raise DataError(f"round {number + 1}: no client could answer; Flower's log above has their reasons")
        after = mean["weights"].numpy()
        assign(run.model, after)
        return {
            **{name: float(value) for name, value in means.items()},
            "clients": float(len(answers)),
            "update_norm": float(np.linalg.norm(after - before)),
            "megabytes_sent": len(answers) * after.nbytes / 1e6,
        }


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Train a run as ``dlcli train`` does, with the clients that are connected."""
    text = str(context.run_config["overrides"])
    run = start_run(shlex.split(text), command=f"scripts/flower {text}", config_dirs=[], plugins=[], quiet=False)
    options = {key: value for key, value in run.config["trainer"].items() if key != "name"}
    run.trainer = FlowerTrainer(**options)
    run.trainer.check(run)
    run.crowding = None  # this process waits for others
    run.trainer.grid = grid
    run.train()


@client.train()
def answer(message: Message, context: Context) -> Message:
    """The weights of this client after its share of a round.

    Raises:
        ConfigError: there is no part of this number. DataError: this machine has other data than the server.
    """
    run = prepare(shlex.split(str(context.run_config["overrides"])), config_dirs=[], plugins=[], quiet=True)
    who, question = int(context.node_config["client"]), message.content["config"]
    if not 0 <= who < len(run.trainer.parts):
        raise ConfigError(f"client {who}: expected a number from 0 to {len(run.trainer.parts) - 1}")
    if run.data.fingerprint != question["fingerprint"]:
        raise DataError(f"client {who}: its data are not the server's, so its part would not be either")
    assign(run.model, message.content["arrays"]["weights"].numpy())
    start, before = snapshot(run.model), flatten(run.model)
    trained = run.trainer.train_one(run, who, int(question["number"]), start, float(question["rate_factor"]))
    content = {
        "arrays": ArrayRecord({"weights": Array(before + trained.update)}),
        "metrics": MetricRecord({"examples": len(run.trainer.parts[who]), **trained.means}),
        "who": ConfigRecord({"client": who}),
    }
    return Message(RecordDict(content), reply_to=message)
