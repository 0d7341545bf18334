"""Lightning with what it does by default: TensorBoard logger, progress bar, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, clock
from benchmarks.workloads import STEPS_PER_LOG, STEPS_PER_SAVE, built, clocked, limited, per_step


def module(model: Any, lr: float, fused: bool = True) -> Any:
    import lightning
    import torch
    from torch.nn import functional as F

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Any:
            inputs, targets = batch
            loss = F.cross_entropy(self.model(inputs), targets)
            self.log("train/loss", loss, prog_bar=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self._measure(batch, "val")

        def test_step(self, batch: Any, index: int) -> None:
            self._measure(batch, "test")

        def _measure(self, batch: Any, part: str) -> None:
            inputs, targets = batch
            scores = self.model(inputs)
            accuracy = (scores.argmax(1) == targets).float().mean()
            self.log_dict({f"{part}/loss": F.cross_entropy(scores, targets), f"{part}/accuracy": accuracy})

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=lr, fused=fused)

    return Module()


class Source:
    """Batches for one fit."""

    def __init__(self, run: Any, steps: int):
        self.run, self.steps = run, steps

    def __iter__(self) -> Any:
        return limited(self.run, self.steps)

    def __len__(self) -> int:
        return self.steps


def steps(folder: str, overrides: list[str], steps: int) -> Any:
    run = built(overrides)
    times = clocked(run)
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    def block() -> Figures:
        times.clear()
        trainer = lightning.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_steps=steps,
            log_every_n_steps=STEPS_PER_LOG,
            callbacks=[ModelCheckpoint(every_n_train_steps=STEPS_PER_SAVE)],
        )
        trainer.fit(module(run.model, run.config["optimizer"]["lr"]), Source(run, steps))
        return {"seconds": per_step(times, steps)}

    return block


def mnist_epoch(folder: str, overrides: list[str], precision: str, workers: int) -> Any:
    """One epoch over torchvision's MNIST with a DataLoader, validated, saved and tested."""
    import warnings

    import lightning
    from torch.utils.data import DataLoader

    from benchmarks.peers.torchvision_data import mnist_parts

    warnings.filterwarnings("ignore")
    run = built(overrides)
    batch_size = run.config["data"]["batch_size"]

    def block() -> Figures:
        fresh = built(overrides)
        began = clock()
        train, val, test = mnist_parts(run.data, Path(folder))
        options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
        trainer = lightning.Trainer(default_root_dir=folder, accelerator="cpu", max_epochs=1, precision=precision)
        model = module(fresh.model, run.config["optimizer"]["lr"])
        trainer.fit(
            model,
            DataLoader(train, batch_size, shuffle=True, **options),
            DataLoader(val, 512, **options),
        )
        trainer.test(model, DataLoader(test, 512, **options), verbose=False)
        seconds = clock() - began
        return {"seconds": seconds, "accuracy": float(trainer.callback_metrics["test/accuracy"])}

    return block
