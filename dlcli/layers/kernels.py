"""Covariance functions of Gaussian processes, and the expressions that name them, such as "rbf + periodic * linear".

Source: d2l 18.2 "Gaussian Process Priors"; Rasmussen, Williams 2006, "Gaussian Processes for Machine Learning", ch. 4.

Letters: N and M inputs of D numbers. Everything is computed in double precision.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError, shown, suggestion

LONGEST = 300  # characters of an expression


class Initial(NamedTuple):
    """Where the numbers of all kernels of an expression begin."""

    outputscale: float
    lengthscale: float
    period: float


class Kernel(nn.Module):
    """k(x, x'): ``kernel(first (N, D), second (M, D)) -> (N, M)`` float64.

    Learned numbers are positive and kept as ``raw_…`` parameters, of which they are the softplus.
    """

    label: str = ""  # unique within an expression, for logs

    def diagonal(self, inputs: Tensor) -> Tensor:
        """k(x, x) of inputs (N, D) -> (N,)."""
        return inputs.new_ones(len(inputs), dtype=torch.float64)

    def values(self) -> dict[str, Tensor]:
        """The learned numbers of this kernel alone, by name."""
        return {name[4:]: positive(raw) for name, raw in self.named_parameters(recurse=False)}


class Constant(Kernel):
    """1: a random constant, the bias of a linear function."""

    def __init__(self, initial: Initial):
        super().__init__()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first.new_ones(len(first), len(second), dtype=torch.float64)


class Linear(Kernel):
    """x · x': straight lines through the origin."""

    def __init__(self, initial: Initial):
        super().__init__()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first.double() @ second.double().T

    def diagonal(self, inputs: Tensor) -> Tensor:
        return inputs.double().square().sum(1)


class RBF(Kernel):
    """exp(-|x - x'|² / (2 l²)): smooth functions that change over the lengthscale l."""

    def __init__(self, initial: Initial):
        super().__init__()
        self.raw_lengthscale = raw(initial.lengthscale, (1, 1))  # a shape that GPyTorch's kernels have too

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        scaled = distances(first, second) / positive(self.raw_lengthscale)  # (N, M)
        return (-scaled.square() / 2).exp()


class Matern(Kernel):
    """(1 + r + r²/3) exp(-r) with r = √5 |x - x'| / l: functions with two derivatives (nu = 5/2)."""

    nu = 2.5

    def __init__(self, initial: Initial):
        super().__init__()
        self.raw_lengthscale = raw(initial.lengthscale, (1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        r = math.sqrt(2 * self.nu) * distances(first, second) / positive(self.raw_lengthscale)  # (N, M)
        factor = {0.5: torch.ones_like(r), 1.5: 1 + r, 2.5: 1 + r + r.square() / 3}[self.nu]
        return factor * (-r).exp()


class Matern12(Matern):
    """exp(-r) with r = |x - x'| / l: rough functions, the Ornstein-Uhlenbeck process (nu = 1/2)."""

    nu = 0.5


class Matern32(Matern):
    """(1 + r) exp(-r) with r = √3 |x - x'| / l: functions with one derivative (nu = 3/2)."""

    nu = 1.5


class Periodic(Kernel):
    """exp(-2 Σ_d sin²(π (x_d - x'_d) / p) / l²): functions that repeat with the period p in every direction."""

    def __init__(self, initial: Initial):
        super().__init__()
        self.raw_lengthscale = raw(initial.lengthscale, (1, 1))
        self.raw_period_length = raw(initial.period, (1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        period = positive(self.raw_period_length)
        waves = first.new_zeros(len(first), len(second), dtype=torch.float64)
        for a, b in zip(first.double().T, second.double().T, strict=True):
            waves = waves + (math.pi * (a[:, None] - b) / period).sin().square()
        return (-2 * waves / positive(self.raw_lengthscale).square()).exp()


class NeuralNetwork(Kernel):
    """(2/π) asin(2 x̃·x̃' / √((l² + 2 x̃·x̃)(l² + 2 x̃'·x̃'))) with x̃ = (1, x).

    Infinitely many hidden units erf(w · x̃) with weights w ~ N(0, 1/l²). Source: Williams 1998, "Computation with
    Infinite Neural Networks".
    """

    def __init__(self, initial: Initial):
        super().__init__()
        self.raw_lengthscale = raw(initial.lengthscale, (1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        squared = positive(self.raw_lengthscale).square()
        products = 1 + first.double() @ second.double().T  # (N, M)
        norms = [squared + 2 * (1 + inputs.double().square().sum(1)) for inputs in (first, second)]
        scale = torch.outer(norms[0].flatten(), norms[1].flatten()).sqrt()
        return (2 * products / scale).asin() * (2 / math.pi)

    def diagonal(self, inputs: Tensor) -> Tensor:
        squared = positive(self.raw_lengthscale).square().flatten()
        length = 2 * (1 + inputs.double().square().sum(1))
        return (length / (squared + length)).asin() * (2 / math.pi)


class Scaled(Kernel):
    """A kernel times a learned variance, its outputscale."""

    def __init__(self, kernel: Kernel, initial: Initial):
        super().__init__()
        self.kernel = kernel
        self.raw_outputscale = raw(initial.outputscale, ())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        covariance: Tensor = positive(self.raw_outputscale) * self.kernel(first, second)
        return covariance

    def diagonal(self, inputs: Tensor) -> Tensor:
        return positive(self.raw_outputscale) * self.kernel.diagonal(inputs)


class Sum(Kernel):
    """The sum of kernels: that of independent functions."""

    def __init__(self, kernels: list[Kernel]):
        super().__init__()
        self.kernels = nn.ModuleList(kernels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([kernel(first, second) for kernel in self.kernels]).sum(0)

    def diagonal(self, inputs: Tensor) -> Tensor:
        return torch.stack([kernel.diagonal(inputs) for kernel in self.kernels]).sum(0)  # type: ignore[operator]


class Product(Kernel):
    """The product of kernels: large where all are."""

    def __init__(self, kernels: list[Kernel]):
        super().__init__()
        self.kernels = nn.ModuleList(kernels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([kernel(first, second) for kernel in self.kernels]).prod(0)

    def diagonal(self, inputs: Tensor) -> Tensor:
        return torch.stack([kernel.diagonal(inputs) for kernel in self.kernels]).prod(0)  # type: ignore[operator]


KERNELS: dict[str, type[Constant | Linear | RBF | Matern | Periodic | NeuralNetwork]] = {
    "constant": Constant,
    "linear": Linear,
    "rbf": RBF,
    "matern12": Matern12,
    "matern32": Matern32,
    "matern52": Matern,
    "periodic": Periodic,
    "neural_network": NeuralNetwork,
}


def kernel_of(expression: str, initial: Initial) -> Kernel:
    """The kernel that an expression of names, +, * and parentheses stands for.

    Each term of a sum has a variance of its own; a product of sums has none beside theirs.

    Raises:
        ConfigError: no such expression, or an unknown name.
    """
    try:
        if len(expression) > LONGEST:
            raise SyntaxError("it is too long")
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal(expression) from None
    return _sum(tree, expression, initial, Counter())


def _sum(node: ast.expr, expression: str, initial: Initial, seen: Counter[str]) -> Kernel:
    terms = [_term(term, expression, initial, seen) for term in _operands(node, ast.Add)]
    return terms[0] if len(terms) == 1 else Sum(terms)


def _term(node: ast.expr, expression: str, initial: Initial, seen: Counter[str]) -> Kernel:
    operands = _operands(node, ast.Mult)
    factors: list[Kernel] = []
    for operand in operands:
        if isinstance(operand, ast.BinOp):  # a sum in parentheses
            if not isinstance(operand.op, ast.Add):
                raise _refusal(expression)
            factors.append(_sum(operand, expression, initial, seen))
            continue
        if not isinstance(operand, ast.Name):
            raise _refusal(expression)
        if operand.id not in KERNELS:
            raise ConfigError(f"model.kernel: unknown kernel '{shown(operand.id)}'; {suggestion(operand.id, KERNELS)}")
        seen[operand.id] += 1
        factors.append(KERNELS[operand.id](initial))
        factors[-1].label = operand.id + (f"_{seen[operand.id]}" if seen[operand.id] > 1 else "")
    product = factors[0] if len(factors) == 1 else Product(factors)
    if any(isinstance(operand, ast.BinOp) for operand in operands):
        return product
    scaled = Scaled(product, initial)
    scaled.label = "_".join(factor.label for factor in factors)
    return scaled


def _operands(node: ast.expr, operator: type[ast.operator]) -> list[ast.expr]:
    """a + b + c -> [a, b, c]."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, operator):
        return [*_operands(node.left, operator), *_operands(node.right, operator)]
    return [node]


def _refusal(expression: str) -> ConfigError:
    return ConfigError(
        f"model.kernel={shown(expression)}: expected names of kernels with + and * between them, and parentheses, "
        f"at most {LONGEST} characters; known: {', '.join(KERNELS)}"
    )


def raw(value: float, shape: tuple[int, ...]) -> nn.Parameter:
    """A parameter whose softplus is ``value``, which is positive."""
    inverse = value + math.log(-math.expm1(-value))
    return nn.Parameter(torch.full(shape, inverse))


def positive(raw: Tensor) -> Tensor:
    """softplus(raw) in double precision."""
    return F.softplus(raw.double())


def distances(first: Tensor, second: Tensor) -> Tensor:
    """|x - x'| of (N, D) and (M, D) -> (N, M) float64, exact also for inputs that lie close together."""
    return torch.cdist(first.double(), second.double(), compute_mode="donot_use_mm_for_euclid_dist")
