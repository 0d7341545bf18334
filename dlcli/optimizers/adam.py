"""Adam: momentum over RMSProp, both corrected for their start at zero.

Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015). d2l 12.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import PositiveFloat, Probability
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS


@OPTIMIZERS.register("adam")
class Adam(Optimizer):
    """Divides a leaky mean of the gradient by a leaky root mean square of it; weight decay is an L2 penalty."""

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
            betas: the shares of the mean and of the mean square that stay from step to step.
            eps: added to the root, against division by zero.
            options: of every optimizer; weight_decay is the coefficient of the L2 penalty, added to the gradient.
        """
        self.betas, self.eps = betas, eps
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return adam_state(parameter, self.fused)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        adam_update(parameter, gradient + weight_decay * parameter, state, self.lr, self.betas, self.eps)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        adam_kernel(torch._fused_adam_, batch, gradients, self.lr, self.betas, self.eps)


def adam_state(parameter: Tensor, fused: bool) -> dict[str, Tensor]:
    """Zeros: the mean, the mean square, and a count of steps."""
    # A count per parameter: one that gets its first gradient late still has its own start to correct for.
    step = torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu")
    return {"step": step, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}


def adam_update(
    parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float, betas: tuple[float, float], eps: float
) -> None:
    """Adam's rule for one parameter, in place, without weight decay."""
    beta1, beta2 = betas
    step, mean, square = int(state["step"].add_(1)), state["mean"], state["square"]
    mean.mul_(beta1).add_((1 - beta1) * gradient)
    square.mul_(beta2).add_((1 - beta2) * gradient**2)
    corrected_mean = mean / (1 - beta1**step)
    corrected_square = square / (1 - beta2**step)
    parameter -= lr * corrected_mean / (corrected_square.sqrt() + eps)


def adam_kernel(
    kernel: Callable[..., None],
    batch: Batch,
    gradients: list[Tensor],
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """The same rule, with the batch's weight decay, for many parameters through torch's kernel for Adam or AdamW."""
    batch.steps += 1
    kernel(
        batch.parameters,
        gradients,
        batch.state["mean"],
        batch.state["square"],
        [],
        batch.state["step"],
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=batch.weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
