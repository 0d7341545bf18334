"""One training step, for every trainer that learns by gradient: backward, clip, optimizer, schedule, average."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlcli import runtime
from dlcli.data_parallel import Overlapped
from dlcli.distributed import Group
from dlcli.errors import NonFiniteError
from dlcli.optimizers.base import Optimizer
from dlcli.schedulers.base import Schedule
from dlcli.tasks.base import Loss, PerExample, Task

OVERLAPPING = ("cuda",)
"""Devices on which gradients travel while others are still computed. A CPU that sends them does not compute them."""
UNCHANGED = contextlib.nullcontext()


class StepResult(NamedTuple):
    """values: what to log by name ("loss", "gradient_norm", …), none of it read: device scalars, or a ``PerExample``.

    carry: streams' state.

    skipped: whether the parameters stayed because the loss or a gradient was not finite.
    """

    values: dict[str, Any]
    carry: tuple[Tensor, ...] | None
    skipped: bool = False


def networks_of(model: nn.Module, task: Task) -> dict[str, nn.Module]:
    """The model, and those of its children that the task trains separately, by name."""
    return {"model": model, **{name: model.get_submodule(name) for name in task.trains if name != "model"}}


def losses_of(model: nn.Module, task: Task, batch: Any) -> dict[str, float]:
    """The losses of a batch, by the name of the network, after a backward pass each. Changes no parameter."""
    losses = {}
    for loss in task.training_step(networks_of(model, task), batch):
        loss.value.backward()  # type: ignore[no-untyped-call]
        losses["loss" if loss.network == "model" else f"{loss.network}_loss"] = loss.value.item()
    model.zero_grad()
    return losses


class Stepper:
    """The optimizers, schedules, gradient scaler and averaged weights of one run, and the step that uses them."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizers: Mapping[str, Optimizer],
        schedules: Mapping[str, Schedule],
        device: torch.device,
        *,
        precision: str,
        compile: bool,
        clip_norm: float | None,
        clip_value: float | None,
        ema_decay: float | None,
        skip_nonfinite: bool,
        group: Group | None = None,
    ):
        self.model = model
        self.task = task
        self.optimizers = optimizers
        self.schedules = schedules
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.ema_decay = ema_decay
        self.group = group
        self.step_count = 0
        self.networks: dict[str, Any] = {
            name: torch.compile(network) if compile else network for name, network in networks_of(model, task).items()
        }
        self.training_networks = self.networks
        self.overlapped: Overlapped | None = None
        if group is not None and task.calls_model_only and device.type in OVERLAPPING:
            self.overlapped = Overlapped(self.networks["model"])
            self.training_networks = {"model": self.overlapped}
        self.averaged = copy.deepcopy(model).requires_grad_(False) if ema_decay is not None else None
        self.autocast = runtime.autocast(precision, device)
        self.scaler = {"scale": 2.0**16, "good_steps": 0} if precision == "fp16" else None
        self.guarded = skip_nonfinite or self.scaler is not None
        self.clips = clip_norm is not None or clip_value is not None

    @property
    def evaluation_networks(self) -> dict[str, Any]:
        """What evaluations use: the averaged weights if there are any."""
        return self.networks if self.averaged is None else {"model": self.averaged}

    def learning_rate(self) -> float:
        """The rate of the latest step, of the first network."""
        return next(iter(self.optimizers.values())).lr

    def run(
        self,
        batches: Sequence[Any],
        carry: tuple[Tensor, ...] | None,
        measure: bool,
        shares: Sequence[float] | None = None,
    ) -> StepResult:
        """One optimizer step per loss of the task, on the mean gradient over ``batches``.

        Args:
            batches: one batch, or several whose gradients are averaged (tasks with one network only).
            carry: the streams' state for a task that carries it.
            measure: also return the norm of the gradient (which costs time if nothing is clipped).
            shares: in a group of processes, the share of each batch's examples that this process has.
        """
        values: dict[str, Any] = {}
        self.summed: set[str] = set()
        skipped = False
        for position, batch in enumerate(batches):
            if carry is not None:
                batch = batch._replace(carry=carry)
            losses = self.task.training_step(self.training_networks, batch)
            last = position == len(batches) - 1
            weight = (1.0 if shares is None else shares[position]) / len(batches)
            with UNCHANGED if last or self.overlapped is None else self.overlapped.no_sync():
                while (loss := self._next(losses)) is not None:
                    if position == 0:
                        self.optimizers[loss.network].zero_grad()
                    self._backward(loss.value * weight if weight != 1 else loss.value)
                    self._collect(values, loss, weight, first=position == 0)
                    carry = loss.carry
                    if not last:
                        break
                    skipped |= not self._apply(loss.network, values, measure)
        self.step_count += 1
        if self.averaged is not None and not skipped:
            self._average()
        return StepResult(values, carry, skipped)

    def _next(self, losses: Iterator[Loss]) -> Loss | None:
        with self.autocast:
            loss = next(losses, None)
        if not torch.is_grad_enabled():
            raise RuntimeError(f"task {type(self.task).__name__} left gradients disabled when it yielded a loss")
        return loss

    def _backward(self, value: Tensor) -> None:
        if self.scaler is not None:
            value = value * self.scaler["scale"]
        value.backward()  # type: ignore[no-untyped-call]

    def _collect(self, values: dict[str, Any], loss: Loss, weight: float, *, first: bool) -> None:
        """Add up detached values: the losses of several networks by name, the parts of a batch as their mean.

        first: of the parts; of several losses of one network, the latest stays.
        """
        name = "loss" if loss.network == "model" else f"{loss.network}_loss"
        whole = weight == 1 and self.group is None  # else the parts are added up
        found = {name: loss.value, **loss.logs}
        if first and self.group is not None:
            self.summed -= set(found)
        for key, value in found.items():
            if whole:
                values[key] = value if isinstance(value, PerExample) else value.detach()
            else:
                part = value.mean() if isinstance(value, PerExample) else value.detach()
                values[key] = part * weight + (0.0 if first else values[key])

    def _apply(self, network: str, values: dict[str, Any], measure: bool) -> bool:
        """Clip, set the rate and step one network. False if it was skipped for a gradient that is not finite."""
        optimizer = self.optimizers[network]
        finite = True
        if measure or self.clips or self.guarded or self.group is not None:
            finite = self._treat(network, optimizer.parameters, values, measure)
        optimizer.lr = optimizer.base_lr * self.schedules[network].factor(self.step_count)
        if finite:
            optimizer.step()
        if self.scaler is not None:
            self._rescale(finite)
        return finite

    def _treat(self, network: str, parameters: list[Tensor], values: dict[str, Any], measure: bool) -> bool:
        """Sum the gradients over the processes, measure and clip them. Whether they are finite, if it counts."""
        norm = "gradient_norm" if network == "model" else f"{network}_gradient_norm"
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        if self.group is not None:
            mine = {name: value for name, value in values.items() if name not in self.summed}
            values.update(self.group.sum_gradients([] if self.overlapped is not None else parameters, mine))
            self.summed |= {*values, norm}
        if self.scaler is not None:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], self.scaler["scale"])
        finite = True
        if self.guarded or (measure and self.clip_norm is None):
            values[norm] = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.guarded:  # before clipping, which would hide an infinite gradient; waits for the device
            finite = bool(torch.isfinite(values[norm]))
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self.clip_value)
        if self.clip_norm is not None:
            values[norm] = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        return finite

    def _rescale(self, finite: bool) -> None:
        """Half precision's dynamic loss scale: half after an overflow, double after 2,000 steps without one."""
        assert self.scaler is not None
        self.scaler["good_steps"] = self.scaler["good_steps"] + 1 if finite else 0
        if not finite:
            self.scaler["scale"] /= 2
            if self.scaler["scale"] < 1:
                raise NonFiniteError(
                    "gradients are not finite at any loss scale of fp16; use trainer.precision=bf16 or another rate"
                )
        elif self.scaler["good_steps"] == 2000:
            self.scaler.update(scale=self.scaler["scale"] * 2, good_steps=0)

    @torch.no_grad()
    def weights_are_finite(self) -> bool:
        """Whether no parameter is NaN or infinite. Waits for the device."""
        norms = torch._foreach_norm(list(self.model.parameters()))
        return all(map(math.isfinite, torch.stack([norm.float() for norm in norms]).tolist()))

    @torch.no_grad()
    def _average(self) -> None:
        assert self.averaged is not None
        assert self.ema_decay is not None
        decay = min(self.ema_decay, (1 + self.step_count) / (10 + self.step_count))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)
        for kept, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """Everything of a step that a resumed run needs, by the names of the checkpoint."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scheduler": {name: schedule.state_dict() for name, schedule in self.schedules.items()},
        }
        if self.averaged is not None:
            state["ema"] = self.averaged.state_dict()
        if self.scaler is not None:
            state["scaler"] = dict(self.scaler)
        return state

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore what ``state_dict`` returned, at optimizer step ``step``."""
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizer"][name])
            self.schedules[name].load_state_dict(state["scheduler"][name])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["ema"])
        if self.scaler is not None:
            self.scaler.update(state["scaler"])
        self.step_count = step
        for name, optimizer in self.optimizers.items():
            optimizer.lr = optimizer.base_lr * self.schedules[name].factor(max(0, step - 1))
