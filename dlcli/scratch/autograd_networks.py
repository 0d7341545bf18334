"""The five small networks of GDL chapter 13 on the autograd, and the losses that the book's notebook prints for them.

``python -m dlcli.scratch.autograd_networks`` trains each for ten steps and prints its first loss beside the notebook's.

Source: GDL chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dlcli.scratch.autograd import SGD, Embedding, Linear, MSELoss, Sequential, Tensor

DATA, TARGETS = Tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), Tensor([[0.0], [1], [0], [1]])
TOKENS, CLASSES = Tensor([1, 2, 1, 2]), Tensor([0, 1, 0, 1])

Make = Callable[[], Tensor]
"""Draws a parameter."""


class Curve(NamedTuple):
    """The losses of ten steps, and the first one that the book's notebook prints."""

    name: str
    reported: float
    losses: list[float]


def curves() -> list[Curve]:
    """Each network, trained from the numbers that the notebook draws."""
    no_bias: list[Make] = [lambda: Tensor(np.random.rand(2, 3)), lambda: Tensor(np.random.rand(3, 1))]
    two_layers = [*dense(2, 3), *dense(3, 1)]
    five, three = [lambda: Embedding(5, 3).weight, *dense(3, 1)], [lambda: Embedding(3, 3).weight, *dense(3, 4)]
    first = Sequential(Linear(2, 3, bias=False), Linear(3, 1, bias=False))
    second = Sequential(Linear(2, 3), Linear(3, 1))
    third = Sequential(Linear(2, 3), Tensor.tanh, Linear(3, 1), Tensor.sigmoid)
    fourth = Sequential(Embedding(5, 3), Tensor.tanh, Linear(3, 1), Tensor.sigmoid)
    fifth = Sequential(Embedding(3, 3), Tensor.tanh, Linear(3, 4))
    for model, makes in ((first, no_bias), (second, two_layers), (third, two_layers), (fourth, five), (fifth, three)):
        for parameter, tensor in zip(model.parameters(), drawn(makes), strict=True):
            parameter.data = tensor.data
    mean_square = MSELoss()
    return [
        Curve("two weights", 0.581, trained(first, mean_square, DATA, TARGETS, 0.1)),
        Curve("with biases", 2.334, trained(second, mean_square, DATA, TARGETS, 0.05)),
        Curve("tanh, sigmoid", 1.064, trained(third, mean_square, DATA, TARGETS, 1.0)),
        Curve("embedding", 0.989, trained(fourth, mean_square, TOKENS, TARGETS, 0.5)),
        Curve("cross-entropy", 1.389, trained(fifth, sum_of_gradients, TOKENS, CLASSES, 0.1)),
    ]


def sum_of_gradients(scores: Tensor, classes: Tensor) -> Tensor:
    """The cross-entropy as the book has it: its value is a mean, its gradient that of the sum."""
    return scores.cross_entropy(classes, "sum_of_gradients")


def trained(
    model: Sequential, loss: Callable[[Tensor, Tensor], Tensor], data: Tensor, targets: Tensor, lr: float
) -> list[float]:
    """The losses of ten steps."""
    optimizer = SGD(model.parameters(), lr)
    losses = []
    for _ in range(10):
        value = loss(model(data), targets)
        value.backward()
        optimizer.step()
        losses.append(float(value.data.item()))
    return losses


def drawn(makes: list[Make]) -> list[Any]:
    """Parameters from NumPy's seed 0 as the notebook draws them: its tensors draw a name each, data first."""
    np.random.seed(0)
    np.random.randint(0, 100_000, 2)
    made = []
    for make in makes:
        made.append(make())
        np.random.randint(0, 100_000)
    return made


def dense(inputs: int, outputs: int) -> list[Make]:
    return [lambda: Linear(inputs, outputs).weight, lambda: Tensor(np.zeros(outputs))]


if __name__ == "__main__":
    print(f"{'network':<14} {'book, first':>11} {'ours, first':>11} {'ours, tenth':>11}")
    for curve in curves():
        print(f"{curve.name:<14} {curve.reported:>11.3f} {curve.losses[0]:>11.3f} {curve.losses[-1]:>11.4f}")
