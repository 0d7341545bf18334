"""Adam: momentum over RMSProp, both corrected for their start at zero.

Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015). d2l 12.10.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import NonNegativeFloat, PositiveFloat, Probability
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
        lr: PositiveFloat,
        betas: tuple[Probability, Probability],
        eps: PositiveFloat,
        weight_decay: NonNegativeFloat,
        decay_biases: bool,
        fused: bool,
    ):
        """
        Args:
            betas: the shares of the mean and of the mean square that stay from step to step.
            eps: added to the root, against division by zero.
            weight_decay: coefficient of the L2 penalty, added to the gradient.
        """
        self.betas, self.eps = betas, eps
        super().__init__(named_parameters, lr=lr, weight_decay=weight_decay, decay_biases=decay_biases, fused=fused)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        # A count per parameter: one that gets its first gradient late still has its own start to correct for.
        step = torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else "cpu")
        return {"step": step, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        gradient = gradient + weight_decay * parameter
        beta1, beta2 = self.betas
        step, mean, square = int(state["step"].add_(1)), state["mean"], state["square"]
        mean.mul_(beta1).add_((1 - beta1) * gradient)
        square.mul_(beta2).add_((1 - beta2) * gradient**2)
        corrected_mean = mean / (1 - beta1**step)
        corrected_square = square / (1 - beta2**step)
        parameter -= self.lr * corrected_mean / (corrected_square.sqrt() + self.eps)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        batch.steps += 1
        torch._fused_adam_(
            batch.parameters,
            gradients,
            batch.state["mean"],
            batch.state["square"],
            [],
            batch.state["step"],
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=batch.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
