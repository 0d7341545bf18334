"""What trainers share whose steps look at all training data: the loss over them, and the loop around the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError, NonFiniteError
from dlcli.functional.inference import evaluating
from dlcli.trainers.base import RunContext, restore_model
from dlcli.trainers.evaluation import converted, evaluate, scalars
from dlcli.trainers.loop import Loop, better

MOST_PARAMETERS = 2000  # a step costs at least so many passes over the data


def parameters_of(run: RunContext, trainer: str) -> list[nn.Parameter]:
    """The parameters that learn.

    Raises:
        ConfigError: too many for such a trainer, or the task trains networks of its own.
    """
    if run.task.trains != ("model",):
        networks = " and ".join(run.task.trains)
        raise ConfigError(f"trainer '{trainer}' trains one network by one loss; this task trains {networks} apart")
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in parameters)
    if count > MOST_PARAMETERS:
        raise ConfigError(f"trainer '{trainer}': {count:,} parameters; expected at most {MOST_PARAMETERS:,}")
    return parameters


def begin(run: RunContext) -> Loop:
    """A fresh loop, or that of the checkpoint to resume from, whose weights and random state are restored.

    Raises:
        DataError: the checkpoint is that of another model.
    """
    if run.resume_state is None:
        return Loop()
    restore_model(run, run.resume_state)
    return Loop(**run.resume_state["loop"])


def mean_loss(run: RunContext, epoch: int, dtype: torch.dtype | None) -> Tensor:
    """The mean of the task's loss over the training batches, weighted by their sizes.

    In evaluation mode, so that it is one function of the parameters: dropout would make another one of each call.
    """
    batches = run.data.batches("train", order="sequential", seed=run.seed, epoch=epoch)
    total, rows = torch.zeros((), device=run.device, dtype=dtype), 0
    with evaluating(run.model):
        for index in range(len(batches)):
            batch = converted(batches[index], dtype)
            loss = next(run.task.training_step({"model": run.model}, batch))
            total, rows = total + loss.value * len(batch[0]), rows + len(batch[0])
    mean: Tensor = total / rows
    return mean


def descend(
    run: RunContext,
    loop: Loop,
    step: Callable[[], dict[str, float]],
    *,
    max_steps: int,
    eval_every: int,
    monitor: str,
    dtype: torch.dtype | None,
) -> str:
    """Take steps until ``max_steps`` are done; evaluate and save after every ``eval_every`` of them and the last.

    Args:
        run: the run.
        loop: where it stands; changed in place.
        step: moves the parameters and returns what to log.
        max_steps, eval_every: in steps.
        monitor: the metric that decides which weights are the best.
        dtype: of the numbers that the model is evaluated with.

    Returns:
        why it ended, in words.

    Raises:
        NonFiniteError: a weight is not finite after a step. Interrupted: a signal arrived; the state is saved.
    """
    started = time.perf_counter() - loop.seconds
    while loop.step < max_steps:
        if run.interrupted():
            save(run, loop, "last")
            run.leave_interrupted(loop.step)
        with _one_step(run, loop, dtype):
            loop.latest = step()
        if not all(bool(parameter.isfinite().all()) for parameter in run.model.parameters()):
            raise NonFiniteError(f"a weight is not finite at step {loop.step + 1}; use smaller steps")
        loop.step += 1
        loop.epoch += 1
        loop.seconds = time.perf_counter() - started
        run.log(loop.step, {f"train/{name}": number for name, number in loop.latest.items()})
        if loop.step % eval_every == 0 or loop.step == max_steps:
            measure(run, loop, monitor, dtype, last=loop.step == max_steps)
            save(run, loop, "last")
    return "the budget of steps is used"


@contextmanager
def _one_step(run: RunContext, loop: Loop, dtype: torch.dtype | None) -> Iterator[None]:
    """The task's ``training_step`` goes on to its end after the step, once, however often the step asked for losses."""
    batch = run.data.batches("train", order="sequential", seed=run.seed, epoch=loop.epoch)[0]
    with torch.no_grad(), evaluating(run.model):
        losses = run.task.training_step({"model": run.model}, converted(batch, dtype))
        next(losses)
    yield
    for _ in losses:
        pass


def save(run: RunContext, loop: Loop, name: str, **more: Any) -> None:
    """Write the checkpoint ``name``, with ``more`` parts beside the model and the loop."""
    loop.offsets = run.log_offsets()
    run.save_checkpoint(name, {"model": run.model.state_dict(), "loop": dict(vars(loop)), **more})


def measure(run: RunContext, loop: Loop, monitor: str, dtype: torch.dtype | None, *, last: bool) -> float:
    """Evaluate the split of the monitored metric, save the weights if they are the best yet, and return the metric.

    Pictures and samples are recorded with the ``last`` evaluation only.
    """
    split, _, metric = monitor.partition("/")
    networks = {"model": run.model}
    measured = evaluate(run.task, run.model, networks, run.data, split, dtype=dtype)
    values = scalars(measured)
    run.log(loop.step, {f"{split}/{name}": value for name, value in values.items()})
    if last:
        run.show(loop.step, split, measured, networks)
    run.progress.evaluated(loop.step, split, values, metric)
    if better(values[metric], loop.best, run.task.metric_directions[metric]):
        loop.best = {"metric": monitor, "value": values[metric], "step": loop.step, "metrics": values}
        save(run, loop, "best")
    return values[metric]
