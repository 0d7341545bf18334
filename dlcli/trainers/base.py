"""What a trainer is given: the part of a run that it may use. The run itself is built in ``dlcli.run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import torch
from torch import nn

from dlcli.data.base import DataModule
from dlcli.distributed import Group
from dlcli.optimizers.base import Optimizer
from dlcli.schedulers.base import Schedule
from dlcli.tasks.base import Networks, Task


class RunContext(Protocol):
    """One run as its trainer sees it. A trainer is a registered class with ``fit(run) -> reason for ending``."""

    config: dict[str, Any]
    data: DataModule
    model: nn.Module
    task: Task
    device: torch.device
    seed: int
    group: Group | None  # of the processes that train together; None for one alone
    progress: Any
    resume_state: dict[str, Any] | None  # the checkpoint to continue from

    def build_optimizer(self, network: nn.Module) -> Optimizer:
        """The configured optimizer over the network's parameters."""
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
