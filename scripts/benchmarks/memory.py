"""Row 16: a text that is far larger than the memory that may be used."""

from __future__ import annotations

import shutil

from benchmarks import workloads
from benchmarks.measure import Absent
from benchmarks.rows import Bench, Finding, absolute, at_most, compared, row

MODEL = ["model=gpt_nano", "optimizer=adamw"]
LIMIT = 4_000_000_000  # bytes of private memory after which the run is stopped: four times the goal


@row(16, "memory", "private memory (RssAnon) while training on a text larger than memory should be, and its step")
def memory(bench: Bench) -> list[Finding]:
    size = bench.pick(full=6_000_000_000, quick=100_000_000, smoke=60_000)
    free = shutil.disk_usage(bench.scratch).free
    if free < 2.2 * size:
        raise Absent(f"{free / 1e9:.0f} GB free in {bench.scratch}, {2.2 * size / 1e9:.0f} needed; see --scratch")
    steps = bench.pick(full=300, quick=100, smoke=5)
    sides = {}
    for name, length in (("small", min(size, 1_000_000)), ("itself (A/A)", min(size, 1_000_000)), ("large", size)):
        file = workloads.text(bench.folder(), length)
        overrides = ["data=text", f"data.path={file}", "data.batch_size=12", "data.tokenization=byte", *MODEL]
        limit = bench.pick(full=LIMIT, quick=LIMIT, smoke=None)
        # Not warmed up: what the first reading of the text needs counts as well.
        sides[name] = bench.worker("ours:memory", overrides=overrides, steps=steps, limit=limit, warm=False)
    try:
        measured = bench.measure(sides)
    finally:
        for file in bench.scratch.glob("*/text.txt"):
            file.unlink()
    what = f"{size / 1e9:g} GB of text"
    if "large" in measured.absent:
        return [Finding(f"{what}: most private memory", unit="MB", goal=at_most(1000), absent=measured.absent["large"])]
    return [
        absolute(f"{what}: most private memory", measured.values("large", "megabytes"), "MB", goal=at_most(1000)),
        absolute("1 MB of text: most private memory", measured.values("small", "megabytes"), "MB"),
        compared(measured, f"{what}: a step against that of 1 MB", "large", "small", goal=at_most(1.03)),
        compared(measured, "1 MB: a step against itself (A/A)", "small", "itself (A/A)"),
    ]
