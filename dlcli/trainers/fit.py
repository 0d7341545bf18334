"""Fitting: models whose parameters follow from the training data by a formula, a count or an algorithm of their own."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import torch

from dlcli import runtime
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.evaluation import converted, evaluate, scalars
from dlcli.trainers.full_batch import begin, save


@TRAINERS.register("fit")
class FitTrainer(Trainer):
    """One step: ``model.fit(batches) -> {name: number to record}`` over the training split, then an evaluation.

    ``batches`` has a length and can be read any number of times, always in the order of the data. Source: d2l 3.1.2
    (the closed form of linear regression) and 22.9 (naive Bayes).
    """

    uses: ClassVar[tuple[str, ...]] = ()
    model_methods: ClassVar[tuple[str, ...]] = ("fit",)

    def __init__(self, *, monitor: str, device: str, precision: Literal["fp32", "fp64"]):
        self.monitor = monitor
        self.precision = precision

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            Interrupted: a signal arrived between two batches. DataError: the checkpoint is that of another model.
        """
        loop = self.loop = begin(run)
        dtype = runtime.input_dtype(self.precision)

        # The step. What it cost is kept before anything is measured.
        if loop.step == 0:
            started = time.perf_counter()
            batches = run.data.batches("train", order="sequential")
            try:
                with torch.no_grad():
                    facts = run.model.fit(Watched(batches, dtype, run.interrupted))  # type: ignore[operator]
            except StopFitting:
                save(run, loop, "last")
                run.leave_interrupted(0)
            loop.step = loop.epoch = 1
            loop.seconds = time.perf_counter() - started
            loop.latest = {name: float(value) for name, value in facts.items()}
            run.log(1, {f"train/{name}": value for name, value in loop.latest.items()})
            save(run, loop, "last")

        # The evaluation, at the one point there is.
        if loop.best is None:
            networks = {"model": run.model}
            split, _, metric = self.monitor.partition("/")
            measured = evaluate(
                *(run.task, run.model, networks, run.data, split),
                dtype=dtype,
                stop=lambda: run.interrupted(),
                watch=run.progress.measuring,
            )
            if run.interrupted():
                run.leave_interrupted(1)
            values = scalars(measured)
            run.log(1, {f"{split}/{name}": value for name, value in values.items()})
            run.show(1, split, measured, networks)
            run.progress.evaluated(1, split, values, metric)
            loop.best = {"metric": self.monitor, "value": values[metric], "step": 1, "metrics": values}
            save(run, loop, "last")
        return "the model is fitted"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The metrics of a copy that was fitted to the first training batch, on that batch."""
        model = copy.deepcopy(run.model).eval()
        batch = converted(run.data.batches("train", order="sequential")[0], runtime.input_dtype(self.precision))
        metrics = run.task.metrics()
        with torch.no_grad():
            model.fit([batch])  # type: ignore[operator]
            run.task.evaluation_step({"model": model}, batch, metrics)
        return scalars({name: metric.compute() for name, metric in metrics.items()})


class StopFitting(Exception):
    """A signal arrived while a model read its batches."""


class Watched:
    """The batches of the training split for a model that is fitted.

    Reading a batch raises StopFitting when the run is to stop.
    """

    def __init__(self, batches: Any, dtype: torch.dtype | None, interrupted: Callable[[], bool]):
        self.batches = batches
        self.dtype = dtype
        self.interrupted = interrupted

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self.batches)):
            if self.interrupted():
                raise StopFitting
            yield converted(self.batches[index], self.dtype)
