"""What a client of federated averaging does in a round: train the server's model on its own data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlcli.data.base import Batches, generator
from dlcli.errors import NonFiniteError
from dlcli.federated.fixed_point import Floats
from dlcli.federated.vectors import flatten, restore
from dlcli.schedulers.base import Schedule
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.trainers.base import RunContext
from dlcli.trainers.evaluation import converted
from dlcli.trainers.minibatch import numbers
from dlcli.trainers.step import Stepper


class Proximal(Task):
    """Another task with FedProx's pull: mu/2 times the squared distance from the parameters' values at the beginning.

    Source: T. Li et al., "Federated optimization in heterogeneous networks" (MLSys 2020), equation 2.
    """

    def __init__(self, task: Task, model: nn.Module, strength: float):
        self.task, self.strength = task, strength
        self.trains = task.trains  # type: ignore[misc]
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.pairs = [(parameter, parameter.detach().clone()) for parameter in learned]

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        for loss in self.task.training_step(networks, batch):
            distance = torch.stack([(now - start).square().sum() for now, start in self.pairs]).sum()
            yield loss._replace(value=loss.value + self.strength / 2 * distance)


class Held(Schedule):
    """A schedule that stands still: the steps of a client have the rate of their round."""

    def __init__(self, value: float):
        self.value = value

    def factor(self, step: int) -> float:
        return self.value


class Trained(NamedTuple):
    """update: how the model has moved. means: of what the steps logged, by name."""

    update: Floats
    means: dict[str, float]


def train_client(
    run: RunContext,
    start: Sequence[Tensor],
    passes: list[Batches],
    *,
    client: int,
    number: int,
    rate_factor: float,
    proximal: float,
    precision: str,
    dtype: torch.dtype | None,
) -> Trained:
    """Train the model ``start`` on a client's data. A function of its arguments and the run's seed alone.

    Args:
        run: its model is overwritten.
        start: the server's model, as ``snapshot`` keeps it.
        passes: the batches of each pass over the client's data.
        client, number: of the client and of the round, from 0.
        rate_factor: of the learning rate in this round.
        proximal: FedProx's mu; 0 leaves it out.
        precision, dtype: of the arithmetic, and of inputs in double precision.

    Raises:
        NonFiniteError: a loss or a weight is NaN or infinite.
    """
    restore(run.model, start)
    before = flatten(run.model)
    torch.manual_seed(generator(run.seed, client, number).initial_seed())
    stepper = Stepper(
        run.model,
        Proximal(run.task, run.model, proximal) if proximal else run.task,
        {name: run.build_optimizer(name) for name in run.task.trains},
        dict.fromkeys(run.task.trains, Held(rate_factor)),
        run.device,
        precision=precision,
        compile=False,
        clip_norm=None,
        clip_value=None,
        ema_decay=None,
        skip_nonfinite=False,
    )
    logged: dict[str, list[Any]] = {}
    for batches in passes:
        for index in range(len(batches)):
            values = stepper.run([converted(batches[index], dtype)], None, False).values
            for name, value in values.items():
                logged.setdefault(name, []).append(value)
    read = {name: numbers(values, dtype or torch.float32) for name, values in logged.items()}
    means = {name: sum(values) / len(values) for name, values in read.items()}
    update = flatten(run.model) - before
    if not (np.isfinite(update).all() and all(map(math.isfinite, means.values()))):
        raise NonFiniteError(
            f"the loss or a weight of client {client} is not finite in round {number + 1}; lower optimizer.lr"
        )
    return Trained(update, means)
