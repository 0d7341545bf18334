"""A group of processes that train one model together, each on its part of every batch (d2l section 13.5).

All processes hold the same parameters and compute the gradient of their own examples. The gradients are added up over
the processes, weighted so that the sum is the gradient of the whole batch, and every process takes the same step.

Out of scope: starting and watching the processes (``launch``), what they compute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError, DlcliError

BUCKET_BYTES = 25 << 20  # of gradients that travel together: large enough for full speed, small enough to overlap
READ_EVERY = 10  # exchanges between two looks at the wishes on a GPU, since a look waits for the device
T = TypeVar("T")


class LostError(DlcliError):
    """Another process of the group has ended, or does not answer."""


class Group:
    """This process's place in the group, and what the group does together.

    Every method but ``agree`` is called by all processes at the same point, or by none.

    Attributes:
        rank: the number of this process, from 0. size: how many there are. device: what this one computes on.
    """

    def __init__(self, device: torch.device, *, timeout: float, rank: int, size: int, store: Path | None = None):
        """
        Args:
            device: of this process.
            timeout: seconds to wait for the others before they count as lost.
            rank, size: place of this process, and number of all.
            store: a file, not there yet, where processes of this machine find each other; None: as the environment
                variables ``MASTER_ADDR`` and ``MASTER_PORT`` say.

        Raises:
            LostError: not all processes came in time.
        """
        self.rank, self.size, self.device = rank, size, device
        self.wishes = [False] * len(WISHES)  # of this process
        self.agreed = [0.0] * len(WISHES)  # of all, at the latest look
        self.exchanges = 0
        self._riding = torch.zeros(len(WISHES), device=device)  # the wishes, where the gradients are
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with self._reporting_losses():
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=timeout),
                store=None if store is None else distributed.FileStore(str(store), size),  # type: ignore[attr-defined]
                device_id=device if device.type == "cuda" else None,
            )

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def leave(self) -> None:
        """End the group."""
        distributed.destroy_process_group()

    # ------------------------------------------------------------------ parts of a batch

    def bounds(self, count: int) -> tuple[int, int]:
        """Which of ``count`` examples or streams are this process's: from the first number to before the second."""
        return self.rank * count // self.size, (self.rank + 1) * count // self.size

    def part(self, batch: Any) -> tuple[Any, float]:
        """This process's part of a batch (a NamedTuple of tensors (B, …)), and its share of the examples.

        Where a batch has fewer examples than there are processes, some of them compute one that is not theirs, with
        share 0.
        """
        count = len(batch[0])
        start, stop = self.bounds(count)
        share = (stop - start) / count
        if start == stop:
            start, stop = min(start, count - 1), min(start, count - 1) + 1
        fields = {name: None if value is None else value[start:stop] for name, value in batch._asdict().items()}
        return type(batch)(**fields), share

    def carry_part(self, carry: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """This process's streams of the state of all streams, (layers, B, hidden) each."""
        return tuple(tensor[:, slice(*self.bounds(tensor.shape[1]))].contiguous() for tensor in carry)

    def whole_carry(self, carry: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
        """The state of all streams, on the main process; None elsewhere."""
        parts = self.gather(None if carry is None else tuple(tensor.cpu() for tensor in carry))
        if parts is None or carry is None:
            return None
        return tuple(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))

    # ------------------------------------------------------------------ sums

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, on this process's device."""
        tensor = tensor.to(self.device, copy=True)
        with self._reporting_losses():
            distributed.all_reduce(tensor)
        return tensor

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add up the gradients over the processes, in place, and scalars beside them.

        The gradients lie one after another in a few long vectors, because one message of a megabyte is faster than a
        hundred small ones. The values and the wishes of ``agree`` ride at the end of the first.

        Args:
            parameters: with gradients, the same ones on every process; none if the gradients are sums already.
            values: scalars; returned as their sums.
        """
        names = list(values)
        riders = [*(values[name].detach().reshape(1) for name in names), self._riding]
        vectors: list[tuple[list[Tensor], Tensor]] = []
        for gradients in list(buckets([p.grad for p in parameters if p.grad is not None])) or [[]]:
            pieces = [gradient.reshape(-1) for gradient in gradients]
            if not vectors:
                kind = pieces[0].dtype if pieces else torch.float32
                pieces += [rider.to(self.device, kind) for rider in riders]
            vectors.append((gradients, torch.cat(pieces)))
        with self._reporting_losses():
            for work in [distributed.all_reduce(vector, async_op=True) for _, vector in vectors]:
                work.wait()
        for gradients, vector in vectors if parameters else []:
            sizes = [gradient.numel() for gradient in gradients]
            summed = torch.split(vector[: sum(sizes)], sizes)
            torch._foreach_copy_(gradients, [s.view_as(g) for s, g in zip(summed, gradients, strict=True)])
        rode = vectors[0][1][-len(names) - len(WISHES) :]
        self.exchanges += 1
        if self.device.type != "cuda" or self.exchanges % READ_EVERY == 0:
            self.agreed = rode[len(names) :].tolist()
        return {name: rode[index] for index, name in enumerate(names)}

    # ------------------------------------------------------------------ one mind

    def agree(self, wish: str, wanted: bool) -> bool:
        """Whether any process wanted this at the latest exchange of gradients: the same answer everywhere.

        What this process wants now is heard at the next exchange, so that agreeing costs no message of its own.
        """
        index = WISHES.index(wish)
        if wanted != self.wishes[index]:
            self.wishes[index] = wanted
            self._riding = torch.tensor(self.wishes, dtype=torch.float32, device=self.device)
        return self.agreed[index] > 0

    def broadcast(self, value: T) -> T:
        """The main process's value, which can be pickled."""
        held = [value]
        with self._reporting_losses():
            distributed.broadcast_object_list(held, device=torch.device("cpu"))
        return held[0]

    def gather(self, value: T) -> list[T] | None:
        """Every process's value (which can be pickled) by rank, on the main process; None elsewhere."""
        values: list[Any] | None = [None] * self.size if self.main else None
        with self._reporting_losses():
            distributed.gather_object(value, values)
        return values

    @torch.no_grad()
    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Set these tensors (parameters, buffers) to what they are on the main process."""
        with self._reporting_losses():
            for tensor in tensors:
                distributed.broadcast(tensor.data, 0)

    @contextlib.contextmanager
    def _reporting_losses(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            line = " ".join(str(error).split("\n")[0].split())[:200]
            raise LostError(f"another process ended or did not answer ({line})") from error


WISHES = ("SIGINT", "SIGTERM", "time")
"""What a process may want of all: to stop for a signal, or because the time is over."""


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one dtype, at most ``BUCKET_BYTES`` together unless one alone is larger."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or size + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def own_device(device: torch.device, local_rank: int, local_size: int) -> torch.device:
    """The device of one of ``local_size`` processes on this machine.

    Raises:
        ConfigError: more processes than GPUs, or a device that only one process can use.
    """
    if device.type == "cuda" and device.index is None:
        count = torch.cuda.device_count()
        if local_size > count:
            raise ConfigError(
                f"trainer.devices={local_size}: this machine has {count} GPU{'s' * (count != 1)}; "
                f"use trainer.devices={count} or trainer.device=cpu"
            )
        return torch.device("cuda", local_rank)
    if device.type != "cpu":
        raise ConfigError(
            f"trainer.device={device} is a single device, and trainer.devices={local_size}; "
            "use trainer.devices=1, or trainer.device=cuda or cpu"
        )
    return device


# ---------------------------------------------------------------------- batch normalisation over all processes


class _Sum(torch.autograd.Function):
    """The sum over the processes. Its gradient is the sum of the gradients: every process uses the sum."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class SyncBatchNorm(nn.Module):
    """Batch normalisation (d2l section 8.5) whose mean and variance are those of the whole batch, not of one part.

    Takes over the parameters and buffers of a layer of torch's, under the same names. Works on the CPU too, which
    torch's own does not. While evaluating it is an ordinary batch normalisation.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, layer: Any):
        super().__init__()
        self.eps, self.momentum = layer.eps, layer.momentum
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(layer, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, C, …) -> the same shape."""
        if not self.training and self.running_mean is not None:
            return F.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps)
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        count = inputs.new_tensor([inputs.numel() / inputs.shape[1]])
        sums: Tensor = cast(Any, _Sum).apply(torch.cat([inputs.sum(axes), count]))  # (C + 1,)
        count, mean = sums[-1], sums[:-1] / sums[-1]
        shape = [1, -1, *([1] * (inputs.ndim - 2))]
        centred = inputs - mean.view(shape)
        variance = cast(Any, _Sum).apply(centred.square().sum(axes)) / count  # (C,)
        if self.training and self.running_mean is not None:
            self._track(mean.detach(), variance.detach() * count.detach() / (count.detach() - 1))
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None and self.bias is not None:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages, the variance without bias, as torch does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def synchronise_batch_norm(module: nn.Module) -> None:
    """Replace every batch normalisation inside ``module`` by one over all processes."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, SyncBatchNorm(child))
        else:
            synchronise_batch_norm(child)
