"""AdamW: Adam whose weight decay shrinks the parameters themselves and stays out of the averages.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019); Adam itself: d2l 12.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import PositiveFloat, Probability
from dlcli.optimizers.adam import adam_kernel, adam_state, adam_update
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
        betas: tuple[Probability, Probability],
        eps: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            betas: the shares of the mean and of the mean square that stay from step to step.
            eps: added to the root, against division by zero.
            options: of every optimizer; weight_decay is times ``lr``, the share by
                which parameters shrink at each step.
        """
        self.betas, self.eps = betas, eps
        super().__init__(named_parameters, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        return adam_state(parameter, self.fused)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        parameter *= 1 - self.lr * weight_decay
        adam_update(parameter, gradient, state, self.lr, self.betas, self.eps)

    def fused_step(self, indices: list[int]) -> None:
        self.batches.run(indices, self._kernel)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        adam_kernel(torch._fused_adamw_, batch, gradients, self.lr, self.betas, self.eps)
