"""How large the outputs of a network's layers are, and the gradients that come back to them: do they vanish, explode?

Source: d2l 5.4.1 (vanishing and exploding gradients); DLFS chapter 4; Glorot, Bengio 2010, "Understanding the
difficulty of training deep feedforward neural networks".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Signal(NamedTuple):
    """One layer. Sizes are root mean squares over all numbers of the batch; the gradient is that of the loss."""

    layer: str
    output: float
    gradient: float


def signals(model: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> list[Signal]:
    """The sizes at every module that has parameters of its own, in the order in which they are called.

    Layers that this loss does not reach, such as a GAN's generator by that of its discriminator, are left out.
    Nothing is changed: a copy of the model computes, in training mode, and the random generators are set back.

    Args:
        model: any network.
        loss_of: its loss, a scalar tensor with a gradient.
    """
    model = copy.deepcopy(model).train()
    outputs: list[tuple[str, Tensor]] = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(_recorder(name or "model", outputs))
    with torch.enable_grad(), torch.random.fork_rng():
        loss = loss_of(model)
        recorded = [(name, output) for name, output in outputs if output.requires_grad]
        gradients = torch.autograd.grad(loss, [output for _, output in recorded], allow_unused=True)
    return [
        Signal(name, _size(output), _size(gradient))
        for (name, output), gradient in zip(recorded, gradients, strict=True)
        if gradient is not None
    ]


def _recorder(name: str, outputs: list[tuple[str, Tensor]]) -> Callable[[nn.Module, Any, Any], None]:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output  # recurrent layers return their state too
        outputs.append((name, first))

    return record


def _size(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())
