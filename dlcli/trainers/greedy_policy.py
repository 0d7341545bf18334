"""Measuring and keeping the greedy policy: what all trainers that learn to act share, beside their algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dlcli import runtime
from dlcli.trainers.base import RunContext
from dlcli.trainers.evaluation import evaluate, scalars
from dlcli.trainers.loop import Loop


def measure(run: RunContext, loop: Loop, monitor: str) -> None:
    """Play the greedy policy, log and show what it reaches, and save ``best.pt`` if it is the best so far."""
    split, _, metric = monitor.partition("/")
    networks = {"model": run.model}
    dtype = runtime.input_dtype(run.config["trainer"]["precision"])
    measured = evaluate(run.task, run.model, networks, run.data, split, dtype=dtype)
    values = scalars(measured)
    run.log(loop.step, {f"{split}/{name}": value for name, value in values.items()})
    run.show(loop.step, split, measured, networks)
    run.progress.evaluated(loop.step, split, values, metric)
    sign = 1 if run.task.metric_directions[metric] == "max" else -1
    if math.isfinite(values[metric]) and (loop.best is None or sign * values[metric] > sign * loop.best["value"]):
        loop.best = {"metric": monitor, "value": values[metric], "step": loop.step, "metrics": values}
        save(run, loop, "best")


def save(run: RunContext, loop: Loop, name: str, state: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint: the model, where the trainer stands, and what else it needs to go on."""
    loop.offsets = run.log_offsets()
    run.save_checkpoint(name, {"model": run.model.state_dict(), **(state or {}), "loop": dict(vars(loop))})
