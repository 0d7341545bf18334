"""Activation functions by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "prelu": nn.PReLU,
}


def activation(name: str) -> nn.Module:
    """A new module for the element-wise function ``name``. PReLU holds one learned slope, which begins at 0.25.

    Raises:
        KeyError: no such activation. (A configuration is checked against the model's ``Literal`` before this.)
    """
    return ACTIVATIONS[name]()
