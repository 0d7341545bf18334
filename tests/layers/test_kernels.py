"""Kernels against scikit-learn's and by their definition, and the expressions that name them."""

from __future__ import annotations

import pytest
import torch
from sklearn.gaussian_process import kernels as reference
from torch import Tensor

from dlcli.errors import ConfigError
from dlcli.layers.kernels import KERNELS, Initial, Kernel, Product, Scaled, Sum, kernel_of

INITIAL = Initial(outputscale=1.7, lengthscale=0.6, period=1.3)
COMPOSED = ["rbf + periodic * linear", "(rbf + constant) * matern32", "rbf * rbf + neural_network"]


def inputs(rows: int, columns: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected", "columns"),
    [
        ("rbf", reference.RBF(0.6), 2),
        ("matern12", reference.Matern(0.6, nu=0.5), 2),
        ("matern32", reference.Matern(0.6, nu=1.5), 2),
        ("matern52", reference.Matern(0.6, nu=2.5), 2),
        ("periodic", reference.ExpSineSquared(0.6, 1.3), 1),
        ("linear", reference.DotProduct(sigma_0=0.0), 2),
        ("constant", reference.ConstantKernel(1.0), 2),
    ],
)
def test_values_are_those_of_scikit_learn(name: str, expected: reference.Kernel, columns: int) -> None:
    first, second = inputs(5, columns), inputs(4, columns, seed=1)
    found = kernel_of(name, INITIAL)(first, second).detach()
    torch.testing.assert_close(
        found, 1.7 * torch.from_numpy(expected(first.numpy(), second.numpy())), rtol=1e-6, atol=0
    )


def test_the_neural_network_kernel_is_the_mean_over_random_hidden_units() -> None:
    first, second = inputs(4), inputs(3, seed=1)
    weights = inputs(100_000, 3, seed=2) / 0.6  # w ~ N(0, 1/l²)
    hidden = [torch.erf(weights[:, :1].T + x @ weights[:, 1:].T) for x in (first, second)]
    expected = hidden[0] @ hidden[1].T / len(weights)
    torch.testing.assert_close(kernel_of("neural_network", INITIAL)(first, second) / 1.7, expected, rtol=0, atol=0.015)


@pytest.mark.parametrize("expression", [*KERNELS, *COMPOSED])
def test_a_matrix_is_symmetric_and_has_no_negative_eigenvalue(expression: str) -> None:
    rows = inputs(30)
    kernel = kernel_of(expression, INITIAL)
    matrix = kernel(rows, rows).detach()
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9
    torch.testing.assert_close(kernel.diagonal(rows), kernel(rows, rows).diagonal())


@pytest.mark.parametrize("expression", [*KERNELS, *COMPOSED])
def test_gradients_are_those_of_finite_differences(expression: str) -> None:
    rows = inputs(4)
    kernel = kernel_of(expression, INITIAL).double()
    names, values = zip(*kernel.named_parameters(), strict=True)

    def matrix(*tensors: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(kernel, dict(zip(names, tensors, strict=True)), (rows, rows))
        return found

    assert torch.autograd.gradcheck(matrix, values)


def test_expressions_are_sums_of_products_with_a_variance_for_each_term() -> None:
    first, second = inputs(5), inputs(4, seed=1)
    rbf, periodic, linear, matern = (
        kernel_of(k, INITIAL)(first, second) / 1.7 for k in ("rbf", "periodic", "linear", "matern32")
    )
    expected = {
        "rbf + periodic * linear": 1.7 * rbf + 1.7 * periodic * linear,
        "rbf*periodic*linear": 1.7 * rbf * periodic * linear,
        "(rbf + matern32) * linear": (1.7 * rbf + 1.7 * matern) * linear,
        "((rbf)) + (periodic + linear)": 1.7 * (rbf + periodic + linear),
    }
    for expression, value in expected.items():
        torch.testing.assert_close(kernel_of(expression, INITIAL)(first, second), value)


def test_every_number_has_a_name_of_its_own() -> None:
    kernel = kernel_of("rbf + rbf * periodic", INITIAL)
    assert isinstance(kernel, Sum)
    scaled = kernel.kernels[1]
    assert isinstance(scaled, Scaled)
    assert isinstance(scaled.kernel, Product)
    labels = [module.label for module in kernel.modules() if isinstance(module, Kernel) and module.values()]
    assert labels == ["rbf", "rbf", "rbf_2_periodic", "rbf_2", "periodic"]
    assert {name: round(value.item(), 6) for name, value in scaled.kernel.kernels[1].values().items()} == {
        "lengthscale": 0.6,
        "period_length": 1.3,
    }


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("rfb", r"^model.kernel: unknown kernel 'rfb'; did you mean rbf\?$"),
        ("rbf - linear", r"^model.kernel=rbf - linear: expected names of kernels with \+ and \* between them"),
        ("rbf +", "expected names of kernels"),
        ("", "expected names of kernels"),
        ("(rbf - linear) * rbf", "expected names of kernels"),
        ("__import__('os').remove('x')", "expected names of kernels"),
        ("2 * rbf", "expected names of kernels"),
        ("(" * 250, "expected names of kernels"),
        ("rbf+" * 90 + "rbf", "at most 300 characters"),
    ],
)
def test_what_is_no_expression_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kernel_of(expression, INITIAL)
