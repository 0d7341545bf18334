"""Rows 6, 8 and 9: batches, nothing but batches."""

from __future__ import annotations

from typing import Any

from benchmarks import workloads
from benchmarks.rows import Bench, Finding, at_least, at_most, compared_with_all, row
from benchmarks.training import MLP, pictures


def torchvision_side(workers: int) -> str:
    return f"torchvision + DataLoader{f', {workers} workers' if workers else ''}"


@row(6, "pictures", "one MNIST epoch of data, batch 256; and training on it against training without any loading")
def loading(bench: Bench) -> list[Finding]:
    common: dict[str, Any] = {"overrides": [*pictures(bench), "model=mlp", "data.batch_size=256"]}
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:data_epoch", **common)),
            "itself (A/A)": bench.twin(ours),
            **{
                torchvision_side(workers): bench.worker("peers.torchvision_data:data_epoch", **common, workers=workers)
                for workers in bench.workers_of_loaders()
            },
        }
    )
    goals = {"torchvision + DataLoader": at_least(100)}
    steps: dict[str, Any] = {"overrides": [*pictures(bench), *MLP], "steps": bench.pick(full=1500, quick=600, smoke=20)}
    trained = bench.measure(
        {
            "a loop on dlcli's data": (ours := bench.worker("peers.raw:steps", **steps, optimizer="dlcli")),
            "itself (A/A)": bench.twin(ours),
            "the loop on one batch": bench.worker("peers.raw:steps", **steps, optimizer="dlcli", loading=False),
        }
    )
    return [
        *compared_with_all(measured, "dlcli", goals, faster=True),
        *compared_with_all(trained, "a loop on dlcli's data", {"the loop on one batch": at_most(1.03)}),
    ]


@row(8, "augmentation", "crop, flip and standardise 50,000 pictures of 3x32x32")
def augmentation(bench: Bench) -> list[Finding]:
    common: dict[str, Any] = {"count": bench.pick(full=50_000, quick=10_000, smoke=300), "batch_size": 128}
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:augmented_epoch", **common)),
            "itself (A/A)": bench.twin(ours),
            "torchvision v2": bench.worker("peers.torchvision_data:augmented_epoch", **common, version=2),
            "torchvision v1": bench.worker("peers.torchvision_data:augmented_epoch", **common, version=1),
        }
    )
    goals = {"torchvision v2": at_least(12), "torchvision v1": at_least(8)}
    return compared_with_all(measured, "dlcli", goals, faster=True)


@row(9, "characters", "batches of 64 windows of 64 characters")
def characters(bench: Bench) -> list[Finding]:
    file = workloads.text(bench.folder(), bench.pick(full=1_115_394, quick=1_115_394, smoke=50_000))
    overrides = ["data=text", f"data.path={file}", "data.batch_size=64", "data.sequence_length=64", "model=gpt_nano"]
    measured = bench.measure(
        {
            "dlcli": (ours := bench.worker("ours:data_epoch", overrides=overrides)),
            "itself (A/A)": bench.twin(ours),
            "nanoGPT's get_batch": bench.worker(
                "peers.nanogpt:batches", overrides=overrides, count=bench.pick(full=1000, quick=300, smoke=5)
            ),
        }
    )
    return compared_with_all(measured, "dlcli", {"nanoGPT's get_batch": at_least(50)}, faster=True)
