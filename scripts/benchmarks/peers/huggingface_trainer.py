"""Hugging Face's Trainer, on the batches as they come (without its per-example collation)."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures
from benchmarks.workloads import STEPS_PER_LOG, STEPS_PER_SAVE, built, clocked, limited, per_step


def steps(folder: str, overrides: list[str], steps: int) -> Any:
    run = built(overrides)
    times = clocked(run)
    import transformers
    from torch import nn
    from torch.nn import functional as F

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = run.model

        def forward(self, inputs: Any, labels: Any) -> dict[str, Any]:
            scores = self.model(inputs)
            return {"loss": F.cross_entropy(scores, labels), "logits": scores}

    class Source:
        def __iter__(self) -> Any:
            return ({"inputs": inputs, "labels": labels} for inputs, labels in limited(run, steps))

        def __len__(self) -> int:
            return steps

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return Source()

    def block() -> Figures:
        times.clear()
        options = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            learning_rate=run.config["optimizer"]["lr"],
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            optim="adamw_torch_fused",
            logging_steps=STEPS_PER_LOG,
            save_steps=STEPS_PER_SAVE,
            report_to=["tensorboard"],
            use_cpu=True,
        )
        Trainer(model=WithLoss(), args=options, train_dataset=[0]).train()
        return {"seconds": per_step(times, steps)}

    return block
