"""Four small networks that show how modules are built from modules.

Source: d2l chapter 6 "Builders' Guide": 6.1 (modules), 6.2 (tied parameters), 6.5 (custom layers).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Count
from dlcli.registry import MODELS


@MODELS.register("nested_mlp")
class NestedMLP(nn.Module):
    """Sequences within sequences: the names of parameters are paths, such as ``body.0.2.weight``.

    Source: d2l 6.1.4 (NestMLP).
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], num_outputs: int, hidden_sizes: tuple[Count, Count], output_size: Count
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            hidden_sizes: of the two rectified layers inside.
            output_size: of the linear layer after these, before the last one.
        """
        super().__init__()
        first, second = hidden_sizes
        inner = nn.Sequential(nn.Linear(math.prod(input_shape), first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
        self.body = nn.Sequential(inner, nn.Linear(second, output_size))
        self.output = nn.Linear(output_size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) -> (B, num_outputs)."""
        outputs: Tensor = self.output(self.body(inputs.flatten(1)))
        return outputs


@MODELS.register("fixed_hidden_mlp")
class FixedHiddenMLP(nn.Module):
    """A layer is used twice, with random weights that are never learned between its uses.

    The fixed weights are a buffer: saved and moved with the model, but no parameter. The book halves all that comes out
    until its absolute values add up to at most 1, and returns the sum; here this is done for each example, whose row
    goes on to a last layer, so that there is something to train. Source: d2l 6.1.3 (FixedHiddenMLP).
    """

    fixed: Tensor

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, hidden_size: Count):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            hidden_size: units of the shared layer, and sides of the fixed matrix.
        """
        super().__init__()
        self.register_buffer("fixed", torch.rand(hidden_size, hidden_size))
        self.first = nn.Linear(math.prod(input_shape), hidden_size)
        self.shared = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) -> (B, num_outputs)."""
        hidden = self.shared(self.first(inputs.flatten(1)))  # (B, hidden_size)
        hidden = self.shared(torch.relu(hidden @ self.fixed + 1))
        size = hidden.abs().sum(1, keepdim=True)
        halvings = size.detach().clamp(min=1).log2().ceil()
        outputs: Tensor = self.output(hidden * 0.5**halvings)
        return outputs


class Centered(nn.Module):
    """Subtracts the mean of each example: a layer without parameters. Source: d2l 6.5.1 (CenteredLayer)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, N) -> the same, where every row has the mean 0."""
        return inputs - inputs.mean(1, keepdim=True)


@MODELS.register("centered_mlp")
class CenteredMLP(nn.Module):
    """A hidden layer whose outputs are centred, and one after it. Source: d2l 6.5.1, 6.5.2 (custom layers)."""

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, hidden_size: Count):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            hidden_size: numbers that are centred.
        """
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(math.prod(input_shape), hidden_size), Centered())
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) -> (B, num_outputs)."""
        outputs: Tensor = self.output(torch.relu(self.hidden(inputs.flatten(1))))
        return outputs


@MODELS.register("tied_mlp")
class TiedMLP(nn.Module):
    """The same hidden layer several times: its gradients are the sums over its uses. Source: d2l 6.2.2."""

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, hidden_size: Count, uses: Count):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            hidden_size: units of the shared layer.
            uses: how often it stands in the network.
        """
        super().__init__()
        shared = nn.Linear(hidden_size, hidden_size)
        layers: list[nn.Module] = [nn.Linear(math.prod(input_shape), hidden_size), nn.ReLU()]
        for _ in range(uses):
            layers += [shared, nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_size, num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) -> (B, num_outputs)."""
        outputs: Tensor = self.layers(inputs.flatten(1))
        return outputs
