"""What every trainer offers, and what it is given: the part of a run that it may use. ``dlcli.run`` builds the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Protocol

import torch
from torch import nn

from dlcli.data.base import DataModule
from dlcli.distributed import Group
from dlcli.errors import DataError
from dlcli.optimizers.base import Optimizer
from dlcli.schedulers.base import Schedule
from dlcli.tasks.base import Networks, Task
from dlcli.trainers.loop import Loop


class RunContext(Protocol):
    """One run as its trainer sees it."""

    config: dict[str, Any]
    data: DataModule
    model: nn.Module
    task: Task
    device: torch.device
    seed: int
    group: Group | None  # of the processes that train together; None for one alone
    progress: Any
    resume_state: dict[str, Any] | None  # the checkpoint to continue from

    def build_optimizer(self, network: str) -> Optimizer:
        """The configured optimizer over the parameters of "model", or of the child of it that has this name."""
        ...

    def build_scheduler(self, total_steps: int, steps_per_epoch: int) -> Schedule:
        """The configured schedule."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars, such as "train/loss", in TensorBoard and ``metrics.jsonl``."""
        ...

    def log_offsets(self) -> dict[str, int]:
        """Bytes written to each log so far; a resumed run cuts them back to these."""
        ...

    def cut_logs(self, offsets: dict[str, int]) -> None:
        """Cut the logs back to these lengths, when the run goes back to a checkpoint."""
        ...

    def show(self, step: int, split: str, measured: Mapping[str, Any], networks: Networks) -> None:
        """Record pictures and samples after an evaluation."""
        ...

    def note(self, step: int, tag: str, text: str) -> None:
        """Record a text in TensorBoard."""
        ...

    def show_signals(self, step: int) -> None:
        """Record how large each layer's output and gradient are on the first training batch."""
        ...

    def say(self, text: str) -> None:
        """Tell the person one line."""
        ...

    def save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        """Write ``<name>.pt`` durably, with the random generators' state."""
        ...

    def load_checkpoint(self) -> dict[str, Any]:
        """The newest good checkpoint."""
        ...

    def drop_checkpoint(self, name: str) -> None:
        """Delete ``<name>.pt`` if it exists."""
        ...

    def restore_random_state(self, state: Mapping[str, Any]) -> None:
        """Set the random generators to a checkpoint's state."""
        ...

    def interrupted(self) -> bool:
        """Whether a signal asked the run to stop."""
        ...

    def leave_interrupted(self, step: int) -> NoReturn:
        """Raise Interrupted, after the state was saved."""
        ...


class Trainer:
    """What owns time: which data come next, how parameters move, when to evaluate, log and save.

    Every constructor takes ``device`` and ``precision``. A trainer saves checkpoints through ``run.save_checkpoint``
    with at least "model" (the model's state) and "loop" (the fields of its ``Loop``), so that runs of all trainers are
    listed, opened, evaluated and resumed alike.

    Class attributes, read from the source before anything is imported:
        uses: which of the groups "optimizer" and "scheduler" it builds; the others are no part of its runs.
        model_methods: what a model must have to be trained by it, beside ``forward``.
        requires: sizes of DataSpec that the data must define.
    """

    uses: ClassVar[tuple[str, ...]] = ("optimizer", "scheduler")
    model_methods: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    loop: Loop | None = None  # where it stands, once it has begun

    def fit(self, run: RunContext) -> str:
        """Train from the beginning, or from ``run.resume_state``. Returns why it ended, in words.

        Raises:
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        raise NotImplementedError

    def check(self, run: RunContext) -> None:
        """Called when all parts are built, before a folder is made. By default nothing is refused.

        Raises:
            ConfigError: this trainer cannot train this model, or not for this task.
        """

    def try_out(self, run: RunContext) -> dict[str, float]:
        """What the first training batch gives, by name, for a dry run. Changes no parameter."""
        raise NotImplementedError


def restore_model(run: RunContext, state: Mapping[str, Any]) -> None:
    """Set the model and the random generators to those of a checkpoint.

    Raises:
        DataError: the checkpoint holds another model.
    """
    try:
        run.model.load_state_dict(state["model"])
    except RuntimeError:
        raise DataError("the checkpoint is that of another model; put the run's own back") from None
    run.model.to(run.device)  # a fitted model's numbers come with the checkpoint
    run.restore_random_state(state)
