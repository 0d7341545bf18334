"""Row 13: text that is generated token by token, one sample at a time."""

from __future__ import annotations

from typing import Any

from benchmarks import workloads
from benchmarks.rows import Bench, Finding, Goal, absolute, at_least, compared, row
from benchmarks.texts import reference


@row(13, "sampling", "generating text, batch 1")
def sampling(bench: Bench) -> list[Finding]:
    size = bench.pick(full=500_000, quick=200_000, smoke=30_000)
    text = ["data=text", f"data.path={workloads.text(bench.folder(), size)}"]
    context = bench.pick(full=256, quick=256, smoke=16)
    count = bench.pick(full=1000, quick=400, smoke=12)
    gpt = [*text, "model=gpt_nano", f"data.sequence_length={context}"]
    lstm = [*text, "model=lstm"]
    return [
        *_compared(
            bench, "LSTM", lstm, "peers.recurrent:generation", "nn.LSTM with carried state", 1, count, at_least(4)
        ),
        *_compared(
            *(bench, f"GPT, the first {context} tokens", gpt, "peers.nanogpt:generation", "nanoGPT's generate()"),
            *(1, context - 1, None),
        ),
        *_compared(
            *(bench, f"GPT, context of {context} full", gpt, "peers.nanogpt:generation", "nanoGPT's generate()"),
            *(context, count, at_least(8)),
        ),
    ]


def _compared(
    bench: Bench, what: str, overrides: list[str], function: str, peer: str, prompt: int, count: int, goal: Goal | None
) -> list[Finding]:
    common: dict[str, Any] = {"overrides": overrides, "prompt": prompt, "count": count}
    extra: dict[str, Any] = {"reference": reference(bench)} if "nanogpt" in function else {}
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:generation", **common)),
            "itself (A/A)": bench.twin(ours),
            peer: bench.worker(function, **common, **extra),
        }
    )
    rates = [
        absolute(f"{what}: {name}", [1 / value for value in measured.values(name)], "tokens/s")
        for name in ("dlcli", peer)
        if name in measured.rounds
    ]
    return [
        compared(measured, f"{what}: times faster than {peer}", "dlcli", peer, goal=goal, faster=True),
        *rates,
        compared(measured, f"{what}: dlcli against itself (A/A)", "dlcli", "itself (A/A)"),
    ]
