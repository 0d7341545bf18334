"""Rows 1 to 3: how long a person waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import environment
from benchmarks.rows import Bench, Finding, absolute, at_most, compared_with_all, row

PEERS = Path(__file__).parent / "peers"
ONE_STEP = ["data=digits", "model=linear", "trainer.max_steps=1", "trainer.log_every=1"]


@row(1, "help", "dlcli --help, whole process")
def show_help(bench: Bench) -> list[Finding]:
    measured = bench.measure(
        {
            "dlcli --help": (ours := bench.dlcli("--help")),
            "itself (A/A)": bench.twin(ours),
            "python -c pass": bench.command("-c", "pass"),
            "a bare Hydra app": bench.command(str(PEERS / "hydra_app.py"), "--help"),
            "LightningCLI": bench.command(str(PEERS / "lightning_cli.py"), "--help"),
        },
        rounds=bench.turns(quick=2),
    )
    return compared_with_all(measured, "dlcli --help", {"python -c pass": at_most(8)})


@row(2, "one step", "dlcli train of one step with log and checkpoint, whole process")
def one_step(bench: Bench) -> list[Finding]:
    folders = [str(bench.folder()) for _ in range(2)]
    measured = bench.measure(
        {
            "dlcli train": (ours := bench.dlcli("train", *ONE_STEP)),
            "itself (A/A)": bench.twin(ours),
            "import torch": bench.command("-c", "import torch"),
            "a plain script": bench.command(str(PEERS / "plain_script.py"), folders[0], "1"),
            "Hydra + Lightning": bench.command(str(PEERS / "lightning_script.py"), f"+folder={folders[1]}"),
        },
        rounds=bench.turns(quick=2),
    )
    return compared_with_all(measured, "dlcli train", {"import torch": at_most(0.95)})


@row(3, "compose", "compose and check a configuration, in process")
def compose(bench: Bench) -> list[Finding]:
    overrides = ["data=shakespeare", "model=gpt_nano", "optimizer.lr=1e-3"]
    measured = bench.measure(
        {
            "compose + check": (ours := bench.worker("ours:compose", overrides=overrides)),
            "itself (A/A)": bench.twin(ours),
            "Hydra's compose alone": bench.worker("peers.hydra_compose:compose", overrides=overrides),
        },
        rounds=bench.turns(full=20, quick=10),
    )
    milliseconds = [1e3 * value for value in measured.values("compose + check")]
    return [
        absolute("compose + check", milliseconds, "ms", goal=at_most(70)),
        absolute("verbs that import Hydra without composing", [len(importers())], "verbs", goal=at_most(0)),
        *compared_with_all(measured, "compose + check", {}),
    ]


def importers() -> list[str]:
    """The verbs that compose nothing and import Hydra all the same."""
    found = []
    for verb in (["--help"], ["list", "model"], ["runs"], ["completion", "bash"], ["train", "--help"]):
        code = f"import sys; from dlcli.__main__ import run; run({verb!r}); sys.exit('hydra' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
        if done.returncode:
            found.append(" ".join(verb))
    return found
