"""The table, as text, Markdown and JSON, and the machine that it was measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks import suite
from benchmarks.measure import cores
from benchmarks.rows import Finding, Row, number

PACKAGES = (
    *("dlcli", "torch", "torchvision", "lightning", "transformers", "accelerate", "pytorch-ignite"),
    *("hydra-core", "hydra-joblib-launcher"),
)
MET = {True: "yes", False: "no", None: ""}


def versions() -> dict[str, str]:
    """The versions of what is compared, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> str:
    """One paragraph: processor, cores, load, versions, and the clock that was used."""
    threads = os.environ.get("OMP_NUM_THREADS", cores())
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    kind = "processor time" if os.environ.get("BENCH_CLOCK") == "cpu" else "wall time"
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{processor()}, {cores()} cores, {threads} threads, {load}, {kind}; {packages}"


def cells(finding: Finding) -> list[str]:
    """What, ours, peer, min / median / max, goal, whether it is met."""
    if finding.absent:
        figure = f"not measured: {finding.absent}"
    else:
        three = (min(finding.values), finding.median, max(finding.values))
        figure = " / ".join(number(value) for value in three) + f" {finding.unit}"
    goal = f"{finding.goal} {finding.unit}" if finding.goal else ""
    return [finding.what, finding.ours, finding.peer, figure, goal, MET[finding.met]]


def of_row(row: Row, findings: Sequence[Finding]) -> str:
    """For a terminal: the row's title and a line for each finding."""
    lines = [f"{row.number}  {row.what}"]
    for finding in findings:
        what, ours, peer, figure, goal, met = cells(finding)
        times = f"  ({ours} : {peer})" if ours and peer else f"  ({ours or peer})" if ours or peer else ""
        verdict = f"  goal {goal}: {met}" if goal else ""
        lines.append(f"    {what}: {figure}{times}{verdict}")
    return "\n".join(lines) + "\n"


def markdown(found: Mapping[int, Sequence[Finding]], size: str) -> str:
    """The whole table."""
    lines = [
        f"Measured with `scripts/bench{'' if size == 'full' else f' --{size}'}` on: {machine()}.",
        "Figures are min / median / max over the rounds; in each round the sides ran one right after the other.",
        "",
        "| # | what | dlcli | peer | min / median / max | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in suite.ROWS:
        for position, finding in enumerate(found.get(row.number, [])):
            lines.append(f"| {row.number if position == 0 else ''} | " + " | ".join(cells(finding)) + " |")
    return "\n".join(lines) + "\n"


def as_json(found: Mapping[int, Sequence[Finding]], size: str) -> str:
    """Every figure of every round."""
    rows = [
        {"row": r.number, "name": r.name, "what": r.what, "findings": [f.plain() for f in found[r.number]]}
        for r in suite.ROWS
        if r.number in found
    ]
    return json.dumps({"size": size, "machine": machine(), "versions": versions(), "rows": rows}, indent=1) + "\n"
