"""Plain PyTorch: loops by hand, with nothing around them."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures
from benchmarks.workloads import built, clocked, limited, per_step


def optimizer_for(run: Any, kind: str) -> Any:
    """ "dlcli": the run's own; "torch": torch.optim.AdamW as people write it; "torch_fused": with ``fused=True``."""
    import torch

    if kind == "dlcli":
        return run.build_optimizer("model")
    options = {key: run.config["optimizer"][key] for key in ("lr", "eps", "weight_decay")}
    fused = {"fused": True} if kind == "torch_fused" else {}
    return torch.optim.AdamW(run.model.parameters(), betas=tuple(run.config["optimizer"]["betas"]), **options, **fused)


class SameBatch:
    """A data module's ``batches`` that gives one batch again and again."""

    def __init__(self, batch: Any):
        self.batch = batch

    def __call__(self, split: str, **options: Any) -> list[Any]:
        return [self.batch] * 1000


def steps(folder: str, overrides: list[str], steps: int, optimizer: str, loading: bool = True) -> Any:
    """Forward, backward and step; no log, no progress, no checkpoint. Without ``loading``, on one batch always."""
    run = built(overrides)
    if not loading:
        run.data.batches = SameBatch(run.data.batches("train", order="shuffled", seed=0, epoch=0)[0])
    times = clocked(run)
    from torch.nn import functional as F

    def block() -> Figures:
        updates = optimizer_for(run, optimizer)
        times.clear()
        for inputs, targets in limited(run, steps):
            updates.zero_grad()
            F.cross_entropy(run.model(inputs), targets).backward()
            updates.step()
        return {"seconds": per_step(times, steps)}

    return block


def task_steps(folder: str, overrides: list[str], steps: int) -> Any:
    """A loop around any of dlcli's tasks, in the order that it asks for, with its clipping and optimizer."""
    run = built(overrides)
    times = clocked(run)
    import torch

    clip = run.config["trainer"]["clip_norm"]
    order = "stream" if run.task.carries_state(run.model) else "shuffled"

    def block() -> Figures:
        updates = run.build_optimizer("model")
        times.clear()
        carry, done = None, 0
        while done < steps:
            batches = run.data.batches("train", order=order, seed=0, epoch=done)
            for index in range(min(len(batches), steps - done)):
                batch = batches[index]
                if carry is not None:
                    batch = batch._replace(carry=carry)
                updates.zero_grad()
                loss = next(run.task.training_step({"model": run.model}, batch))
                loss.value.backward()
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
                updates.step()
                carry, done = loss.carry, done + 1
            carry = None
        return {"seconds": per_step(times, steps)}

    return block
