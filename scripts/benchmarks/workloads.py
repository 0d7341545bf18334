"""What is trained in the rows: the same model, initial weights, data and batches for us and for every peer.

Imported in workers only (and, at the top, without torch: dlcli sets the threads before torch is imported).
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import clock

STEPS_PER_SAVE = 1000
STEPS_PER_LOG = 50


class Clocked:
    """Batches that note the time whenever one is asked for: the only instrument inside any training loop."""

    def __init__(self, batches: Any, times: list[float]):
        self.batches, self.times = batches, times

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        self.times.append(clock())
        return self.batches[index]


def clocked(run: Any) -> list[float]:
    """Let a run's training batches note the times, in the list that is returned."""
    times: list[float] = []
    original = run.data.batches

    def batches(split: str, **options: Any) -> Any:
        found = original(split, **options)
        return Clocked(found, times) if split == "train" else found

    run.data.batches = batches
    return times


def per_step(times: list[float], steps: int) -> float:
    """Seconds per step, the first tenth left out. Logs and checkpoints between the steps count."""
    times = times[-steps:]  # not what was asked for while the run was built
    skipped = max(1, len(times) // 10)
    return (times[-1] - times[skipped]) / (len(times) - 1 - skipped)


def built(overrides: list[str]) -> Any:
    """Data, model and task as ``dlcli train OVERRIDES`` builds them, without a folder. For peers as well as for us."""
    from dlcli.cli.train import prepare

    return prepare(overrides, config_dirs=[], plugins=[], quiet=True)


def started(overrides: list[str], folder: str) -> Any:
    """A run that ``train()`` will train, as on the command line."""
    from dlcli.cli.train import start_run

    overrides = [*overrides, f"run_dir={folder}/runs"]
    return start_run(overrides, command="bench", config_dirs=[], plugins=[], quiet=False)


def endless(batches: Any) -> Iterator[Any]:
    """Epoch after epoch of ``batches(epoch=…)``."""
    epoch = 0
    while True:
        found = batches("train", order="shuffled", seed=0, epoch=epoch)
        for index in range(len(found)):
            yield found[index]
        epoch += 1


def limited(run: Any, steps: int) -> Iterator[Any]:
    """``steps`` batches."""
    source = endless(run.data.batches)
    for _ in range(steps):
        yield next(source)


def table(folder: Path, rows: int = 8000) -> Path:
    """A CSV file of 8 numbers and one of 10 classes in each row."""
    file = folder / "table.csv"
    draw = random.Random(0)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(f"x{index}" for index in range(8)), "label"])
        for _ in range(rows):
            writer.writerow([*(f"{draw.gauss(0, 1):.4f}" for _ in range(8)), f"class {draw.randrange(10)}"])
    return file


def colour_pictures(count: int) -> tuple[Any, Any]:
    """Random pictures (count, 3, 32, 32) uint8, like CIFAR-10's, and labels (count,)."""
    import torch

    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return pixels, torch.randint(10, (count,), generator=draw)


WORDS = 5000
PIECE = 1 << 18  # characters that are made up; a longer text repeats them from another place each time


def text(folder: Path, size: int) -> Path:
    """A text of ``size`` characters: lines of made-up words, the frequent ones frequent. Written piece by piece."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 8))) for _ in range(WORDS)]
    drawn = draw.choices(words, [1 / (rank + 1) for rank in range(WORDS)], k=PIECE // 4)
    lines = (" ".join(drawn[start : start + 10]).capitalize() for start in range(0, len(drawn), 10))
    piece = ".\n".join(lines)[:PIECE]
    file = folder / "text.txt"
    with file.open("w") as stream:
        written = 0
        while written < size:
            offset = draw.randrange(len(piece))
            written += stream.write((piece[offset:] + piece[:offset])[: size - written])
    return file
