"""The multilayer perceptron."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Activation, Count, Init, PositiveFloat, Probability, Seed
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.initialisation import begin
from dlcli.registry import MODELS


@MODELS.register("mlp")
class MLP(nn.Module):
    """Linear layers with an activation and dropout after each but the last.

    Source: d2l 5.1, 5.2 and 5.6 (dropout); DLFS chapters 3 and 4; GDL chapters 6, 8 and 9.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        hidden_sizes: list[Count],
        activation: Activation,
        output_activation: Literal["sigmoid", "tanh"] | None,
        bias: bool,
        dropout: Probability,
        init: Init,
        init_range: list[PositiveFloat] | None,
        init_numpy_seed: Seed | None,
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            num_outputs: classes or targets.
            hidden_sizes: units of each hidden layer; an empty list leaves a linear model.
            activation: the function after each hidden layer.
            output_activation: the function after the last layer, for targets between its bounds; None for none.
            bias: whether the layers have biases.
            dropout: probability of zeroing a hidden unit while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.
            init_range: weights uniform in ± this instead, for all layers or for each.
            init_numpy_seed: draw those, or standard_normal ones, from NumPy's legacy generator, as the books do.

        Raises:
            ConfigError: ``init_numpy_seed`` with another rule, or not as many ranges as layers.
        """
        super().__init__()
        layers: list[nn.Module] = []
        size = math.prod(input_shape)
        for hidden_size in hidden_sizes:
            layers += [nn.Linear(size, hidden_size, bias=bias), make_activation(activation), nn.Dropout(dropout)]
            size = hidden_size
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(size, num_outputs, bias=bias)
        self.output_activation = make_activation(output_activation) if output_activation else nn.Identity()
        begin(self, init, init_range, init_numpy_seed)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> scores or predictions (B, num_outputs)."""
        hidden = self.hidden(inputs.flatten(1))  # (B, hidden_sizes[-1])
        outputs: Tensor = self.output_activation(self.output(hidden))
        return outputs
