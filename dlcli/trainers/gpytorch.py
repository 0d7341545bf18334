"""The same Gaussian process through GPyTorch: its kernels, its likelihood and its marginal likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.layers import kernels
from dlcli.models.gaussian_process import NOISE_FLOOR, GaussianProcess
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext
from dlcli.trainers.gaussian_process import GaussianProcessTrainer, model_of


@TRAINERS.register("gpytorch")
class GPyTorchTrainer(GaussianProcessTrainer):
    """GPyTorch's objects hold the very parameters of our model, so that they learn together and a run opens without it.

    Beyond 800 rows GPyTorch estimates the loss by conjugate gradients instead of the Cholesky decomposition.

    Source: d2l 18.3 "Doing all of this with GPyTorch"; Gardner et al. 2018, "GPyTorch".
    """

    def check(self, run: RunContext) -> None:
        """
        Raises:
            ConfigError: GPyTorch is not installed, or more than one target.
            ResourceError: so many rows that their kernel matrix does not fit in memory.
        """
        import_gpytorch()
        if len(model_of(run).mean) != 1:
            raise ConfigError(
                f"trainer 'gpytorch' learns one target, and these data have {len(model_of(run).mean)}; "
                "use trainer=gaussian_process"
            )
        super().check(run)

    def objective(self, run: RunContext) -> Callable[[], Tensor]:
        gpytorch = import_gpytorch()
        process, likelihood = mirrored(model_of(run))
        marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)
        return lambda: -marginal(process(process.train_inputs[0]), process.train_targets)


def import_gpytorch() -> Any:
    """The package, which makes torch warn about the age of a function when it is imported.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import gpytorch
    except ImportError:
        raise ConfigError("trainer 'gpytorch' needs the package gpytorch: pip install 'dlcli[gp]'") from None
    return gpytorch


def mirrored(model: GaussianProcess) -> tuple[Any, Any]:
    """A model of one target that has its rows, as GPyTorch's ExactGP and likelihood with the same parameters."""
    gpytorch: Any = import_gpytorch()

    class Mean(gpytorch.means.Mean):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.constant = model.mean

        def forward(self, inputs: Tensor) -> Tensor:
            return self.constant.expand(len(inputs))

    class Process(gpytorch.models.ExactGP):  # type: ignore[misc]
        def __init__(self, inputs: Tensor, targets: Tensor, likelihood: Any):
            super().__init__(inputs, targets, likelihood)
            self.mean_module, self.covar_module = Mean(), kernel_in_gpytorch(model.kernel)

        def forward(self, inputs: Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=gpytorch.constraints.GreaterThan(NOISE_FLOOR))
    likelihood.noise_covar.raw_noise = model.raw_noise
    return Process(model.inputs.double(), model.targets.double().squeeze(1), likelihood), likelihood


def kernel_in_gpytorch(kernel: kernels.Kernel) -> Any:
    """A kernel as GPyTorch's, with the same parameters. Those that it lacks are computed by ours."""
    from gpytorch.constraints import Positive
    from gpytorch.kernels import AdditiveKernel, MaternKernel, PeriodicKernel, ProductKernel, RBFKernel, ScaleKernel
    from gpytorch.kernels import Kernel as Base

    class Ours(Base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = kernel

        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
            return self.kernel.diagonal(x1) if diag else self.kernel(x1, x2)

    if isinstance(kernel, kernels.Sum):
        return AdditiveKernel(*map(kernel_in_gpytorch, kernel.kernels))  # type: ignore[arg-type]
    if isinstance(kernel, kernels.Product):
        return ProductKernel(*map(kernel_in_gpytorch, kernel.kernels))  # type: ignore[arg-type]
    if isinstance(kernel, kernels.Scaled):
        found = ScaleKernel(kernel_in_gpytorch(kernel.kernel))
        found.raw_outputscale = kernel.raw_outputscale
        return found
    if isinstance(kernel, kernels.RBF):
        found = RBFKernel()
    elif isinstance(kernel, kernels.Matern):
        found = MaternKernel(nu=kernel.nu)
    elif isinstance(kernel, kernels.Periodic):  # GPyTorch divides by l, not by l²
        squared = Positive(transform=lambda raw: F.softplus(raw).square(), inv_transform=_inverse_of_squared)
        found = PeriodicKernel(lengthscale_constraint=squared)
        found.raw_period_length = kernel.raw_period_length
    else:
        return Ours()
    found.raw_lengthscale = kernel.raw_lengthscale
    return found


def _inverse_of_squared(value: Tensor) -> Tensor:
    root = value.sqrt()
    return root + (-(-root).expm1()).log()
