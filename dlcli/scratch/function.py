"""What the hand-written functions stand on.

Each is a ``torch.autograd.Function``: ``forward`` computes on plain tensors and keeps what ``backward`` needs, and
``backward`` applies the derivation of the class's docstring. There, L is the loss, dy stands for the gradient dL/dy
that arrives, x' is the transpose of x, and * is element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

from dlcli.errors import ConfigError

C = TypeVar("C", bound=type)


def by_hand(cls: C) -> C:
    """Class decorator: a derivative of the derivative is refused, since ``backward`` does not record itself."""
    backward: Callable[..., Any] = cls.backward  # type: ignore[attr-defined]

    def first_derivative(ctx: Any, *gradients: Tensor) -> Any:
        refuse("a gradient", "a gradient of its own", torch.is_grad_enabled())
        return backward(ctx, *gradients)

    cls.backward = staticmethod(first_derivative)  # type: ignore[attr-defined]
    return cls


def apply(function: type[Function], *arguments: Any) -> Any:
    """The function's value, recorded for the backward pass."""
    return function.apply(*arguments)


def refuse(function: str, what: str, wanted: bool) -> None:
    """
    Raises:
        ConfigError: an option of the torch function is wanted that has no counterpart here.
    """
    if wanted:
        raise ConfigError(f"layers=scratch: {function} with {what} is not written by hand; use layers=torch")


def summed_to(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo broadcasting: what was repeated in the forward pass collects the sum of its copies' gradients."""
    added = gradient.ndim - len(shape)
    repeated = [axis for axis, size in enumerate(shape, added) if size == 1 and gradient.shape[axis] != 1]
    axes = [*range(added), *repeated]
    return gradient.sum(axes, keepdim=True).reshape(shape) if axes else gradient
