"""A point that moves: the only parameters of a function that is minimised."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import MinLen
from dlcli.registry import MODELS

TRAIL = 1000  # positions that are remembered


@MODELS.register("point")
class Point(nn.Module):
    """Source: d2l 12.3.1 "One-Dimensional Gradient Descent" and 12.3.2 (two dimensions)."""

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("minimization",)}
    trail: Tensor
    visited: Tensor

    def __init__(self, *, input_shape: tuple[int, ...], start: Annotated[list[float], MinLen(1)]):
        """
        Args:
            input_shape: the numbers of the function, (D,).
            start: where it begins; of a longer list, the first D numbers.

        Raises:
            ConfigError: fewer numbers than the function has.
        """
        super().__init__()
        if len(start) < math.prod(input_shape):
            raise ConfigError(f"model.start={start}: the function has {math.prod(input_shape)} numbers; give as many")
        self.point = nn.Parameter(torch.tensor(start[: math.prod(input_shape)], dtype=torch.float32))
        self.register_buffer("trail", torch.full((TRAIL, math.prod(input_shape)), math.nan))
        self.register_buffer("visited", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, D), of which only the number B is used -> the point, B times (B, D)."""
        return self.point.expand(len(inputs), -1)

    @torch.no_grad()
    def remember(self, position: Tensor) -> None:
        """Write a position (D,) down for the picture of the way."""
        self.trail[self.visited % TRAIL] = position
        self.visited += 1
