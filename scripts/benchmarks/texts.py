"""Rows 10, 11 and 15: a small GPT on Shakespeare's characters, against nanoGPT's loop."""

from __future__ import annotations

import functools
import math
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Absent, Figures
from benchmarks.rows import Bench, Finding, absolute, at_most, compared_with_all, row

RECIPE = ["experiment=nanogpt_cpu", "data.stand_in=false"]
FAST = ["experiment=nanogpt_cpu_fast", "data.stand_in=false"]


def recipe(bench: Bench, overrides: list[str]) -> list[str]:
    """The experiment; where only the way is tried, on a text made up here."""
    if bench.size != "smoke":
        return overrides
    from benchmarks import workloads

    path = workloads.text(bench.folder(), 20_000)
    return [overrides[0], "data=text", f"data.path={path}"]


@functools.cache
def reference_curves(bench: Bench) -> list[Figures]:
    """Whole-validation losses by iteration of the reference loop, for each seed; trained once for both rows."""
    total = bench.pick(full=2000, quick=200, smoke=4)
    return [
        once(
            bench,
            "peers.nanogpt:curve",
            overrides=recipe(bench, RECIPE),
            reference=reference(bench),
            total=total,
            seed=seed,
            first=total // 2,
            every=bench.pick(full=50, quick=50, smoke=2),
        )
        for seed in range(bench.pick(full=3, quick=1, smoke=1))
    ]


def reference(bench: Bench) -> str | None:
    return str(bench.reference) if bench.reference else None


def once(bench: Bench, function: str, **arguments: Any) -> Figures:
    """One block of a worker, without a warm-up.

    Raises:
        Absent: it cannot be done here.
    """
    measured = bench.measure({function: bench.worker(function, warm=False, **arguments)}, rounds=1)
    if measured.absent:
        raise Absent(measured.absent[function])
    return measured.rounds[function][0]


def curves(bench: Bench, overrides: list[str], total: int | None, every: int) -> list[Figures]:
    """Whole-validation losses by step of a recipe of ours, for each seed."""
    length = [] if total is None else [f"trainer.max_steps={total}"]
    return [
        once(bench, "ours:curve", overrides=[*overrides, *length, f"trainer.eval_every={every}", f"seed={seed}"])
        for seed in range(bench.pick(full=3, quick=1, smoke=1))
    ]


@row(10, "gpt", "nanoGPT's CPU setting, the same recipe: time per iteration, and the loss that it reaches")
def gpt(bench: Bench) -> list[Finding]:
    steps = bench.pick(full=150, quick=30, smoke=4)
    overrides = recipe(bench, RECIPE)
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:steps", overrides=overrides, steps=steps)),
            "itself (A/A)": bench.twin(ours),
            "nanoGPT's loop": bench.worker(
                "peers.nanogpt:steps", overrides=overrides, steps=steps, reference=reference(bench)
            ),
        }
    )
    total = bench.pick(full=2000, quick=200, smoke=4)
    mine = [list(curve.values())[-1] for curve in curves(bench, overrides, total, total)]
    theirs = [list(curve.values())[-1] for curve in reference_curves(bench)]
    difference = abs(statistics.mean(mine) - statistics.mean(theirs))
    texts = [f"{statistics.mean(losses):.4f} nats" for losses in (mine, theirs)]
    return [
        *compared_with_all(measured, "dlcli", {"nanoGPT's loop": at_most(0.75)}),
        absolute(
            f"difference of the whole-validation losses after {total} iterations, mean of {len(mine)} seeds",
            [difference],
            "nats",
            goal=at_most(0.01) if bench.size == "full" else None,
            ours=texts[0],
            peer=texts[1],
        ),
    ]


@row(11, "gpt target", "time to a whole-validation loss at that setting's model and batch, any recipe")
def target(bench: Bench) -> list[Finding]:
    loss = bench.pick(full=1.905, quick=2.5, smoke=100.0)
    overrides = recipe(bench, FAST)
    mine = [reached(curve, loss) for curve in curves(bench, overrides, None if bench.size != "smoke" else 4, 25)]
    theirs = [reached(curve, loss) for curve in reference_curves(bench)]
    iterations = [statistics.mean(mine), statistics.mean(theirs)]
    steps = bench.pick(full=100, quick=30, smoke=4)
    measured = bench.measure(
        {
            "dlcli": bench.worker("ours:steps", overrides=overrides, steps=steps),
            "nanoGPT's loop": bench.worker(
                "peers.nanogpt:steps", overrides=recipe(bench, RECIPE), steps=steps, reference=reference(bench)
            ),
        }
    )
    for name, count in zip(measured.rounds, iterations, strict=True):
        for figures in measured.rounds[name]:
            figures["seconds"] *= count
    goal = at_most(0.30) if bench.size == "full" else None
    found = compared_with_all(measured, "dlcli", {"nanoGPT's loop": goal})
    counts = " against ".join(f"{count:.0f}" for count in iterations)
    return [*found, absolute(f"iterations to {loss} nats: {counts}", [iterations[0] / iterations[1]], "×")]


def reached(curve: Figures, loss: float) -> float:
    """The iteration at which the loss falls to ``loss``, on a straight line between two evaluations.

    Raises:
        Absent: it never does.
    """
    before: tuple[float, float] | None = None
    for step, value in ((int(step), value) for step, value in curve.items()):
        if value <= loss:
            return step if before is None else before[0] + (step - before[0]) * (before[1] - loss) / (before[1] - value)
        before = (step, value)
    raise Absent(f"{loss} nats were not reached; the best was {min(curve.values(), default=math.nan):.4f}")


@row(15, "gpt gpu", "experiment=nanogpt_gpu to a whole-validation loss of 1.47 on one GPU, start-up included", gpu=True)
def gpt_on_gpu(bench: Bench) -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        raise Absent("torch finds no CUDA GPU here")
    folder = Path(bench.folder())
    side = bench.dlcli("train", "experiment=nanogpt_gpu", "data.stand_in=false", f"run_dir={folder}")
    began = time.time()
    measured = bench.measure({"dlcli": side}, rounds=1)
    if measured.absent:
        raise Absent(measured.absent["dlcli"])
    from benchmarks.ours import evaluations

    run = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    found = [(when - began, value) for when, value in evaluations(run, "time")]
    seconds = next((when for when, value in found if value <= 1.47), None)
    if seconds is None:
        raise Absent(f"1.47 nats were not reached; the best was {min(value for _, value in found):.4f}")
    return [absolute("wall time to 1.47 nats", [seconds], "s", goal=at_most(20), ours=torch.cuda.get_device_name())]
