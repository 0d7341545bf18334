"""Gradients added up while others are computed are those added up afterwards, and those of one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlcli.data.base import TableBatch
from dlcli.distributed import Group
from dlcli.optimizers.sgd import SGD
from dlcli.schedulers.constant import Constant
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.trainers import step
from dlcli.trainers.step import Stepper

CPU = torch.device("cpu")


class Squares(Task):
    calls_model_only = True

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        model = networks["model"]
        yield Loss(F.mse_loss(model(batch.features), batch.targets), logs={"asked": torch.tensor(model.constant)})


class Network(nn.Module):
    """Two layers of which one is not used, and an attribute that tasks may read."""

    constant = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        self.unused = nn.Linear(7, 7)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.used(inputs))


def trained(group: Group | None, count: int, accumulate: int) -> tuple[dict[str, torch.Tensor], list[float], list[str]]:
    """Parameters and averaged parameters after 3 steps on batches of ``count`` examples, losses, names of the state."""
    torch.manual_seed(0)
    model = Network()
    optimizer = SGD(
        model.named_parameters(), lr=0.1, momentum=0.9, weight_decay=0.0, decay_biases=True, nesterov=False, fused=False
    )
    stepper = Stepper(
        model,
        Squares(),
        {"model": optimizer},
        {"model": Constant(10, 10, warmup_steps=0)},
        CPU,
        precision="fp32",
        compile=False,
        clip_norm=1.0,
        clip_value=None,
        ema_decay=0.5,
        skip_nonfinite=False,
        group=group,
    )
    losses = []
    for _ in range(3):
        batches: list[Any] = [TableBatch(torch.randn(count, 3), torch.randn(count, 2)) for _ in range(accumulate)]
        shares = None
        if group is not None:
            assert (stepper.overlapped is not None) == ("cpu" in step.OVERLAPPING)
            batches, shares = map(list, zip(*map(group.part, batches), strict=True))
        result = stepper.run(batches, None, False, shares)
        losses += [float(result.values["loss"]), float(result.values["asked"])]
    state = stepper.state_dict()
    values = {**state["model"], **{f"ema {name}": value for name, value in state["ema"].items()}}
    return {name: value.clone() for name, value in values.items()}, losses, list(state["model"])


def child(rank: int, store: str, overlapping: tuple[str, ...], cases: list[tuple[int, int]], queue: Any) -> None:
    step.OVERLAPPING = overlapping
    torch.set_num_threads(1)
    group = Group(CPU, timeout=60, rank=rank, size=2, store=Path(store))
    try:
        results = [trained(group, *case) for case in cases]
        group.leave()
    except BaseException as error:
        queue.put(repr(error))
        raise
    if rank == 0:
        queue.put([({n: v.tolist() for n, v in state.items()}, *rest) for state, *rest in results])


CASES = [(8, 1), (5, 1), (1, 1), (5, 3)]
"""Examples in a batch (odd: uneven parts; 1: nothing for one process) and batches that are accumulated."""


@pytest.mark.parametrize("overlapping", [("cpu",), ()])
def test_two_processes_step_as_one_does(tmp_path: Path, overlapping: tuple[str, ...]):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (str(tmp_path / "store"), overlapping, CASES, queue)
    children = [context.Process(target=child, args=(rank, *arguments), daemon=True) for rank in range(2)]
    for process in children:
        process.start()
    results = queue.get(timeout=120)
    assert isinstance(results, list), results
    for process in children:
        process.join(60)
    for case, (state, losses, names) in zip(CASES, results, strict=True):
        expected, expected_losses, expected_names = trained(None, *case)
        assert names == expected_names
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected_losses))
        for name, value in expected.items():
            torch.testing.assert_close(torch.tensor(state[name]), value, msg=lambda text, n=name: f"{n}: {text}")
