"""Hyper-parameters of a Gaussian process: the maximum of the marginal likelihood of all training rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dlcli.errors import NonFiniteError
from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.models.gaussian_process import GaussianProcess
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.evaluation import converted
from dlcli.trainers.full_batch import begin, measure, save

LONGEST_SEARCH = 25  # losses that a line search may ask for


@TRAINERS.register("gaussian_process")
class GaussianProcessTrainer(Trainer):
    """Steps of Adam or L-BFGS on the model's ``loss()``, after the model has taken the training rows.

    Both come from torch, because L-BFGS asks for the loss itself, several times in a step.

    Source: d2l 18.3 "Gaussian Process Inference"; L-BFGS: Liu, Nocedal 1989.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("gaussian_process",)}

    def __init__(
        self,
        *,
        max_steps: Count,
        method: Literal["adam", "lbfgs"],
        lr: PositiveFloat,
        checkpoint_every: Count,
        monitor: str,
        device: str,
        precision: Literal["fp64"],
    ):
        """
        Args:
            max_steps: of the method.
            method: adam, or lbfgs with a line search that satisfies the strong Wolfe conditions.
            lr: the rate of Adam, or the first length that the line search tries.
            checkpoint_every: in steps.
            monitor: what tables of runs show as the result.
            device: as for every trainer.
            precision: Cholesky decompositions need double precision.
        """
        self.max_steps = max_steps
        self.method = method
        self.lr = lr
        self.checkpoint_every = checkpoint_every
        self.monitor = monitor

    def check(self, run: RunContext) -> None:
        """
        Raises:
            ResourceError: so many rows that their kernel matrix does not fit in memory.
        """
        batches = run.data.batches("train", order="sequential")
        last = len(batches) - 1
        model_of(run).require_memory(last * len(batches[0][0]) + len(batches[last][0]))

    def objective(self, run: RunContext) -> Callable[[], Tensor]:
        """The loss that is minimised, as a function of the model's parameters."""
        return model_of(run).loss

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            NonFiniteError: the kernel matrix has no decomposition, or a number is not finite.
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        loop = self.loop = begin(run)
        model = model_of(run)
        if run.resume_state is None:
            batches = run.data.batches("train", order="sequential")
            model.observe(converted(batches[index], torch.float64) for index in range(len(batches)))
        loss = self.objective(run)
        optimizer = self._optimizer(model)
        if run.resume_state is not None:
            optimizer.load_state_dict(run.resume_state["optimizer"])

        def keep() -> None:
            save(run, loop, "last", optimizer=optimizer.state_dict())

        def closure() -> float:
            optimizer.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        started = time.perf_counter() - loop.seconds
        while loop.step < self.max_steps:
            if run.interrupted():
                keep()
                run.leave_interrupted(loop.step)
            # One step. What is logged is where it began, as the book prints it.
            before = model.hyperparameters()
            value = float(optimizer.step(closure))
            if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
                raise NonFiniteError(
                    f"a hyper-parameter is not finite at step {loop.step + 1}; use a smaller trainer.lr"
                )
            loop.step += 1
            loop.epoch += 1
            loop.seconds = time.perf_counter() - started
            loop.latest = {"loss": value, **before}
            run.log(loop.step, {f"train/{name}": number for name, number in loop.latest.items()})
            if loop.step % self.checkpoint_every == 0 and loop.step < self.max_steps:
                keep()

        # The end: the loss and the numbers that were reached, and the evaluation. What a smaller budget reached before
        # the run was resumed counts no more: it is the end of the search that is the result.
        if loop.best is None or loop.best["step"] != loop.step:
            with torch.no_grad():
                loop.latest = {"loss": float(loss()), **model.hyperparameters()}
            loop.best = None
            measure(run, loop, self.monitor, torch.float64, last=True)
            keep()
        return "the budget of steps is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The loss of the first training batch with the hyper-parameters at the beginning."""
        model = model_of(run)
        batch = converted(run.data.batches("train", order="sequential")[0], torch.float64)
        with torch.no_grad():
            return model.fit([batch])

    def _optimizer(self, model: GaussianProcess) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.method == "adam":
            return torch.optim.Adam(parameters, lr=self.lr)
        return torch.optim.LBFGS(
            parameters, lr=self.lr, max_iter=1, max_eval=LONGEST_SEARCH, line_search_fn="strong_wolfe"
        )


def model_of(run: RunContext) -> GaussianProcess:
    """The run's model, which the check of the configuration has found to be of this kind."""
    assert isinstance(run.model, GaussianProcess)
    return run.model
