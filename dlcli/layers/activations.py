"""Activation functions by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ReLUStraightThrough(nn.Module):
    """max(x, 0) whose derivative is taken as 1 everywhere.

    Source: GDL chapter 8, whose rectifier has ``output >= 0`` as its derivative, which always holds; later known as a
    straight-through estimator (Bengio et al. 2013). It learns less well than the true derivative.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs of any shape -> the same shape."""
        return inputs + (inputs.relu() - inputs).detach()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu_straight_through": ReLUStraightThrough,
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
