"""The smallest generative adversarial network: two perceptrons."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from dlcli.hyperparameters import Activation, Count, PositiveFloat
from dlcli.layers.activations import activation as make_activation
from dlcli.registry import MODELS


@MODELS.register("gan_mlp")
class PerceptronGAN(nn.Module):
    """A perceptron that turns noise into examples, and one that tells them from the data's.

    Source: d2l 20.1 (a linear generator, a discriminator of 5 and 3 units); Goodfellow et al. 2014.
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("gan",)}

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        latent_size: Count,
        generator_sizes: list[Count],
        discriminator_sizes: list[Count],
        activation: Activation,
        output: Literal["linear", "tanh"],
        init_std: PositiveFloat,
    ):
        """
        Args:
            input_shape: of one example.
            latent_size: numbers of noise that an example is made of.
            generator_sizes, discriminator_sizes: units of the hidden layers.
            activation: the function after each hidden layer.
            output: after the generator's last layer: nothing, or tanh for numbers from -1 to 1.
            init_std: of the normal distribution that weights and biases begin with.
        """
        super().__init__()
        self.latent_size = latent_size
        self.output_range = (-1.0, 1.0) if output == "tanh" else None
        size = math.prod(input_shape)
        self.generator = perceptron([latent_size, *generator_sizes, size], activation)
        if output == "tanh":
            self.generator.append(nn.Tanh())
        self.generator.append(nn.Unflatten(1, input_shape))
        self.discriminator = nn.Sequential(
            nn.Flatten(), *perceptron([size, *discriminator_sizes, 1], activation), nn.Flatten(0)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=init_std)

    def forward(self, noise: Tensor) -> Tensor:
        """noise (B, latent_size) -> the discriminator's score (B,) of each example that is generated from it."""
        scores: Tensor = self.discriminator(self.generator(noise))
        return scores


def perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers from size to size, with the activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), make_activation(activation)]
    return nn.Sequential(*layers[:-1])
