"""Rows 4, 5 and 7: what a trainer adds to a step, the step itself, and an epoch from beginning to end."""

from __future__ import annotations

from typing import Any

from benchmarks import workloads
from benchmarks.rows import Bench, Finding, absolute, at_least, at_most, compared, compared_with_all, row

MLP = ["model=mlp", "model.hidden_sizes=[256]", "data.batch_size=256", "optimizer=adamw", "trainer.precision=fp32"]
PEERS = {
    "Ignite": "peers.ignite_trainer:steps",
    "Accelerate": "peers.accelerate_loop:steps",
    "Hugging Face Trainer": "peers.huggingface_trainer:steps",
    "Lightning": "peers.lightning_trainer:steps",
}


def pictures(bench: Bench) -> list[str]:
    """MNIST; where nothing is measured, pictures that are there without a network."""
    return bench.pick(full=["data=mnist"], quick=["data=mnist"], smoke=["data=digits"])


@row(4, "overhead", "what the trainer adds to a raw loop: TensorBoard, progress bar and checkpoints on")
def overhead(bench: Bench) -> list[Finding]:
    steps = bench.pick(full=5000, quick=1000, smoke=60)
    table = workloads.table(bench.folder(), bench.pick(full=8000, quick=8000, smoke=400))
    linear = [
        *("data=csv", f"data.path={table}", "data.target=label", "data.batch_size=8"),
        *("model=linear", "optimizer=adamw", "trainer.precision=fp32"),
    ]
    mlp = [*pictures(bench), *MLP]
    return [
        *_overhead(bench, "Linear(8, 10), batch 8", linear, steps, microseconds=20),
        *_overhead(bench, "784-256-10, batch 256", mlp, max(steps // 5, 20), microseconds=None),
    ]


def _overhead(bench: Bench, what: str, overrides: list[str], steps: int, microseconds: float | None) -> list[Finding]:
    """Ours against a loop with the same optimizer; the peers against a loop with theirs, torch's fused AdamW."""
    common: dict[str, Any] = {"overrides": overrides, "steps": steps}
    quick = {} if microseconds is None else {"Lightning": PEERS["Lightning"]}
    peers = bench.pick(full=PEERS, quick=quick, smoke={})
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:steps", **common)),
            "itself (A/A)": bench.twin(ours),
            "raw loop": bench.worker("peers.raw:steps", **common, optimizer="dlcli"),
            "raw loop, torch's fused AdamW": bench.worker("peers.raw:steps", **common, optimizer="torch_fused"),
            **{name: bench.worker(function, **common) for name, function in peers.items()},
        }
    )
    findings = []
    for name in ["dlcli", *peers]:
        raw = "raw loop" if name == "dlcli" else "raw loop, torch's fused AdamW"
        ratio = compared(
            *(measured, f"{what}: {name} against the {raw}", name, raw),
            goal=at_most(1.01) if name == "dlcli" and microseconds is None else None,
        )
        if not ratio.absent:
            pairs = zip(measured.values(name), measured.values(raw), strict=True)
            added = [1e6 * (with_trainer - alone) for with_trainer, alone in pairs]
            goal = at_most(microseconds) if name == "dlcli" and microseconds is not None else None
            label = f"{what}: what {name} adds to a step"
            findings.append(absolute(label, added, "µs", goal=goal, ours=ratio.ours, peer=ratio.peer))
        findings.append(ratio)
    return [*findings, compared(measured, f"{what}: dlcli against itself (A/A)", "dlcli", "itself (A/A)")]


@row(5, "step", "the default step of a 784-256-10 MLP at batch 256 against a hand-written AdamW loop")
def step(bench: Bench) -> list[Finding]:
    common: dict[str, Any] = {
        "overrides": [*pictures(bench), *MLP],
        "steps": bench.pick(full=2000, quick=600, smoke=20),
    }
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:steps", **common)),
            "itself (A/A)": bench.twin(ours),
            "torch.optim.AdamW": bench.worker("peers.raw:steps", **common, optimizer="torch"),
            "torch.optim.AdamW(fused=True)": bench.worker("peers.raw:steps", **common, optimizer="torch_fused"),
        }
    )
    return compared_with_all(measured, "dlcli", {"torch.optim.AdamW": at_most(0.92)})


@row(7, "epoch", "one MNIST epoch end to end: data, training, validation, logs, checkpoint, test")
def epoch(bench: Bench) -> list[Finding]:
    findings = []
    for precision, theirs, goal in (("fp32", "32-true", at_least(8)), ("bf16", "bf16-mixed", at_least(14))):
        overrides = [*pictures(bench), *MLP[:-1], f"trainer.precision={precision}"]
        peer: dict[str, Any] = {"overrides": overrides, "precision": theirs, "warm": bench.size == "full"}
        measured = bench.measure(
            {
                "dlcli": (ours := bench.worker("ours:epoch", overrides=overrides)),
                "itself (A/A)": bench.twin(ours),
                **{
                    f"Lightning + torchvision{f', {workers} workers' if workers else ''}": bench.worker(
                        "peers.lightning_trainer:mnist_epoch", **peer, workers=workers
                    )
                    for workers in bench.workers_of_loaders()
                },
            },
            rounds=bench.turns(quick=1),
        )
        for finding in compared_with_all(measured, "dlcli", {"Lightning + torchvision": goal}, faster=True):
            finding.what = f"{precision}: {finding.what}"
            findings.append(finding)
        for name in measured.rounds:
            if name != "itself (A/A)":
                percent = [100 * value for value in measured.values(name, "accuracy")]
                findings.append(absolute(f"{precision}: test accuracy of {name}", percent, "%"))
    return findings
