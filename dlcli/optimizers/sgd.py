"""Stochastic gradient descent, with momentum.

Sources: Robbins and Monro (1951); Polyak (1964) for momentum; Sutskever et al., "On the importance of initialization
and momentum in deep learning" (ICML 2013) for Nesterov's form. d2l 12.4 to 12.6, DLFS chapter 4, GDL chapters 4 to 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Probability
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS


@OPTIMIZERS.register("sgd")
class SGD(Optimizer):
    """Steps against the gradient, or against a leaky sum of the gradients (momentum)."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        momentum: Probability,
        nesterov: bool,
        **options: Any,
    ):
        """
        Args:
            momentum: the share of the velocity that stays from step to step; 0 keeps no velocity.
            nesterov: step along the gradient plus the velocity's next share, as if looking ahead.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.

        Raises:
            ConfigError: ``nesterov`` without momentum.
        """
        if nesterov and momentum == 0:
            raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0; add optimizer.momentum=0.9")
        self.momentum, self.nesterov = momentum, nesterov
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"velocity": torch.zeros_like(parameter)} if self.momentum else {}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        direction = gradient + weight_decay * parameter
        if self.momentum:
            velocity = state["velocity"]
            velocity.mul_(self.momentum).add_(direction)
            direction = direction + self.momentum * velocity if self.nesterov else velocity
        parameter -= self.lr * direction

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        torch._fused_sgd_(
            batch.parameters,
            gradients,
            batch.state.get("velocity", []),
            weight_decay=batch.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,  # the velocity starts at zero, so the first step needs no case of its own
        )
