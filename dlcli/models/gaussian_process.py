"""Gaussian process regression: exact inference by the Cholesky decomposition."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dlcli import runtime
from dlcli.errors import ConfigError, NonFiniteError, ResourceError
from dlcli.hyperparameters import PositiveFloat
from dlcli.layers.fitted import FittedModel, target_columns
from dlcli.layers.kernels import KERNELS, Initial, Kernel, kernel_of, positive, raw
from dlcli.registry import MODELS

NOISE_FLOOR = 1e-4  # of the noise variance, as GPyTorch has it
JITTER = (0.0, 1e-8, 1e-7, 1e-6)  # added to the diagonal, relative to its mean, until a decomposition exists
MATRICES = 8, 12  # of N x N numbers that a training step holds at a time: measured, and for each kernel as many more


class Factor(NamedTuple):
    """The training rows seen through the kernel: K + noise I = L L'."""

    lower: Tensor  # L, (N, N)
    whitened: Tensor  # L⁻¹ (y - mean), (N, K)


@MODELS.register("gaussian_process")
class GaussianProcess(FittedModel):
    """Functions with the prior N(mean, k), seen at the training inputs with normal noise.

    The hyper-parameters (a constant mean, the kernel's numbers, the variance of the noise) are learned by the trainers
    ``gaussian_process`` and ``gpytorch``; with trainer ``fit`` they stay as they are. Several targets share the kernel
    and are independent of each other. The model is its training rows: it costs N² numbers of memory and N³ operations.

    Source: d2l 18.3 "Gaussian Process Inference"; Rasmussen, Williams 2006, algorithm 2.1.
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"trainer": ("gaussian_process", "gpytorch", "fit")}

    inputs: Tensor
    targets: Tensor

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        kernel: str,
        outputscale: PositiveFloat,
        lengthscale: PositiveFloat,
        period: PositiveFloat,
        noise: PositiveFloat,
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: targets, or classes, of which each is a number that is 0 or 1.
            kernel: an expression of ``dlcli.layers.kernels``.
            outputscale, lengthscale, period: where these numbers of all kernels begin, as far as a kernel has them.
            noise: where the variance of the noise begins.

        Raises:
            ConfigError: an expression that is none, or too little noise.
        """
        super().__init__()
        if noise <= NOISE_FLOOR:
            raise ConfigError(f"model.noise={noise}: expected more than {NOISE_FLOOR}, below which it cannot fall")
        self.kernel: Kernel = kernel_of(kernel, Initial(outputscale, lengthscale, period))
        self.mean = nn.Parameter(torch.zeros(num_outputs))
        self.raw_noise = raw(noise - NOISE_FLOOR, (1,))
        self.register_buffer("inputs", torch.zeros(0, math.prod(input_shape)))
        self.register_buffer("targets", torch.zeros(0, num_outputs))
        self._factor: Factor | None = None  # while the model is evaluated

    # ------------------------------------------------------------------ fitting

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        """Keep the training rows. The hyper-parameters stay as they are."""
        self.observe(batches)
        return {"loss": self.loss().item(), **self.hyperparameters()}

    def observe(self, batches: Iterable[Any]) -> None:
        """Take batches (inputs (B, …), targets (B, K) or labels (B,)) for what is known of the function.

        Raises:
            ResourceError: so many rows that their kernel matrix does not fit in memory.
        """
        rows = [(inputs.flatten(1), target_columns(targets, self.targets.shape[1])) for inputs, targets in batches]
        self.require_memory(sum(len(inputs) for inputs, _ in rows))
        self.inputs = torch.cat([inputs for inputs, _ in rows])
        self.targets = torch.cat([targets for _, targets in rows]).to(self.inputs.dtype)
        self._factor = None

    def require_memory(self, rows: int) -> None:
        """Refuse rows whose kernel matrix does not fit in memory, before it is made.

        Raises:
            ResourceError: names the size and the limit.
        """
        kernels = sum(isinstance(module, tuple(KERNELS.values())) for module in self.kernel.modules())
        matrices = MATRICES[0] + kernels * MATRICES[1]
        device = self.mean.device
        free, needed = runtime.free_memory(device), 8 * rows * rows * matrices
        if needed > free:
            raise ResourceError(
                f"{rows:,} training rows: a kernel matrix takes {8 * rows * rows / 2**30:,.1f} GiB, training on it "
                f"{needed / 2**30:,.1f}, and {free / 2**30:,.1f} GiB are free on {device}; "
                f"use at most {math.isqrt(free // (8 * matrices)):,} rows"
            )

    def loss(self) -> Tensor:
        """-log p(targets | inputs) for each number to predict, a float64 scalar with gradients."""
        lower, whitened = self._factorise()
        rows, columns = whitened.shape
        determinant = columns * lower.diagonal().log().sum()  # of L: half of that of L L'
        total = whitened.square().sum() / 2 + determinant + rows * columns * math.log(2 * math.pi) / 2
        return total / (rows * columns)

    @property
    def noise(self) -> Tensor:
        """The variance of the noise, (1,)."""
        return positive(self.raw_noise) + NOISE_FLOOR

    @torch.no_grad()
    def hyperparameters(self) -> dict[str, float]:
        """What is learned, by name, such as ``rbf_lengthscale``, ``noise`` and ``mean``."""
        kernels = [module for module in self.kernel.modules() if isinstance(module, Kernel)]
        found = {f"{kernel.label}_{name}": float(v) for kernel in kernels for name, v in kernel.values().items()}
        means = {f"mean_{number}": float(value) for number, value in enumerate(self.mean)}
        return {**found, "noise": float(self.noise), **(means if len(means) > 1 else {"mean": float(self.mean[0])})}

    # ------------------------------------------------------------------ prediction

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) -> the posterior mean of each target, (B, num_outputs), of the inputs' type."""
        return self.predictive(inputs)[0].to(inputs.dtype)

    def predictive(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution of targets, noise included: mean (B, K) and variance (B, 1), float64."""
        inputs = inputs.flatten(1)
        lower, whitened = self._known()
        seen = torch.linalg.solve_triangular(lower, self.kernel(self.inputs, inputs), upper=False)  # (N, B)
        variance = self.kernel.diagonal(inputs) - seen.square().sum(0)  # (B,)
        return self.mean + seen.T @ whitened, (variance.clamp(min=0) + self.noise).unsqueeze(1)

    def functions(self, inputs: Tensor, count: int, generator: torch.Generator, *, prior: bool) -> Tensor:
        """Functions drawn from the posterior (or the prior) without noise: at inputs (B, D) -> (count, B, K)."""
        inputs = inputs.flatten(1)
        mean, covariance = self.mean.double().expand(len(inputs), -1), self.kernel(inputs, inputs)
        if not prior:
            lower, whitened = self._known()
            seen = torch.linalg.solve_triangular(lower, self.kernel(self.inputs, inputs), upper=False)  # (N, B)
            mean, covariance = mean + seen.T @ whitened, covariance - seen.T @ seen
        # Without noise the matrix is as good as singular; eigenvalues below zero are rounding errors.
        values, vectors = torch.linalg.eigh(covariance)
        normal = torch.randn(count, len(inputs), mean.shape[1], generator=generator, dtype=torch.float64)
        drawn: Tensor = mean + vectors @ (values.clamp(min=0).sqrt().unsqueeze(1) * normal.to(mean.device))
        return drawn

    def train(self, mode: bool = True) -> GaussianProcess:
        """The decomposition is kept from one call to the next in evaluation mode only, from its beginning on."""
        self._factor = None
        super().train(mode)
        return self

    def _known(self) -> Factor:
        if self.training or torch.is_grad_enabled():
            return self._factorise()
        if self._factor is None:
            self._factor = self._factorise()
        return self._factor

    def _factorise(self) -> Factor:
        """
        Raises:
            NonFiniteError: the matrix has no Cholesky decomposition.
        """
        covariance = self.kernel(self.inputs, self.inputs)  # (N, N)
        covariance = covariance + self.noise * torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
        lower = cholesky(covariance)
        return Factor(lower, torch.linalg.solve_triangular(lower, self.targets - self.mean.double(), upper=False))


def cholesky(covariance: Tensor) -> Tensor:
    """L with L L' = the matrix (N, N), if need be with a little added to its diagonal.

    Raises:
        NonFiniteError: there is none.
    """
    scale = covariance.diagonal().mean().detach() if len(covariance) else 1.0
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    for jitter in JITTER:
        lower: Tensor
        lower, failed = torch.linalg.cholesky_ex(covariance + jitter * scale * identity if jitter else covariance)
        if not failed and lower.isfinite().all():
            return lower
    problem = "is not positive definite" if covariance.isfinite().all() else "has numbers that are not finite"
    raise NonFiniteError(
        f"the kernel matrix of {len(covariance):,} rows {problem}; use another model.kernel, more model.noise, smaller "
        "steps (trainer.lr), or inputs of moderate size"
    )
