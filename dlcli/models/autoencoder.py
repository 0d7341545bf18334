"""The dense autoencoder."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Activation, Count, Init
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.initialisation import initialise
from dlcli.registry import MODELS


@MODELS.register("autoencoder")
class Autoencoder(nn.Module):
    """Linear layers down to a short code, and the same sizes back up to the input's shape.

    Source: DLFS chapter 7 (the idea, and the convolutional one: ``conv_autoencoder``).
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("reconstruction",)}

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        hidden_sizes: list[Count],
        code_size: Count,
        activation: Activation,
        output_activation: Literal["sigmoid", "tanh"] | None,
        init: Init,
    ):
        """
        Args:
            input_shape: one example without the batch axis.
            hidden_sizes: units of the layers on the way to the code; none leave a linear map, as in the analysis of
                principal components.
            code_size: numbers that an example is squeezed into.
            activation: the function after each layer but those that make the code and the output.
            output_activation: the function after the last layer, for inputs between its bounds; None for none.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.
        """
        super().__init__()
        self.code_size = code_size
        sizes = [math.prod(input_shape), *hidden_sizes, code_size]
        self.encoder = nn.Sequential(nn.Flatten(), *_dense(sizes, activation))
        last = [make_activation(output_activation)] if output_activation else []
        self.decoder = nn.Sequential(*_dense(sizes[::-1], activation), *last, nn.Unflatten(1, input_shape))
        initialise(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, *input_shape) float -> their reconstructions, the same shape."""
        reconstructions: Tensor = self.decoder(self.encoder(inputs))
        return reconstructions


def _dense(sizes: list[int], activation: str) -> list[nn.Module]:
    """Linear layers between these sizes, with the activation between the layers."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), make_activation(activation)]
    return layers[:-1]
