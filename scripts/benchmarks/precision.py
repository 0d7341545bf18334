"""Row 12: bf16 on the CPU against plain fp32, and what it costs in quality."""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

from benchmarks.rows import Bench, Finding, absolute, at_least, at_most, compared, row

DIGITS = ["data=digits", "data.batch_size=64"]
FASHION = ["data=fashion_mnist", "optimizer.lr=1e-3"]


class Case(NamedTuple):
    """A recipe, the metric to compare, how many times faster bf16 has to be, how many steps are timed and trained."""

    overrides: list[str]
    metric: str
    goal: float
    timed: int
    trained: int


CASES = {
    "char-LSTM": Case(["model=lstm", "data=shakespeare", "data.stand_in=false"], "val/loss", 1.5, 40, 300),
    "LeNet": Case([*FASHION, "model=lenet", "data.batch_size=256"], "val/accuracy", 1.7, 100, 600),
    "ResNet-18 at 32x32": Case(
        [*FASHION, "model=resnet18_cifar", "data.resize=32", "data.batch_size=32"], "val/accuracy", 1.8, 8, 100
    ),
}
SMOKE = {"LeNet": Case([*DIGITS, "data.resize=28", "model=lenet"], "val/accuracy", 1.7, 4, 4)}
CRITICAL = 2.78  # of Student's t with 4 degrees of freedom, two-sided, at 5 %


@row(12, "bf16", "trainer.precision=bf16 against a plain fp32 loop: time per step, and the final metric of 3 seeds")
def bf16(bench: Bench) -> list[Finding]:
    findings = []
    for name, case in (SMOKE if bench.size == "smoke" else CASES).items():
        steps = max(4, case.timed // bench.pick(full=1, quick=3, smoke=1))
        low: dict[str, Any] = {"overrides": [*case.overrides, "trainer.precision=bf16"], "steps": steps}
        measured = bench.measure(
            {
                "bf16": (ours := bench.worker("ours:steps", **low)),
                "itself (A/A)": bench.twin(ours),
                "a plain fp32 loop": bench.worker(
                    "peers.raw:task_steps", overrides=[*case.overrides, "trainer.precision=fp32"], steps=steps
                ),
            },
            rounds=bench.turns(quick=1),
        )
        findings += [
            compared(
                *(measured, f"{name}: times faster than a plain fp32 loop", "bf16", "a plain fp32 loop"),
                goal=at_least(case.goal),
                faster=True,
            ),
            compared(measured, f"{name}: bf16 against itself (A/A)", "bf16", "itself (A/A)"),
        ]
        if bench.size != "quick" and not findings[-2].absent:
            findings.append(_quality(bench, name, case))
    return findings


def _quality(bench: Bench, name: str, case: Case) -> Finding:
    """How much worse bf16 ends than fp32, in standard errors of the difference between the means of the seeds."""
    metric, length = case.metric, case.trained
    ends: dict[str, list[float]] = {}
    for precision in ("bf16", "fp32"):
        fixed = [f"trainer.precision={precision}", f"trainer.max_steps={length}", f"trainer.eval_every={length}"]
        seeds = range(bench.pick(full=3, quick=0, smoke=2))
        sides = {
            str(seed): bench.worker(
                "ours:final", overrides=[*case.overrides, *fixed, f"seed={seed}"], metric=metric, warm=False
            )
            for seed in seeds
        }
        for side in sides.values():  # one after another: they would share the cores
            measured = bench.measure({precision: side}, rounds=1)
            if measured.absent:
                return Finding(f"{name}: {metric}", absent=measured.absent[precision])
            ends.setdefault(precision, []).append(measured.values(precision, "metric")[0])
    low, full = ends["bf16"], ends["fp32"]
    worse = statistics.mean(low) - statistics.mean(full)
    if metric.endswith("accuracy"):
        worse = -worse
    error = math.sqrt((statistics.variance(low) + statistics.variance(full)) / len(low)) or 1e-12
    return absolute(
        f"{name}: {metric} after {length} steps of bf16, worse than fp32 by",
        [worse / error],
        "standard errors",
        goal=at_most(CRITICAL) if bench.size == "full" else None,
        ours=" ".join(f"{value:.4f}" for value in low),
        peer=" ".join(f"{value:.4f}" for value in full),
    )
