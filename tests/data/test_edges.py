"""The picture with a bar, and the kernel that is learned from its edges."""

import pytest
import torch

from dlcli.data.edges import Edges
from dlcli.errors import ConfigError
from dlcli.models.cross_correlation import CrossCorrelation

OPTIONS = {"height": 6, "width": 8, "bar": (2, 6), "kernel": [[1, -1]]}


def test_the_targets_are_the_edges() -> None:
    data = Edges(**OPTIONS)
    batch = data.batches("train", order="sequential")[0]
    assert batch.features[0, 0].tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]] * 6
    assert batch.targets.reshape(6, 7).tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert (data.spec.input_shape, data.spec.num_targets) == ((1, 6, 8), 42)


def test_gradient_descent_finds_the_detector() -> None:
    torch.manual_seed(0)
    batch = Edges(**OPTIONS).batches("train", order="sequential")[0]
    model = CrossCorrelation(input_shape=(1, 6, 8), kernel_size=(1, 2), bias=False)
    for _ in range(60):
        model.kernel.grad = None
        (model(batch.features) - batch.targets).square().sum().backward()
        with torch.no_grad():
            model.kernel -= 0.03 * model.kernel.grad
    torch.testing.assert_close(model.kernel.data, torch.tensor([[1.0, -1.0]]), atol=0.01, rtol=0)


def test_the_bias_is_added_everywhere() -> None:
    model = CrossCorrelation(input_shape=(1, 3, 3), kernel_size=(2, 2), bias=True)
    before = model(torch.ones(1, 1, 3, 3))
    with torch.no_grad():
        model.bias += 2
    torch.testing.assert_close(model(torch.ones(1, 1, 3, 3)), before + 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bar": (6, 2)}, r"data.bar=\[6, 2\]: expected two columns, rising, of at most data.width=8"),
        ({"kernel": [[1, 2], [1]]}, "expected rows of one length, at most 6×8 numbers"),
        ({"kernel": []}, "expected rows of one length"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Edges(**(OPTIONS | change))


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.kernel_size=\[1, 9\]: expected at most the pictures' \[6, 8\]"):
        CrossCorrelation(input_shape=(1, 6, 8), kernel_size=(1, 9), bias=False)
    with pytest.raises(ConfigError, match=r"needs grey pictures \(1, H, W\), not inputs of \(3, 6, 8\)"):
        CrossCorrelation(input_shape=(3, 6, 8), kernel_size=(1, 2), bias=False)
