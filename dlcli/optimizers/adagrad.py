"""AdaGrad: each coordinate's rate falls with the squares of its gradients so far.

Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization"
(JMLR 2011). d2l 12.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import PositiveFloat
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS


@OPTIMIZERS.register("adagrad")
class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all squared gradients."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        eps: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            eps: added to the root, against division by zero.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.
        """
        self.eps = eps
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"sum_of_squares": torch.zeros_like(parameter)}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        gradient = gradient + weight_decay * parameter
        sum_of_squares = state["sum_of_squares"]
        sum_of_squares += gradient**2
        parameter -= self.lr * gradient / (sum_of_squares.sqrt() + self.eps)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        parameters = batch.parameters
        step = torch.ones((), device=parameters[0].device)  # the kernel asks for it, and without lr_decay ignores it
        torch._fused_adagrad_(
            parameters,
            gradients,
            batch.state["sum_of_squares"],
            [step] * len(parameters),
            lr=self.lr,
            lr_decay=0.0,
            weight_decay=batch.weight_decay,
            eps=self.eps,
            maximize=False,
        )
