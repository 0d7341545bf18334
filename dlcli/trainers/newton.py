"""Newton's method: steps by the gradient and the Hessian of the loss over all training data."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dlcli import runtime
from dlcli.errors import ConfigError, DataError, NonFiniteError
from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.evaluation import converted, evaluate, scalars
from dlcli.trainers.loop import Loop

MOST_PARAMETERS = 2000  # the Hessian has their square many numbers
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
        self.precision = precision

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            ConfigError: too many parameters for a Hessian. NonFiniteError: the point left all bounds.
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
        count = sum(parameter.numel() for parameter in parameters)
        if count > MOST_PARAMETERS:
            raise ConfigError(f"trainer 'newton': {count:,} parameters; expected at most {MOST_PARAMETERS:,}")
        loop = self.loop = Loop()
        if run.resume_state is not None:
            loop = self.loop = Loop(**run.resume_state["loop"])
            self._restore(run)
        started = time.perf_counter() - loop.seconds
        while loop.step < self.max_steps:
            if run.interrupted():
                self._save(run, "last")
                run.leave_interrupted(loop.step)
            value, gradient, hessian = self._derivatives(run, parameters)
            direction = self._direction(gradient, hessian)
            rate = self._step(run, parameters, value, gradient, direction)
            if not bool(torch.isfinite(torch.cat([parameter.flatten() for parameter in parameters])).all()):
                raise NonFiniteError(f"a weight is not finite at step {loop.step + 1}; lower trainer.lr")
            loop.step += 1
            loop.epoch += 1
            loop.seconds = time.perf_counter() - started
            loop.latest = {"loss": value, "gradient_norm": float(gradient.norm()), "learning_rate": rate}
            run.log(loop.step, {f"train/{name}": number for name, number in loop.latest.items()})
            self._evaluate(run)
            self._save(run, "last")
        return "the budget of steps is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The loss and the length of its gradient over the training data."""
        value, gradient, _ = self._derivatives(run, list(run.model.parameters()))
        return {"loss": value, "gradient_norm": float(gradient.norm())}

    # ------------------------------------------------------------------ pieces

    def _loss(self, run: RunContext) -> Tensor:
        """The mean of the task's loss over the training batches, weighted by their sizes."""
        dtype = runtime.input_dtype(self.precision)
        batches = run.data.batches(
            "train", order="sequential", seed=run.seed, epoch=self.loop.epoch if self.loop else 0
        )
        total, rows = torch.zeros((), device=run.device, dtype=dtype), 0
        for index in range(len(batches)):
            batch = converted(batches[index], dtype)
            (loss,) = run.task.training_step({"model": run.model}, batch)
            total, rows = total + loss.value * len(batch[0]), rows + len(batch[0])
        mean: Tensor = total / rows
        return mean

    def _derivatives(self, run: RunContext, parameters: list[Any]) -> tuple[float, Tensor, Tensor | None]:
        """The loss, its gradient (P,) and its Hessian (P, P)."""
        loss = self._loss(run)
        whole = self.hessian != "none"
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=whole)])
        if not whole:
            return loss.item(), gradient.detach(), None
        rows = [torch.cat([part.flatten() for part in _second(element, parameters)]) for element in gradient]
        return loss.item(), gradient.detach(), torch.stack(rows).detach()

    def _direction(self, gradient: Tensor, hessian: Tensor | None) -> Tensor:
        if hessian is None:
            return gradient
        if self.hessian == "diagonal":
            return gradient / hessian.diagonal().abs().clamp(min=1e-12)
        solution: Tensor = torch.linalg.lstsq(hessian, gradient.unsqueeze(1), driver="gelsd").solution
        return solution.squeeze(1)

    @torch.no_grad()
    def _step(self, run: RunContext, parameters: list[Any], value: float, gradient: Tensor, direction: Tensor) -> float:
        """Move the parameters against the direction. Returns the rate that was used."""
        start = [parameter.clone() for parameter in parameters]
        pieces = torch.split(direction, [parameter.numel() for parameter in parameters])
        rate, slope = self.lr, float(gradient @ direction)
        while True:
            for parameter, begin, piece in zip(parameters, start, pieces, strict=True):
                parameter.copy_(begin - rate * piece.view_as(begin))
            if not self.line_search or slope <= 0 or rate < 1e-10:
                return rate
            if float(self._loss(run)) <= value - SUFFICIENT * rate * slope:
                return rate
            rate /= 2

    def _evaluate(self, run: RunContext) -> None:
        loop = self.loop
        assert loop is not None
        split, _, metric = self.monitor.partition("/")
        networks = {"model": run.model}
        measured = evaluate(run.task, run.model, networks, run.data, split, dtype=runtime.input_dtype(self.precision))
        values = scalars(measured)
        run.log(loop.step, {f"{split}/{name}": value for name, value in values.items()})
        if loop.step == self.max_steps:
            run.show(loop.step, split, measured, networks)
        run.progress.evaluated(loop.step, split, values, metric)
        better: Callable[[float, float], bool] = float.__lt__
        if run.task.metric_directions[metric] == "max":
            better = float.__gt__
        if loop.best is None or better(values[metric], loop.best["value"]):
            loop.best = {"metric": self.monitor, "value": values[metric], "step": loop.step, "metrics": values}
            self._save(run, "best")

    def _save(self, run: RunContext, name: str) -> None:
        assert self.loop is not None
        self.loop.offsets = run.log_offsets()
        run.save_checkpoint(name, {"model": run.model.state_dict(), "loop": dict(vars(self.loop))})

    def _restore(self, run: RunContext) -> None:
        assert run.resume_state is not None
        try:
            run.model.load_state_dict(run.resume_state["model"])
        except RuntimeError:
            raise DataError("the checkpoint is that of another model; put the run's own back") from None
        run.restore_random_state(run.resume_state)


def _second(element: Tensor, parameters: list[Any]) -> list[Tensor]:
    """The gradient of one element of the gradient; zeros where it does not depend on a parameter."""
    if not element.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(element, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
