"""One linear layer: linear regression, and softmax regression when its outputs are the scores of classes."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dlcli.hyperparameters import Init
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("linear")
class LinearModel(nn.Module):
    """``outputs = flatten(inputs) W' + b``.

    Source: d2l 3.5 (linear regression) and 4.5 (softmax regression); DLFS chapter 2; GDL chapters 3 to 5.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        init: Init,
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.
        """
        super().__init__()
        self.output = nn.Linear(math.prod(input_shape), num_outputs)
        initialise(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.output(inputs.flatten(1))
        return outputs
