"""Analytic gradients against numeric ones: the autograd on NumPy, the hand-written layers, and all models on these.

In double precision the central difference (f(t + h) - f(t - h)) / 2h with h = 1e-6 is right to about ten digits.
Functions are checked by each element of each input; models, whose parameters are too many for that, along random
directions v, where the derivative is the sum of gradient * v: over all parameters (and inputs that are numbers), and
over single ones, since the large ones would hide what is wrong in a small one. Deep
models bend so much (GoogLeNet normalises 57 times over three examples) that their differences need a smaller h: the
best of several counts, and a wrong gradient fits none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlcli import model_examples
from dlcli.scratch import autograd
from dlcli.scratch.examples import Example
from dlcli.scratch.mode import ScratchLayers

STEP = 1e-6
SMALLER_STEPS = (1e-7, 1e-8, 1e-9, 1e-10)
TOLERANCES = {"autograd": 1e-6, "layer": 1e-6, "model": 1e-4}  # a model's rectifiers have kinks, some within the step
DIRECTIONS = 2  # over all parameters
MOST_SINGLE = 12  # parameters of a model that are looked at alone
FLOOR = 1e-2  # a derivative below this share of the largest counts as that share: differences are not exact
SEED = 2  # of dropout, which must be the same in each evaluation


class Finding(NamedTuple):
    """The largest difference of the two gradients, relative to the largest gradient."""

    kind: str
    name: str
    error: float

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCES[self.kind]


def leaves(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)


def check_function(name: str, example: Example) -> Finding:
    """A hand-written function on its example, element by element."""
    torch.manual_seed(1)
    arguments = example.arguments()
    tensors = list(leaves(arguments[: example.differentiable]))
    value = scalar(lambda: example.function(*arguments, **example.options))
    error = size = 0.0
    for tensor, analytic in zip(tensors, gradients(value, tensors), strict=True):
        for index in range(tensor.numel()):
            direction = torch.zeros_like(tensor)
            direction.view(-1)[index] = 1
            numeric = difference(value, [tensor], [direction], STEP)
            error = max(error, abs(analytic.flatten()[index].item() - numeric))
            size = max(size, abs(numeric))
    return Finding("layer", name, error / size)


def check_operation(name: str, function: Callable[..., autograd.Tensor], arrays: Callable[[], list[Any]]) -> Finding:
    """An operation of the autograd on NumPy, element by element."""
    inputs = [autograd.Tensor(array) for array in arrays()]
    result = function(*inputs)
    weights = np.random.RandomState(1).randn(*result.shape)
    result.backward(weights)
    error = size = 0.0
    for tensor in inputs:
        assert tensor.gradient is not None
        for index in np.ndindex(tensor.shape):
            kept, values = tensor.data[index], []
            for distance in (STEP, -STEP):
                tensor.data[index] = kept + distance
                values.append(float((function(*inputs).data * weights).sum()))
            tensor.data[index] = kept
            numeric = (values[0] - values[1]) / (2 * STEP)
            error, size = max(error, abs(float(tensor.gradient[index]) - numeric)), max(size, abs(numeric))
    return Finding("autograd", name, error / size)


def check_model(name: str, config: Mapping[str, Any]) -> Finding:
    """A model on its example, along random directions of all its parameters and of single ones.

    Raises:
        ConfigError: there is no example of its inputs, or it calls a function that is not written by hand.
    """
    model = model_examples.build(config).double()
    with torch.no_grad():  # away from where biases of 0 leave rectifiers exactly at their kink
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    batch = model_examples.inputs(config)
    batch = batch.double() if batch.is_floating_point() else batch
    tensors: list[Tensor] = [*model.parameters(), *leaves(batch)]
    value = scalar(lambda: model(batch))
    analytic = dict(zip(tensors, gradients(value, tensors), strict=True))
    lines: list[tuple[list[Tensor], list[Tensor], float]] = []
    groups = [tensors] * DIRECTIONS + [[tensor] for tensor in single(model)]
    for seed, group in enumerate(groups):
        torch.manual_seed(seed)
        directions = [torch.randn_like(tensor) for tensor in group]
        along = sum((analytic[t] * v).sum().item() for t, v in zip(group, directions, strict=True))
        lines.append((group, directions, along))
    floor = FLOOR * max(abs(along) for _, _, along in lines)
    errors = []
    for group, directions, along in lines:
        error = math.inf
        for step in (STEP, *SMALLER_STEPS):
            numeric = difference(value, group, directions, step)
            size = max(abs(numeric), floor)
            error = min(error, abs(along - numeric) / size if size else 0.0)
            if error <= TOLERANCES["model"]:
                break
        errors.append(error)
    return Finding("model", name, max(errors))


def single(model: nn.Module) -> list[Tensor]:
    """The parameters that are looked at alone: all of a small model, else the first of each kind of layer."""
    parameters: list[Tensor] = list(model.parameters())
    if len(parameters) <= MOST_SINGLE:
        return parameters
    kinds: dict[Any, Tensor] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            kinds.setdefault((type(module), name), parameter)
    return list(dict.fromkeys(kinds.values()))[:MOST_SINGLE]  # tied ones once


def scalar(function: Callable[[], Any]) -> Callable[[], Tensor]:
    """One number of all the function's outputs: their sum with random weights, the same in each call."""

    def value() -> Tensor:
        torch.manual_seed(SEED)
        with ScratchLayers():
            outputs = list(leaves(function()))
        torch.manual_seed(SEED)
        return torch.stack([(torch.randn_like(output) * output).sum() for output in outputs]).sum()

    return value


def gradients(value: Callable[[], Tensor], tensors: list[Tensor]) -> list[Tensor]:
    for tensor in tensors:
        tensor.requires_grad_()
    found = torch.autograd.grad(value(), tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


@torch.no_grad()
def difference(value: Callable[[], Tensor], tensors: list[Tensor], directions: list[Tensor], step: float) -> float:
    """The central difference along a direction; the tensors are as they were afterwards."""
    kept = [tensor.clone() for tensor in tensors]
    values = []
    for distance in (step, -step):
        for tensor, before, direction in zip(tensors, kept, directions, strict=True):
            tensor.copy_(before + distance * direction)
        values.append(value().item())
    for tensor, before in zip(tensors, kept, strict=True):
        tensor.copy_(before)
    return (values[0] - values[1]) / (2 * step)
