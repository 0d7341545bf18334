"""Row 14: eight tiny jobs, each in a fresh process."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Bench, Finding, at_most, compared_with_all, row

PEERS = Path(__file__).parent / "peers"
JOBS = 8
OURS = ["train", "-m", "data=digits", "model=linear", "trainer.max_steps=5", f"seed=range({JOBS})"]


@row(14, "sweep", "a sweep of 8 tiny jobs, whole command")
def sweep(bench: Bench) -> list[Finding]:
    app = str(PEERS / "hydra_app.py")
    theirs = ["--multirun", f"+seed=range({JOBS})"]
    script = "import subprocess, sys; [subprocess.run([sys.executable, *sys.argv[1:]], check=True) for _ in range(8)]"
    warm = bench.size == "full"
    measured = bench.measure(
        {
            "dlcli": (ours := bench.dlcli(*OURS)),
            "itself (A/A)": bench.twin(ours),
            "import torch alone": bench.command("-c", "import torch"),
            "Hydra's basic launcher (one process)": bench.command(app, *theirs, warm=warm),
            "Hydra's joblib launcher": bench.command(
                app, *theirs, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", warm=warm
            ),
            "a shell loop": bench.command(
                "-c", script, str(PEERS / "plain_script.py"), str(bench.folder()), "5", warm=warm
            ),
        },
        rounds=bench.turns(quick=1),
    )
    seconds = measured.values("dlcli") if "dlcli" in measured.rounds else []
    return [
        Finding("seconds of dlcli's sweep", seconds, "s", at_most(1.8), absent=measured.absent.get("dlcli", "")),
        *compared_with_all(measured, "dlcli", {}),
    ]
