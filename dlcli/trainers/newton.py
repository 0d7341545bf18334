"""Newton's method: steps by the gradient and the Hessian of the loss over all training data."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dlcli import runtime
from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.full_batch import begin, descend, mean_loss, parameters_of

SUFFICIENT = 1e-4  # Armijo's constant: the share of the expected decrease that is enough


@TRAINERS.register("newton")
class NewtonTrainer(Trainer):
    """x ← x - lr H⁻¹ g, with the Hessian H and the gradient g of the mean loss over the training batches.

    Source: d2l 12.3.3 "Adaptive Methods": Newton's method, preconditioning (only the diagonal of H), line search.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        max_steps: Count,
        lr: PositiveFloat,
        hessian: Literal["full", "diagonal", "none"],
        line_search: bool,
        monitor: str,
        device: str,
        precision: Literal["fp32", "fp64"],
    ):
        """
        Args:
            max_steps: of Newton.
            lr: the length of a step; with a line search the first that is tried.
            hessian: what a step is divided by: the whole matrix, the absolute values of its diagonal, or nothing.
            line_search: halve the step until the loss falls enough (Armijo's condition).
            monitor: what tables of runs show as the result.
            device, precision: as for every trainer.
        """
        self.max_steps = max_steps
        self.lr = lr
        self.hessian = hessian
        self.line_search = line_search
        self.monitor = monitor
        self.dtype = runtime.input_dtype(precision)

    def check(self, run: RunContext) -> None:
        """
        Raises:
            ConfigError: too many parameters for a Hessian.
        """
        parameters_of(run, "newton")

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            NonFiniteError: the point left all bounds.
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        parameters = parameters_of(run, "newton")
        self.loop = begin(run)
        budget = {"max_steps": self.max_steps, "eval_every": 1}
        return descend(
            run, self.loop, lambda: self._step(run, parameters), **budget, monitor=self.monitor, dtype=self.dtype
        )

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The loss and the length of its gradient over the training data."""
        value, gradient, _ = self._derivatives(run, parameters_of(run, "newton"))
        return {"loss": value, "gradient_norm": float(gradient.norm())}

    # ------------------------------------------------------------------ pieces

    def _step(self, run: RunContext, parameters: list[Any]) -> dict[str, float]:
        """Move the parameters. Returns the loss and the gradient's length before, and the rate."""
        value, gradient, hessian = self._derivatives(run, parameters)
        direction = self._direction(gradient, hessian)
        rate = self._move(run, parameters, value, gradient, direction)
        return {"loss": value, "gradient_norm": float(gradient.norm()), "learning_rate": rate}

    def _loss(self, run: RunContext) -> Tensor:
        return mean_loss(run, self.loop.epoch if self.loop else 0, self.dtype)

    def _derivatives(self, run: RunContext, parameters: list[Any]) -> tuple[float, Tensor, Tensor | None]:
        """The loss, its gradient (P,) and its Hessian (P, P)."""
        loss = self._loss(run)
        whole = self.hessian != "none"
        gradient = torch.cat([g.flatten() for g in _gradients(loss, parameters, create_graph=whole)])
        if not whole:
            return loss.item(), gradient.detach(), None
        rows = [
            torch.cat([part.flatten() for part in _gradients(element, parameters, create_graph=False)])
            for element in gradient
        ]
        return loss.item(), gradient.detach(), torch.stack(rows).detach()

    def _direction(self, gradient: Tensor, hessian: Tensor | None) -> Tensor:
        if hessian is None:
            return gradient
        if self.hessian == "diagonal":
            return gradient / hessian.diagonal().abs().clamp(min=1e-12)
        solution: Tensor = torch.linalg.lstsq(hessian, gradient.unsqueeze(1), driver="gelsd").solution
        return solution.squeeze(1)

    @torch.no_grad()
    def _move(self, run: RunContext, parameters: list[Any], value: float, gradient: Tensor, direction: Tensor) -> float:
        """Move the parameters against the direction. Returns the rate that was used."""
        start = [parameter.clone() for parameter in parameters]
        if self.line_search and not gradient @ direction > 0:  # uphill, near a maximum or a saddle
            direction = gradient
        pieces = torch.split(direction, [parameter.numel() for parameter in parameters])
        rate, slope = self.lr, float(gradient @ direction)
        while True:
            for parameter, origin, piece in zip(parameters, start, pieces, strict=True):
                parameter.copy_(origin - rate * piece.view_as(origin))
            if not self.line_search or slope <= 0 or rate < 1e-10:
                return rate
            if float(self._loss(run)) <= value - SUFFICIENT * rate * slope:
                return rate
            rate /= 2


def _gradients(value: Tensor, parameters: list[Any], *, create_graph: bool) -> list[Tensor]:
    """The derivatives of a number; zeros where it does not depend on a parameter."""
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(value, parameters, retain_graph=True, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
