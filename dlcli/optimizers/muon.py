"""Muon: momentum whose step along a hidden matrix is replaced by the nearest orthogonal one; AdamW for all else.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
https://kellerjordan.github.io/posts/muon/); the length of the step: Liu et al., "Muon is Scalable for LLM Training"
(2025); AdamW: Loshchilov and Hutter (ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Count, PositiveFloat, Probability
from dlcli.optimizers.adam import adam_kernel, adam_state, adam_update
from dlcli.optimizers.base import Optimizer
from dlcli.optimizers.batches import Batch, Batches
from dlcli.registry import OPTIMIZERS

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a s + b s^3 + c s^5. It is steep at 0, so that five iterations bring small singular values s up as
well; the price is that they end between about 0.7 and 1.2 instead of at 1, which training does not notice."""


def orthogonalised(matrices: Tensor, iterations: int) -> Tensor:
    """About ``U V^T``, where ``U S V^T`` is the singular value decomposition of each of ``matrices`` (N, A, B), by
    Newton and Schulz's iteration: products of matrices only, each of which moves all singular values towards 1.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices  # the smaller side in front: X X^T is small
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # singular values at most 1
    for _ in range(iterations):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b X X^T + c (X X^T)^2
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


@OPTIMIZERS.register("muon")
class Muon(Optimizer):
    """``M = momentum * M + (1 - momentum) * G`` and a step along ``U V^T``, where ``U S V^T`` is the decomposition of
    ``(1 - momentum) * G + momentum * M`` (Nesterov's momentum): every direction of a matrix moves equally far.

    It is for hidden matrices: parameters of two axes or more (all but the first are flattened) whose name contains none
    of ``adamw_names``. The others, embeddings, the output layer, biases and norms, take AdamW's step.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        momentum: Probability,
        iterations: Count,
        bfloat16: bool,
        adamw_names: list[str],
        betas: tuple[Probability, Probability],
        eps: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            momentum: the share of M that stays from step to step.
            iterations: of Newton and Schulz's method.
            bfloat16: compute them in bfloat16; rounding does no harm, as they pull every singular value towards 1.
            adamw_names: parts of names; a parameter whose name contains one takes AdamW's step.
            betas, eps: of AdamW.
            options: of every optimizer. lr is that of all parameters: an orthogonal step (A, B) is multiplied by
                ``0.2 sqrt(max(A, B))``, which gives it about the mean square of a step of AdamW's. weight_decay times
                lr is the share by which parameters shrink at each step. fused takes AdamW's steps through its kernel,
                and matrices of one shape together.
        """
        self.momentum, self.iterations, self.bfloat16, self.betas, self.eps = momentum, iterations, bfloat16, betas, eps
        named = list(named_parameters)
        self.others = {id(p) for name, p in named if p.ndim < 2 or any(part in name for part in adamw_names)}
        super().__init__(named, **options)
        self.batches = Batches(self)

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        if id(parameter) in self.others:
            return adam_state(parameter, self.fused)
        return {"momentum": torch.zeros_like(parameter)}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        if "momentum" not in state:
            parameter *= 1 - self.lr * weight_decay
            adam_update(parameter, gradient, state, self.lr, self.betas, self.eps)
            return
        self._turn([parameter], [gradient], [state["momentum"]], weight_decay)

    def _turn(
        self, parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], weight_decay: float
    ) -> None:
        """Move matrices of one shape."""
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        steps = torch.stack(torch._foreach_lerp(gradients, momenta, self.momentum)).flatten(2)  # (N, A, B)
        length = 0.2 * max(steps.shape[1:]) ** 0.5 * self.lr
        steps = orthogonalised(steps.bfloat16() if self.bfloat16 else steps, self.iterations).to(parameters[0].dtype)
        torch._foreach_mul_(parameters, 1 - self.lr * weight_decay)
        torch._foreach_sub_(parameters, [step.reshape(parameters[0].shape) for step in steps], alpha=length)

    def fused_step(self, indices: list[int]) -> None:
        others = [i for i in indices if id(self.parameters[i]) in self.others]
        if others:
            self.batches.run(others, self._kernel)
        alike: dict[tuple[torch.Size, float, torch.dtype, torch.device], list[int]] = {}
        for i in indices:
            parameter = self.parameters[i]
            if id(parameter) not in self.others:
                kind = (parameter.shape, self.weight_decay[i], parameter.dtype, parameter.device)
                alike.setdefault(kind, []).append(i)
        for (_, weight_decay, _, _), group in alike.items():
            parameters = [self.parameters[i] for i in group]
            gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
            self._turn(parameters, gradients, [self.state[i]["momentum"] for i in group], weight_decay)

    def _kernel(self, batch: Batch, gradients: list[Tensor]) -> None:
        adam_kernel(torch._fused_adamw_, batch, gradients, self.lr, self.betas, self.eps)
