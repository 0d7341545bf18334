"""dlcli's side of the rows that are measured inside a process, through the same code as the command line."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from benchmarks.measure import Absent, Figures, clock
from benchmarks.workloads import STEPS_PER_LOG, STEPS_PER_SAVE, built, clocked, per_step, started

STATUS = Path("/proc/self/status")
UNMEASURED = ["trainer.eval_every=null", "trainer.limit_eval_batches=1"]  # the evaluation that ends every run


def steps(folder: str, overrides: list[str], steps: int) -> Any:
    """Training with everything on: TensorBoard, progress bar, checkpoints."""
    fixed = [
        f"trainer.max_steps={steps}",
        f"trainer.log_every={STEPS_PER_LOG}",
        f"trainer.checkpoint_every={STEPS_PER_SAVE}",
        *UNMEASURED,
    ]

    def block() -> Figures:
        run = started([*overrides, *fixed], folder)
        times = clocked(run)
        run.train()
        return {"seconds": per_step(times, steps)}

    return block


def compose(folder: str, overrides: list[str]) -> Any:
    """Compose and check a configuration; Hydra is imported already."""
    from dlcli.config import compose

    def block() -> Figures:
        began = clock()
        compose(overrides)
        return {"seconds": clock() - began}

    return block


def data_epoch(folder: str, overrides: list[str]) -> Any:
    """One shuffled epoch of batches, nothing done with them."""
    run = built(overrides)
    epochs = iter(range(10**6))

    def block() -> Figures:
        began = clock()
        batches = run.data.batches("train", order="shuffled", seed=0, epoch=next(epochs))
        for index in range(len(batches)):
            batches[index]
        return {"seconds": (clock() - began) / len(batches)}

    return block


def augmented_epoch(folder: str, count: int, batch_size: int) -> Any:
    """Seconds for each picture of one shuffled epoch that is cropped, flipped and standardised on the way."""
    from benchmarks.workloads import colour_pictures
    from dlcli.data.images import ImageData

    data = ImageData(
        {"train": colour_pictures(count)},
        [str(label) for label in range(10)],
        255,
        batch_size=batch_size,
        normalize=True,
        resize=None,
        augmentation={"horizontal_flip": 0.5, "crop_padding": 4},
    )
    epochs = iter(range(10**6))

    def block() -> Figures:
        began = clock()
        batches = data.batches("train", order="shuffled", seed=0, epoch=next(epochs))
        for index in range(len(batches)):
            batches[index]
        return {"seconds": (clock() - began) / count}

    return block


def epoch(folder: str, overrides: list[str]) -> Any:
    """One epoch from beginning to end: data, training, validation, logs, checkpoints, test."""

    def block() -> Figures:
        began = clock()
        run = started([*overrides, "trainer.max_epochs=1"], folder)
        run.train()
        return {"seconds": clock() - began, "accuracy": run.summary["metrics"]["test"]["accuracy"]}

    return block


def curve(folder: str, overrides: list[str]) -> Any:
    """One training; the validation loss by step."""

    def block() -> Figures:
        run = started(overrides, folder)
        run.train()
        return {str(step): loss for step, loss in evaluations(run.directory, "step")}

    return block


def evaluations(run: Path, key: str) -> list[tuple[Any, float]]:
    """The validation losses of a run with their "step" or "time"."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line[key], line["val/loss"]) for line in lines if "val/loss" in line]


def final(folder: str, overrides: list[str], metric: str) -> Any:
    """One training; a validation metric at its end."""

    def block() -> Figures:
        run = started(overrides, folder)
        run.train()
        lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
        return {"metric": [line[metric] for line in lines if metric in line][-1]}

    return block


def generation(folder: str, overrides: list[str], prompt: int, count: int) -> Any:
    """Seconds for one generated token, through ``SavedRun`` as ``dlcli sample`` does it, the prompt's time included."""
    run = started([*overrides, "trainer.max_steps=1", *UNMEASURED], folder)
    run.train()
    from dlcli.saved_run import SavedRun

    text = run.data.vocabulary.decode(run.data.parts["val"][:prompt].tolist())
    saved = SavedRun(run.directory)
    options = {**saved.task.sample_defaults, "prompt": text, "length": count, "temperature": 0.8, "num_samples": 1}

    def block() -> Figures:
        began = clock()
        for _ in saved.task.sample(saved.model, **options):
            pass
        return {"seconds": (clock() - began) / count}

    return block


def memory(folder: str, overrides: list[str], steps: int, limit: int | None) -> Any:
    """Training on a large text: seconds per step, and the most private memory (RssAnon, MB) from beginning to end.

    ``limit`` is the number of bytes after which this process gets no more, so that no machine is brought down.
    """
    import resource

    os.environ["DLCLI_CACHE"] = f"{folder}/cache"
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if not STATUS.exists():
        raise Absent(f"no {STATUS} on this system")
    fixed = [f"trainer.max_steps={steps}", "trainer.log_every=50", *UNMEASURED]

    def block() -> Figures:
        seen, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                lines = STATUS.read_text().splitlines()
                seen.append(next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            run = started([*overrides, *fixed], folder)
            times = clocked(run)
            run.train()
        finally:
            done.set()
            watcher.join()
        return {"seconds": per_step(times, steps), "megabytes": max(seen)}

    return block
