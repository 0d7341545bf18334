"""Small inputs for the autograd on NumPy, each operation: for ``dlcli gradcheck`` and the tests against torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlcli.scratch.autograd import Array, Tensor


def random(*shapes: tuple[int, ...]) -> Callable[[], list[Array]]:
    """Normal numbers, the same in each call, none near 0, where the rectifier has its kink."""

    def arrays() -> list[Array]:
        generator = np.random.RandomState(0)
        drawn = [generator.randn(*shape) for shape in shapes]
        return [x + 0.05 * np.sign(x) for x in drawn]

    return arrays


OPERATIONS: dict[str, tuple[Callable[..., Tensor], Callable[[], list[Array]]]] = {
    "add": (lambda x, z: x + z, random((3, 4), (3, 4))),
    "add, repeated": (lambda x, z: x + z, random((3, 4), (4,))),
    "neg": (lambda x: -x, random((3, 4))),
    "sub": (lambda x, z: x - z, random((4,), (3, 4))),
    "mul": (lambda x, z: x * z, random((3, 4), (3, 1))),
    "mul, number": (lambda x: 3 * x + 1, random((3, 4))),
    "pow": (lambda x: x**3, random((3, 4))),
    "sum": (lambda x: x.sum(1), random((3, 4))),
    "expand": (lambda x: x.expand(1, 5), random((3, 4))),
    "transpose": (lambda x: x.transpose(), random((3, 4))),
    "mm": (lambda x, z: x.mm(z), random((3, 4), (4, 2))),
    "sigmoid": (lambda x: x.sigmoid(), random((3, 4))),
    "tanh": (lambda x: x.tanh(), random((3, 4))),
    "relu": (lambda x: x.relu(), random((3, 4))),
    "index_select": (lambda x: x.index_select(Tensor([0, 2, 0, 1])), random((3, 4))),
    "cross_entropy": (lambda x: x.cross_entropy(Tensor([1, 3, 0])), random((3, 4))),
    "reuse": (lambda x: x * x.tanh() + x.sigmoid() * x, random((3, 4))),
}
