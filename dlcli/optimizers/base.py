"""Optimizer: how parameters move along their gradients.

Our own classes instead of ``torch.optim``'s: they are the books' systems, each rule stands in the open in ``update``,
and building one does not import torch's compiler (most of a second). ``fused=true`` takes torch's fused or foreach
kernels, where an optimizer has a ``fused_step``; ``fused=false`` the readable rule, parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import NonNegativeFloat, PositiveFloat


class Optimizer:
    """What every optimizer offers: ``step``, ``zero_grad``, a settable rate ``lr``, and its state as a dict.

    Subclasses write ``state_tensors`` (what is kept per parameter) and ``update`` (the rule for one parameter), and may
    write ``fused_step``.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: PositiveFloat,
        weight_decay: NonNegativeFloat,
        decay_biases: bool,
        fused: bool,
    ):
        """
        Args:
            named_parameters: the parameters to move; those that need no gradient are left out.
            lr: the learning rate that the schedule multiplies.
            weight_decay: its coefficient; what it does is the subclass's (L2 penalty or decoupled).
            decay_biases: whether biases and norms (parameters of fewer than two axes) decay as well.
            fused: use torch's fused or foreach kernels.
        """
        named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self.base_lr = self.lr = lr
        self.rate_factors = [1.0] * len(self.parameters)  # of the parameters, on top of the rate
        self.weight_decay = [weight_decay if decay_biases or p.ndim >= 2 else 0.0 for p in self.parameters]
        self.fused = fused
        self.steps = 0
        self.state = [self.state_tensors(parameter) for parameter in self.parameters]

    def state_tensors(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is kept per parameter, such as ``{"momentum": zeros}``."""
        return {}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], weight_decay: float) -> None:
        """The book's rule: change ``parameter`` and ``state`` in place. ``self.steps`` counts from 1."""
        raise NotImplementedError

    def fused_step(self, indices: list[int]) -> None:
        """The same rule for many parameters at once, through torch's kernels."""
        for i in indices:
            gradient = self.parameters[i].grad
            assert gradient is not None
            self.update(self.parameters[i], gradient, self.state[i], self.weight_decay[i])

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self.steps += 1
        indices = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        lr = self.lr
        for factor in dict.fromkeys(self.rate_factors):
            self.lr = lr * factor
            self._move([i for i in indices if self.rate_factors[i] == factor])
        self.lr = lr

    def _move(self, indices: list[int]) -> None:
        """Move these parameters at the rate ``self.lr``."""
        if self.fused and indices:
            self.fused_step(indices)
            return
        for i in indices:
            gradient = self.parameters[i].grad
            assert gradient is not None
            self.update(self.parameters[i], gradient, self.state[i], self.weight_decay[i])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors: everything that the next step depends on beside parameters and schedule."""
        return {"steps": self.steps, "state": dict(zip(self.names, self.state, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: the state belongs to other parameters or to another optimizer.
        """
        shapes = [{n: {k: t.shape for k, t in kept.items()} for n, kept in state["state"].items()}]
        shapes.append(
            {n: {k: t.shape for k, t in kept.items()} for n, kept in zip(self.names, self.state, strict=True)}
        )
        if shapes[0] != shapes[1]:
            raise ValueError("the optimizer's state belongs to other parameters or to another optimizer")
        self.steps = state["steps"]
        for name, kept in zip(self.names, self.state, strict=True):
            for key, tensor in kept.items():
                tensor.copy_(state["state"][name][key])
