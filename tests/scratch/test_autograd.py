"""The autograd on NumPy: each operation against torch, and the networks of Grokking Deep Learning, chapter 13."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlcli.catalogue import entries
from dlcli.registry import DATA as DATA_MODULES
from dlcli.scratch import autograd
from dlcli.scratch.autograd import SGD, Embedding, Linear, RNNCell, Sequential, Tensor
from dlcli.scratch.autograd_examples import OPERATIONS
from dlcli.scratch.autograd_networks import curves

TORCHS: dict[str, Callable[..., Any]] = {
    "add": lambda x, z: x + z,
    "add, repeated": lambda x, z: x + z,
    "neg": lambda x: -x,
    "sub": lambda x, z: x - z,
    "mul": lambda x, z: x * z,
    "mul, number": lambda x: 3 * x + 1,
    "pow": lambda x: x**3,
    "sum": lambda x: x.sum(1),
    "expand": lambda x: x[:, None].expand(-1, 5, -1),
    "transpose": lambda x: x.T,
    "mm": lambda x, z: x @ z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "index_select": lambda x: x[[0, 2, 0, 1]],
    "cross_entropy": lambda x: F.cross_entropy(x, torch.tensor([1, 3, 0])),
    "reuse": lambda x: x * x.tanh() + x.sigmoid() * x,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_torchs(name: str) -> None:
    function, arrays = OPERATIONS[name]
    mine = [Tensor(array) for array in arrays()]
    expected = [torch.tensor(tensor.data, requires_grad=True) for tensor in mine]
    y, z = function(*mine), TORCHS[name](*expected)
    weights = np.random.RandomState(2).randn(*y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(y.data, z.detach(), atol=1e-12)
    for tensor, reference in zip(mine, expected, strict=True):
        np.testing.assert_allclose(tensor.gradient, reference.grad, atol=1e-12)


def test_gradients_add_up_over_several_passes() -> None:
    x = Tensor([2.0])
    for _ in range(3):
        (x * x).backward()
    assert x.gradient == pytest.approx([12.0])


def test_a_long_graph_needs_no_recursion() -> None:
    x = Tensor([1.0])
    y = x
    for _ in range(5000):
        y = y + x
    y.backward()
    assert x.gradient == pytest.approx([5001.0])


def test_networks_of_the_book() -> None:
    for name, reported, losses in curves():
        assert losses[0] == pytest.approx(reported, abs=5e-4), name
        assert losses[-1] < 0.15 * losses[0], name


def test_a_recurrent_cell_equals_torchs_through_time() -> None:
    np.random.seed(0)
    embedding, cell = Embedding(7, 3), RNNCell(3, 4, 7)
    tokens = np.random.randint(7, size=(5, 4))
    h, loss = Tensor(np.zeros((5, 4))), Tensor(0.0)
    for t in range(3):
        scores, h = cell(embedding(Tensor(tokens[:, t])), h)
        loss = loss + scores.cross_entropy(Tensor(tokens[:, t + 1]))
    loss.backward()
    mine = [*embedding.parameters(), *cell.parameters()]
    table, w, b, u, c, v, d = theirs = [torch.tensor(p.data, requires_grad=True) for p in mine]
    h2, total = torch.zeros(5, 4, dtype=torch.float64), torch.zeros(())
    for t in range(3):
        h2 = (table[tokens[:, t]] @ w + b + h2 @ u + c).sigmoid()
        total = total + F.cross_entropy(h2 @ v + d, torch.tensor(tokens[:, t + 1]))
    total.backward()
    for parameter, reference in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(parameter.gradient, reference.grad, atol=1e-12)


@pytest.mark.slow
def test_answers_of_babi(mirror: Path) -> None:
    """GDL chapter 13: a recurrent cell on the sentences of task qa1 guesses the last word from the five before it.

    The book's loss falls from .476 to .136, its accuracy rises from .01 to .37; its order of words is that of a set,
    so that it differs from run to run.
    """
    np.random.seed(0)
    file = next((mirror / "babi").rglob("qa1_*train.txt"))
    lines = [line.lower().split(" ")[1:] for line in file.read_text().splitlines()[:1000]]
    rows = [["-"] * (6 - len(line)) + line for line in lines]
    numbers = {word: number for number, word in enumerate(sorted({word for row in rows for word in row}))}
    data = np.array([[numbers[word] for word in row] for row in rows])[:100]
    embedding, cell = Embedding(len(numbers), 16), RNNCell(16, 16, len(numbers))
    optimizer = SGD([*embedding.parameters(), *cell.parameters()], 0.05)
    results = []
    for _ in range(1000):
        h = Tensor(np.zeros((100, 16)))
        for t in range(5):
            scores, h = cell(embedding(Tensor(data[:, t])), h)
        targets = Tensor(data[:, 5])
        loss = scores.cross_entropy(targets, "sum_of_gradients")
        loss.backward()
        optimizer.step()
        results.append((loss.data.item() / 10, (scores.data.argmax(1) == targets.data).mean()))
    assert results[0][0] == pytest.approx(0.476, abs=0.06)
    assert results[-1][0] == pytest.approx(0.136, abs=0.03)
    assert results[-1][1] == pytest.approx(0.37, abs=0.06)


@pytest.mark.slow
@pytest.mark.usefixtures("mirror")
def test_a_perceptron_learns_mnist() -> None:
    """DLFS chapter 3's network, 784-64-10, two epochs of batches of 60, all on NumPy."""
    data = DATA_MODULES.build({**entries("data")["mnist"].content(), "batch_size": 60})
    np.random.seed(0)
    model = Sequential(Linear(784, 64), Tensor.relu, Linear(64, 10))
    optimizer = SGD(model.parameters(), 0.2)
    for epoch in range(2):
        batches = data.batches("train", order="shuffled", seed=0, epoch=epoch)
        for index in range(len(batches)):
            images, labels = batches[index][:2]
            scores = model(Tensor(images.flatten(1).numpy().astype(np.float64)))
            scores.cross_entropy(Tensor(labels.numpy())).backward()
            optimizer.step()
    right = number = 0
    batches = data.batches("test", order="sequential")
    for index in range(len(batches)):
        images, labels = batches[index][:2]
        right += (model(Tensor(images.flatten(1).numpy())).data.argmax(1) == labels.numpy()).sum()
        number += len(labels)
    assert right / number > 0.95


def test_the_module_fits_one_sitting() -> None:
    assert len(Path(autograd.__file__).read_text().splitlines()) <= 400
