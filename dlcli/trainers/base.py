"""What a trainer is given: the part of a run that it may use. The run itself is built in ``dlcli.run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from dlcli.data.base import DataModule
from dlcli.optimizers.base import Optimizer
from dlcli.schedulers.base import Schedule
from dlcli.tasks.base import Task


class RunContext(Protocol):
    """One run as its trainer sees it."""

    config: dict[str, Any]
    directory: Path
    data: DataModule
    model: nn.Module
    task: Task
    device: torch.device
    seed: int
    tracker: Any
    progress: Any
    resume_state: dict[str, Any] | None

    def build_optimizer(self, network: nn.Module) -> Optimizer:
        """The configured optimizer over the network's parameters."""
        ...

    def build_scheduler(self, total_steps: int, steps_per_epoch: int) -> Schedule:
        """The configured schedule."""
        ...
