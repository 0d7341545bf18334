"""Yogi: Adam whose mean square moves by a bounded amount, so that a burst of small gradients cannot erase it.

Source: Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (NeurIPS 2018). d2l 12.10, whose correction for the
start at zero is used here (the paper starts from the squares of a first batch).
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


@OPTIMIZERS.register("yogi")
class Yogi(Optimizer):
    """Adam with ``square += (1 - beta2) * sign(gradient**2 - square) * gradient**2``."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        betas: tuple[Probability, Probability],
        eps: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            betas: one minus the speed of the mean, and one minus the speed of the mean square.
            eps: added to the root; larger than Adam's, as the paper advises.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.
        """
        self.betas, self.eps = betas, eps
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device="cpu")  # read by Python at every step
        return {"step": step, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        gradient = gradient + weight_decay * parameter
        beta1, beta2 = self.betas
        step, mean, square = int(state["step"].add_(1)), state["mean"], state["square"]
        mean.mul_(beta1).add_((1 - beta1) * gradient)
        square.add_((1 - beta2) * torch.sign(gradient**2 - square) * gradient**2)
        corrected_mean = mean / (1 - beta1**step)
        corrected_square = square / (1 - beta2**step)
        parameter -= self.lr * corrected_mean / (corrected_square.sqrt() + self.eps)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        beta1, beta2 = self.betas
        mean, square = batch.state["mean"], batch.state["square"]
        steps = [int(step.add_(1)) for step in batch.state["step"]]
        if batch.weight_decay:
            gradients = list(torch._foreach_add(gradients, batch.parameters, alpha=batch.weight_decay))
        torch._foreach_lerp_(mean, gradients, 1 - beta1)
        gradient_square = torch._foreach_mul(gradients, gradients)
        sign = torch._foreach_sub(gradient_square, square)
        torch._foreach_sign_(sign)
        torch._foreach_addcmul_(square, sign, gradient_square, value=1 - beta2)
        root = torch._foreach_div(square, [1 - beta2**step for step in steps])
        torch._foreach_sqrt_(root)
        torch._foreach_add_(root, self.eps)
        torch._foreach_addcdiv_(batch.parameters, mean, root, [-self.lr / (1 - beta1**step) for step in steps])
