"""PyTorch-Ignite: a supervised trainer with its TensorBoard logger, progress bar and checkpoint handler."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures
from benchmarks.workloads import STEPS_PER_LOG, STEPS_PER_SAVE, built, clocked, limited, per_step


def steps(folder: str, overrides: list[str], steps: int) -> Any:
    run = built(overrides)
    times = clocked(run)
    from ignite.engine import Events, create_supervised_trainer
    from ignite.handlers import ModelCheckpoint, ProgressBar
    from ignite.handlers.tensorboard_logger import TensorboardLogger
    from torch.nn import functional as F

    from benchmarks.peers.raw import optimizer_for

    def block() -> Figures:
        times.clear()
        optimizer = optimizer_for(run, "torch_fused")
        trainer = create_supervised_trainer(run.model, optimizer, F.cross_entropy)
        ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss})
        with TensorboardLogger(log_dir=folder) as logger:
            logger.attach_output_handler(
                trainer,
                Events.ITERATION_COMPLETED(every=STEPS_PER_LOG),
                "train",
                output_transform=lambda loss: {"loss": loss},
            )
            keep = ModelCheckpoint(folder, "state", n_saved=2, require_empty=False)
            saved = {"model": run.model, "optimizer": optimizer}
            trainer.add_event_handler(Events.ITERATION_COMPLETED(every=STEPS_PER_SAVE), keep, saved)
            trainer.run(limited(run, steps), max_epochs=1, epoch_length=steps)
        return {"seconds": per_step(times, steps)}

    return block
