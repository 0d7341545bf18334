"""Hugging Face Accelerate: its own loop, with its TensorBoard tracker, a tqdm bar and ``save_state``."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures
from benchmarks.workloads import STEPS_PER_LOG, STEPS_PER_SAVE, built, clocked, limited, per_step


def steps(folder: str, overrides: list[str], steps: int) -> Any:
    run = built(overrides)
    times = clocked(run)
    from accelerate import Accelerator
    from torch.nn import functional as F
    from tqdm import tqdm

    from benchmarks.peers.raw import optimizer_for

    def block() -> Figures:
        times.clear()
        accelerator = Accelerator(log_with="tensorboard", project_dir=folder, cpu=True)
        accelerator.init_trackers("bench")
        model, optimizer = accelerator.prepare(run.model, optimizer_for(run, "torch_fused"))
        for step, (inputs, targets) in enumerate(tqdm(limited(run, steps), total=steps), start=1):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            if step % STEPS_PER_LOG == 0:
                accelerator.log({"train/loss": loss.item()}, step=step)
            if step % STEPS_PER_SAVE == 0:
                accelerator.save_state(f"{folder}/state")
        accelerator.end_training()
        return {"seconds": per_step(times, steps)}

    return block
