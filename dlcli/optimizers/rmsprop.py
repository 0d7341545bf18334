"""RMSProp: the gradient divided by a leaky root mean square of itself.

Sources: Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning" (2012); centered: Graves,
"Generating Sequences With Recurrent Neural Networks" (arXiv 1308.0850, 2013). d2l 12.8.
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


@OPTIMIZERS.register("rmsprop")
class RMSprop(Optimizer):
    """Steps of about the same size in every coordinate, whatever the scale of its gradients."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        alpha: Probability,
        eps: PositiveFloat,
        momentum: Probability,
        centered: bool,
        **options: Any,
    ):
        """
        Args:
            alpha: the share of the leaky averages that stays from step to step (gamma in d2l).
            eps: added to the root, against division by zero.
            momentum: the share of the velocity that stays from step to step; 0 keeps no velocity.
            centered: divide by the standard deviation of the gradient instead of its root mean square.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.
        """
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        kept = ["square"] + ["mean"] * self.centered + ["velocity"] * (self.momentum > 0)
        return {key: torch.zeros_like(parameter) for key in kept}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        gradient = gradient + weight_decay * parameter
        square = state["square"]
        square.mul_(self.alpha).add_((1 - self.alpha) * gradient**2)
        if self.centered:
            mean = state["mean"]
            mean.mul_(self.alpha).add_((1 - self.alpha) * gradient)
            square = (square - mean**2).clamp(min=0)  # rounding may leave a variance just below zero
        direction = gradient / (square.sqrt() + self.eps)
        if self.momentum:
            direction = state["velocity"].mul_(self.momentum).add_(direction)
        parameter -= self.lr * direction

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        square = batch.state["square"]
        if batch.weight_decay:
            gradients = list(torch._foreach_add(gradients, batch.parameters, alpha=batch.weight_decay))
        torch._foreach_mul_(square, self.alpha)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - self.alpha)
        if self.centered:
            mean = batch.state["mean"]
            torch._foreach_lerp_(mean, gradients, 1 - self.alpha)
            root = torch._foreach_addcmul(square, mean, mean, value=-1)
            torch._foreach_clamp_min_(root, 0.0)
            torch._foreach_sqrt_(root)
        else:
            root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, self.eps)
        if self.momentum:
            velocity = batch.state["velocity"]
            torch._foreach_mul_(velocity, self.momentum)
            torch._foreach_addcdiv_(velocity, gradients, root)
            torch._foreach_add_(batch.parameters, velocity, alpha=-self.lr)
        else:
            torch._foreach_addcdiv_(batch.parameters, gradients, root, value=-self.lr)
