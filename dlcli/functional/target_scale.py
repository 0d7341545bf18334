"""How the numbers to predict are changed for training, and the way back to their own unit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TargetScale(NamedTuple):
    """A model learns (t - mean) / deviation, where t is the target or, with ``log``, its natural logarithm."""

    mean: float
    deviation: float
    log: bool = False

    def undo(self, values: Tensor) -> Tensor:
        """Values of any shape, as a model predicts them -> in the targets' unit, float64."""
        values = values.double() * self.deviation + self.mean
        return values.exp() if self.log else values
