"""No data: a function to minimise, and the noise of its gradient."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dlcli.data.base import DataModule, Order, generator
from dlcli.functional.objectives import OBJECTIVES
from dlcli.hyperparameters import Ge
from dlcli.registry import DATA
from dlcli.spec import DataSpec


class ObjectiveBatch(NamedTuple):
    """noise (1, D): what is added to the gradient. function: its name in ``dlcli.functional.objectives``."""

    noise: Tensor
    function: str


@DATA.register("objective")
class ObjectiveData(DataModule):
    """An epoch is one batch, and so one step. Source: d2l 12.2 "One-dimensional gradient descent", 12.4 (noise)."""

    provides: ClassVar[tuple[str, ...]] = ("input_shape",)
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("minimization",)}
    splits: tuple[str, ...] = ("train", "val")

    def __init__(
        self,
        *,
        function: Literal["square", "cosine", "cosh", "bowl", "ravine", "saddle"],
        noise: Annotated[float, Ge(0)],
    ):
        self.function = function
        self.noise = noise
        self.batch_size = 1
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr((function, noise)).encode()).hexdigest()
        self.device = torch.device("cpu")
        self.spec = DataSpec(input_shape=(OBJECTIVES[function].dimension,))

    def batches(self, split: str, *, order: Order, seed: int = 0, epoch: int = 0) -> list[ObjectiveBatch]:
        noise = torch.zeros(1, OBJECTIVES[self.function].dimension)
        if split == "train" and self.noise:
            noise = self.noise * torch.randn(noise.shape, generator=generator(seed, epoch))
        return [ObjectiveBatch(noise.to(self.device), self.function)]

    def to(self, device: torch.device) -> None:
        self.device = device

    def describe(self) -> dict[str, str]:
        return {"function": self.function, "dimension": str(OBJECTIVES[self.function].dimension), "source": self.source}
