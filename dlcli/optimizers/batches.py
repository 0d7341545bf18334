"""Batches of parameters that one call of a fused or foreach kernel can move.

A kernel takes lists of tensors and one weight decay. The lists stay the same from step to step, so they are built once
and kept until another set of parameters has gradients; only the gradients are gathered anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dlcli.optimizers.base import Optimizer


class Batch:
    """Parameters of one device, dtype and weight decay, and lists of their state by key, in the same order."""

    def __init__(self, parameters: list[Tensor], states: list[dict[str, Tensor]], weight_decay: float):
        self.parameters = parameters
        self.weight_decay = weight_decay
        if "step" in states[0]:  # the counts move to one tensor, where one addition advances them all
            self.steps = torch.stack([state["step"] for state in states])
            for state, step in zip(states, self.steps.unbind(), strict=True):
                state["step"] = step
        self.state = {key: [state[key] for state in states] for key in states[0]}
        self.strides = [parameter.stride() for parameter in parameters]

    def gradients(self) -> list[Tensor]:
        """The present gradients, each laid out in memory like its parameter: the kernels go by memory, not by index."""
        gradients = [parameter.grad for parameter in self.parameters]
        if [gradient.stride() for gradient in gradients] != self.strides:  # type: ignore[union-attr]
            return [torch.empty_like(p).copy_(p.grad) for p in self.parameters]  # type: ignore[arg-type]
        return gradients  # type: ignore[return-value]


class Batches:
    """The batches of an optimizer's parameters that have gradients."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.built: dict[int, tuple[list[int], list[Batch], list[int]]] = {}  # first index -> what ``_build`` returned

    def run(self, indices: list[int], kernel: Callable[[Batch, list[Tensor]], None]) -> None:
        """Call ``kernel(batch, gradients)`` for each batch of the parameters with these indices."""
        built = self.built.get(indices[0])
        if built is None or built[0] != indices:
            # The counts of steps move into the new batches: an older one that shares a parameter would lose them.
            self.built = {first: old for first, old in self.built.items() if set(old[0]).isdisjoint(indices)}
            built = self.built[indices[0]] = self._build(indices)
        _, batches, scattered = built
        for batch in batches:
            kernel(batch, batch.gradients())
        optimizer = self.optimizer
        for i in scattered:
            gradient = optimizer.parameters[i].grad
            assert gradient is not None
            optimizer.update(optimizer.parameters[i], gradient, optimizer.state[i], optimizer.weight_decay[i])

    def _build(self, indices: list[int]) -> tuple[list[int], list[Batch], list[int]]:
        """The indices, their batches, and those of parameters with gaps in memory, which no kernel can walk."""
        parameters, decay, state = self.optimizer.parameters, self.optimizer.weight_decay, self.optimizer.state
        scattered = []
        alike: dict[tuple[torch.device, torch.dtype, float], list[int]] = {}
        for i in indices:
            if torch.empty_like(parameters[i]).stride() != parameters[i].stride():
                scattered.append(i)
            else:
                alike.setdefault((parameters[i].device, parameters[i].dtype, decay[i]), []).append(i)
        batches = [
            Batch([parameters[i] for i in group], [state[i] for i in group], weight_decay)
            for (_, _, weight_decay), group in alike.items()
        ]
        return indices, batches, scattered
