"""Reverse-mode automatic differentiation on NumPy arrays, small enough to read in one sitting.

Every operation makes a new ``Tensor`` that remembers what it was made of and how a gradient by it becomes gradients by
those. ``backward`` walks from the result back, each tensor after all that were made of it, and adds up where a tensor
was used more than once. The layers, losses and the optimizer below are built of these operations alone.

    >>> x = Tensor([[1.0, 2.0]]); w = Tensor([[3.0], [4.0]])
    >>> loss = (x.mm(w) - Tensor([[10.0]])) ** 2
    >>> loss.backward(); w.gradient.tolist()
    [[2.0], [4.0]]

Source: DLFS chapter 6 (``NumberWithGrad``); GDL chapter 13 (``Tensor``, its layers and its recurrent cell); d2l 2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Backward = Callable[[Array], Sequence[Array | None]]
"""From the gradient by a result to the gradients by its parents; None where there is none (whole numbers)."""


class Tensor:
    """An array, and, after ``backward`` of something made of it, the gradient by it (of the same shape)."""

    def __init__(self, data: Any, parents: tuple[Tensor, ...] = (), backward: Backward | None = None):
        self.data: Array = np.asarray(data)
        self.parents = parents
        self.backward_step = backward
        self.gradient: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def backward(self, gradient: Any = None) -> None:
        """Add the gradient by this tensor (1 everywhere, unless given) times its derivatives to all it was made of."""
        arrived: dict[int, Array] = {id(self): np.ones_like(self.data) if gradient is None else np.asarray(gradient)}
        for tensor in self._latest_first():
            dy = arrived.pop(id(tensor), None)
            if dy is None:
                continue
            if tensor.backward_step is None:  # a leaf
                tensor.gradient = dy if tensor.gradient is None else tensor.gradient + dy
                continue
            for parent, dx in zip(tensor.parents, tensor.backward_step(dy), strict=True):
                if dx is not None:
                    arrived[id(parent)] = arrived[id(parent)] + dx if id(parent) in arrived else dx

    def _latest_first(self) -> list[Tensor]:
        """All tensors that this one was made of, and itself, each before its parents. Without recursion: graphs that
        unroll time are deep."""
        order: list[Tensor] = []
        seen: set[int] = set()
        pending = [(self, False)]
        while pending:
            tensor, parents_done = pending.pop()
            if parents_done:
                order.append(tensor)
            elif id(tensor) not in seen:
                seen.add(id(tensor))
                pending.append((tensor, True))
                pending += [(parent, False) for parent in tensor.parents]
        return order[::-1]

    # ------------------------------------------------------------------ operations

    def __add__(self, other: Tensor | float) -> Tensor:
        """**dx = dy**, **dz = dy** for y = x + z, each summed over the axes along which it was repeated."""
        z = tensor_of(other)
        return Tensor(self.data + z.data, (self, z), lambda dy: (summed_to(dy, self.shape), summed_to(dy, z.shape)))

    def __neg__(self) -> Tensor:
        return Tensor(-self.data, (self,), lambda dy: (-dy,))

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self + -tensor_of(other)

    def __mul__(self, other: Tensor | float) -> Tensor:
        """**dx = dy * z**, **dz = dy * x** for y = x * z."""
        z = tensor_of(other)
        return Tensor(
            self.data * z.data,
            (self, z),
            lambda dy: (summed_to(dy * z.data, self.shape), summed_to(dy * self.data, z.shape)),
        )

    def __pow__(self, exponent: float) -> Tensor:
        """**dx = dy * n x^(n-1)**."""
        return Tensor(self.data**exponent, (self,), lambda dy: (dy * exponent * self.data ** (exponent - 1),))

    __radd__, __rmul__ = __add__, __mul__

    def sum(self, axis: int) -> Tensor:
        """Over one axis; the gradient is the same for all that were added."""
        return Tensor(self.data.sum(axis), (self,), lambda dy: (np.broadcast_to(np.expand_dims(dy, axis), self.shape),))

    def expand(self, axis: int, copies: int) -> Tensor:
        """Copies along a new axis; each copy brings its gradient."""
        repeated = np.repeat(np.expand_dims(self.data, axis), copies, axis)
        return Tensor(repeated, (self,), lambda dy: (dy.sum(axis),))

    def transpose(self) -> Tensor:
        return Tensor(self.data.T, (self,), lambda dy: (dy.T,))

    def mm(self, other: Tensor) -> Tensor:
        """The product of matrices, y = x z: **dx = dy z'**, **dz = x' dy**."""
        return Tensor(self.data @ other.data, (self, other), lambda dy: (dy @ other.data.T, self.data.T @ dy))

    def sigmoid(self) -> Tensor:
        """**dx = dy * y (1 - y)**."""
        y = 1 / (1 + np.exp(-self.data))
        return Tensor(y, (self,), lambda dy: (dy * y * (1 - y),))

    def tanh(self) -> Tensor:
        """**dx = dy * (1 - y²)**."""
        y = np.tanh(self.data)
        return Tensor(y, (self,), lambda dy: (dy * (1 - y**2),))

    def relu(self) -> Tensor:
        """**dx = dy** where x > 0, else 0."""
        positive = self.data > 0
        return Tensor(self.data * positive, (self,), lambda dy: (dy * positive,))

    def index_select(self, indices: Tensor) -> Tensor:
        """The rows of these numbers; a row that was taken several times adds up its gradients."""

        def backward(dy: Array) -> tuple[Array, None]:
            dx = np.zeros_like(self.data)
            np.add.at(dx, indices.data, dy)
            return dx, None

        return Tensor(self.data[indices.data], (self, indices), backward)

    def cross_entropy(self, targets: Tensor, reduction: str = "mean") -> Tensor:
        """The mean over rows x (N, C) of -log softmax(x) at the target (N,): **dx = (softmax(x) - one_hot) / N**.

        ``reduction="sum_of_gradients"`` leaves out the division by N in the gradient, as GDL chapter 13 does: the loss
        that is shown is the mean, the step is that of the sum.
        """
        p = np.exp(self.data - self.data.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        rows = np.arange(len(p))
        number = len(p) if reduction == "mean" else 1

        def backward(dy: Array) -> tuple[Array, None]:
            dx = p.copy()
            dx[rows, targets.data] -= 1
            return dy * dx / number, None

        return Tensor(-np.log(p[rows, targets.data]).mean(), (self, targets), backward)


def tensor_of(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else Tensor(value)


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: the sum over the axes along which an operand was repeated."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))  # over no axes: as it is
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(repeated, keepdims=True) if repeated else gradient


# ---------------------------------------------------------------------- layers, losses, optimizer


class Layer:
    """Something with parameters that is called with a tensor."""

    def parameters(self) -> Iterator[Tensor]:
        """All tensors among its attributes, and those of its layers."""
        for value in vars(self).values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Tensor):
                    yield item
                elif isinstance(item, Layer):
                    yield from item.parameters()


class Linear(Layer):
    """``y = x W + b`` with W (inputs, outputs) from N(0, 2 / inputs), of NumPy's global generator, and b = 0."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True):
        self.weight = Tensor(np.random.randn(inputs, outputs) * np.sqrt(2 / inputs))
        self.bias = Tensor(np.zeros(outputs)) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        y = x.mm(self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(Layer):
    """A table (vocabulary, size), uniform in ±1 / (2 size), whose rows are looked up."""

    def __init__(self, vocabulary: int, size: int):
        self.weight = Tensor((np.random.rand(vocabulary, size) - 0.5) / size)

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.weight.index_select(tokens)


class RNNCell(Layer):
    """``h = sigmoid(W x + U h)`` (with biases), and scores of the outputs from h."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        self.input, self.hidden, self.output = Linear(inputs, hidden), Linear(hidden, hidden), Linear(hidden, outputs)
        self.size = hidden

    def __call__(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, inputs), h (B, hidden) -> scores (B, outputs), the next h."""
        h = (self.input(x) + self.hidden(h)).sigmoid()
        return self.output(h), h


class Sequential(Layer):
    """One after another: layers, or operations such as ``Tensor.tanh``."""

    def __init__(self, *steps: Callable[[Tensor], Tensor]):
        self.steps = list(steps)

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class MSELoss(Layer):
    """The sum over the examples (axis 0) of the squared errors, as GDL chapter 13 has it."""

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return ((predictions - targets) ** 2).sum(0)


class SGD:
    """Steps of ``lr`` times the gradient, which is forgotten afterwards."""

    def __init__(self, parameters: Iterator[Tensor] | Sequence[Tensor], lr: float):
        self.parameters = list(parameters)
        self.lr = lr

    def step(self) -> None:
        for parameter in self.parameters:
            if parameter.gradient is not None:
                parameter.data = parameter.data - self.lr * parameter.gradient
                parameter.gradient = None
