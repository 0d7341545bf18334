"""One linear layer: linear regression, and softmax regression when its outputs are the scores of classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Init, Natural
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
        bias: bool,
        init: Init,
        weights: list[list[float]] | None,
        frozen_inputs: list[Natural],
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            bias: whether there is b.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.
            weights: W to begin with, instead of ``init``: a list for each output.
            frozen_inputs: inputs, counted from 0, whose weights stay as they are (GDL chapter 5).

        Raises:
            ConfigError: weights of another shape than (num_outputs, inputs), or a frozen input that is not there.
        """
        super().__init__()
        self.output = nn.Linear(math.prod(input_shape), num_outputs, bias=bias)
        initialise(self, init)
        if weights is not None:
            shape = tuple(self.output.weight.shape)
            if len(weights) != shape[0] or any(len(row) != shape[1] for row in weights):
                raise ConfigError(f"model.weights: expected {shape[0]} lists of {shape[1]} numbers for these data")
            with torch.no_grad():
                self.output.weight.copy_(torch.tensor(weights))
        if frozen_inputs:
            inputs = self.output.in_features
            if max(frozen_inputs) >= inputs:
                raise ConfigError(f"model.frozen_inputs={frozen_inputs}: expected 0 to {inputs - 1}")
            moving = torch.ones(inputs)
            moving[frozen_inputs] = 0.0
            self.register_buffer("moving", moving, persistent=False)
            self.output.weight.register_hook(lambda gradient: gradient * self.moving)  # type: ignore[no-untyped-call]

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.output(inputs.flatten(1))
        return outputs
