"""Evaluation: every batch of a split once, without gradients, into a task's metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.data.base import DataModule
from dlcli.distributed import Group
from dlcli.functional.inference import evaluating
from dlcli.functional.pictures import heatmap
from dlcli.tasks.base import Networks, Task


@torch.no_grad()
def evaluate(
    task: Task,
    model: nn.Module,
    networks: Networks,
    data: DataModule,
    split: str,
    *,
    autocast: Any = None,
    dtype: torch.dtype | None = None,
    limit: int | None = None,
    stop: Callable[[], bool] | None = None,
    group: Group | None = None,
    watch: Callable[[str, Sequence[int]], Generator[int]] | None = None,
) -> dict[str, float | Tensor]:
    """Metrics of the networks over a split, by name.

    Uses no random number of the training run, so that evaluating more or less often never changes the weights.

    Args:
        task: the objective, which says what is measured.
        model: the module behind the networks, for its state interface.
        networks: the callables to evaluate.
        data: where the batches come from.
        split: "train", "val" or "test".
        autocast: the context of lower precision, or None.
        dtype: what floating-point inputs are converted to, for models in double precision; None leaves them.
        limit: at most this many batches; None for all.
        stop: asked before each batch; True ends the evaluation early, and its numbers are of no use.
        group: processes that share the batches out and add up what they measured; all of them call this.
        watch: given the split and the batches' numbers, yields these one after the other, and shows how far it is.
    """
    carries = task.carries_state(model)
    batches = data.batches(split, order="stream" if carries else "sequential")
    metrics = task.metrics()
    carry: tuple[Tensor, ...] | None = None
    with contextlib.ExitStack() as stack:
        for network in networks.values():
            stack.enter_context(evaluating(network))
        stack.enter_context(autocast or contextlib.nullcontext())
        task.begin_evaluation(networks, _training_batches(data, dtype))
        indices: Any = _share(min(len(batches), limit or len(batches)), carries, group)
        if watch is not None:
            indices = stack.enter_context(contextlib.closing(watch(split, indices)))
        for index in indices:
            if stop is not None and stop():
                break
            batch = converted(batches[index], dtype)
            if carry is not None:
                batch = batch._replace(carry=carry)
            carry = task.evaluation_step(networks, batch, metrics)
    if group is not None:
        for metric in metrics.values():
            metric.state = group.sum(metric.state)
    return {name: metric.compute() for name, metric in metrics.items()}


def _training_batches(data: DataModule, dtype: torch.dtype | None) -> Iterator[Any]:
    """The training batches in sequence; nothing is read before the first is asked for."""
    for batch in data.batches("train", order="sequential"):  # type: ignore[attr-defined]
        yield converted(batch, dtype)


def _share(count: int, carries: bool, group: Group | None) -> range:
    """The batches that this process measures. A single stream cannot be shared out: the main process reads it."""
    if group is None:
        return range(count)
    if carries:
        return range(count if group.main else 0)
    return range(group.rank, count, group.size)


def converted(batch: Any, dtype: torch.dtype | None) -> Any:
    """The batch with its floating-point tensors in another precision."""
    if dtype is None:
        return batch
    tensors = batch._asdict()
    floats = {k: v.to(dtype) for k, v in tensors.items() if isinstance(v, Tensor) and v.is_floating_point()}
    return batch._replace(**floats)


def pictures(metrics: dict[str, float | Tensor]) -> dict[str, Tensor]:
    """What is measured and no number, as pictures (3, H, W) uint8: matrices as colours, pictures as they are."""
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor) and value.numel()}
    matrices = {name: heatmap(value) for name, value in tensors.items() if value.ndim == 2}
    return {**matrices, **{name: value for name, value in tensors.items() if value.ndim == 3}}


def scalars(metrics: dict[str, float | Tensor]) -> dict[str, float]:
    """The metrics that are single numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
