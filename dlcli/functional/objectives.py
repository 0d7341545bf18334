"""Functions of one or two numbers on which optimizers can be watched.

Source: d2l 12.2 to 12.4 and 12.6 to 12.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Objective(NamedTuple):
    """function: points (…, dimension) -> values (…). low and high: the interval of each number that is drawn."""

    function: Callable[[Tensor], Tensor]
    dimension: int
    low: float
    high: float


OBJECTIVES: dict[str, Objective] = {
    "square": Objective(lambda x: x[..., 0].square(), 1, -11.0, 11.0),
    "cosine": Objective(lambda x: x[..., 0] * torch.cos(0.15 * math.pi * x[..., 0]), 1, -11.0, 28.0),
    "cosh": Objective(lambda x: torch.cosh(0.5 * x[..., 0]), 1, -11.0, 11.0),
    "bowl": Objective(lambda x: x[..., 0].square() + 2 * x[..., 1].square(), 2, -5.5, 3.0),
    "ravine": Objective(lambda x: 0.1 * x[..., 0].square() + 2 * x[..., 1].square(), 2, -5.5, 3.0),
    "saddle": Objective(lambda x: x[..., 0].square() - x[..., 1].square(), 2, -5.5, 5.5),
}
