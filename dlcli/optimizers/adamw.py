"""AdamW: Adam whose weight decay shrinks the parameters themselves and stays out of the averages.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019); Adam itself: d2l 12.10.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import NonNegativeFloat, PositiveFloat, Probability
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS


@OPTIMIZERS.register("adamw")
class AdamW(Optimizer):
    """Adam's step, after each parameter has shrunk by the share ``lr * weight_decay``."""

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
            weight_decay: times ``lr``, the share by which parameters shrink at each step.
        """
        self.betas, self.eps = betas, eps
        super().__init__(named_parameters, lr=lr, weight_decay=weight_decay, decay_biases=decay_biases, fused=fused)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return adamw_state(parameter, self.fused)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        adamw_update(parameter, gradient, state, self.lr, self.betas, self.eps, weight_decay)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        adamw_kernel(batch, gradients, self.lr, self.betas, self.eps)


def adamw_state(parameter: Tensor, fused: bool) -> dict[str, Tensor]:
    """Zeros: the mean, the mean square, and a count of steps."""
    # A count per parameter: one that gets its first gradient late still has its own start to correct for.
    step = torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu")
    return {"step": step, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}


def adamw_update(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Tensor],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """AdamW's rule for one parameter, in place."""
    parameter *= 1 - lr * weight_decay
    beta1, beta2 = betas
    step, mean, square = int(state["step"].add_(1)), state["mean"], state["square"]
    mean.mul_(beta1).add_((1 - beta1) * gradient)
    square.mul_(beta2).add_((1 - beta2) * gradient**2)
    corrected_mean = mean / (1 - beta1**step)
    corrected_square = square / (1 - beta2**step)
    parameter -= lr * corrected_mean / (corrected_square.sqrt() + eps)


def adamw_kernel(batch: Batch, gradients: list[Tensor], lr: float, betas: tuple[float, float], eps: float) -> None:
    """The same rule for a batch of parameters through torch's kernel."""
    batch.steps += 1
    torch._fused_adamw_(
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
