"""A model as one vector, in double precision: what clients send, and servers add up; and all that it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dlcli.federated.fixed_point import Floats


def shared(model: nn.Module) -> list[Tensor]:
    """What clients learn together: parameters that are not frozen, and buffers of floats such as running means."""
    parameters = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return [*parameters, *(buffer for buffer in model.buffers() if buffer.is_floating_point())]


def flatten(model: nn.Module) -> Floats:
    """The shared numbers of a model, (their count,) float64."""
    return np.concatenate([tensor.double().cpu().numpy().reshape(-1) for tensor in shared(model)])


def unflatten(model: nn.Module, vector: Floats) -> list[Tensor]:
    """The parts of a vector in the shapes of the model's shared tensors, float64 on the CPU."""
    tensors = shared(model)
    parts = torch.split(torch.from_numpy(vector), [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def assign(model: nn.Module, vector: Floats) -> None:
    """Set the shared numbers of a model."""
    for tensor, part in zip(shared(model), unflatten(model, vector), strict=True):
        tensor.copy_(part)


def snapshot(model: nn.Module) -> list[Tensor]:
    """A copy of every parameter and buffer: beside the shared numbers those that are frozen, and counters."""
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]


def restore(model: nn.Module, kept: Sequence[Tensor]) -> None:
    """Set every parameter and buffer to what ``snapshot`` has kept."""
    for tensor, value in zip((*model.parameters(), *model.buffers()), kept, strict=True):
        tensor.detach().copy_(value)
