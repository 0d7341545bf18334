"""Adadelta: steps in the parameter's own units, without a rate to tune.

Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (arXiv 1212.5701, 2012). d2l 12.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import PositiveFloat, Probability
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS


@OPTIMIZERS.register("adadelta")
class Adadelta(Optimizer):
    """Scales the gradient by the ratio of two leaky root mean squares: of the past changes and of the gradients."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        rho: Probability,
        eps: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            rho: the share of both leaky averages that stays from step to step.
            eps: added below both roots; it also sets the size of the first steps.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.
        """
        self.rho, self.eps = rho, eps
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"square": torch.zeros_like(parameter), "change_square": torch.zeros_like(parameter)}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        gradient = gradient + weight_decay * parameter
        square, change_square = state["square"], state["change_square"]
        square.mul_(self.rho).add_((1 - self.rho) * gradient**2)
        change = (change_square + self.eps).sqrt() / (square + self.eps).sqrt() * gradient
        change_square.mul_(self.rho).add_((1 - self.rho) * change**2)
        parameter -= self.lr * change

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        square, change_square = batch.state["square"], batch.state["change_square"]
        if batch.weight_decay:
            gradients = list(torch._foreach_add(gradients, batch.parameters, alpha=batch.weight_decay))
        torch._foreach_mul_(square, self.rho)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - self.rho)
        root = torch._foreach_add(square, self.eps)
        torch._foreach_sqrt_(root)
        change = torch._foreach_add(change_square, self.eps)
        torch._foreach_sqrt_(change)
        torch._foreach_div_(change, root)
        torch._foreach_mul_(change, gradients)
        torch._foreach_mul_(change_square, self.rho)
        torch._foreach_addcmul_(change_square, change, change, value=1 - self.rho)
        torch._foreach_add_(batch.parameters, change, alpha=-self.lr)
