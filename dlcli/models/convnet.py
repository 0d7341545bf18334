"""A plain convolutional network without pooling."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Activation, Count, Init, Natural, PositiveFloat, Probability, Seed
from dlcli.layers.activations import activation as make_activation
from dlcli.layers.initialisation import begin
from dlcli.registry import MODELS


@MODELS.register("convnet")
class ConvNet(nn.Module):
    """Convolutions, then linear layers, with an activation and dropout after each but the last.

    Source: DLFS chapters 5 and 7; GDL chapter 10.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        channels: list[Count],
        kernel_size: Count,
        padding: Natural,
        hidden_sizes: list[Count],
        activation: Activation,
        bias: bool,
        dropout: Probability,
        init: Init,
        init_range: list[PositiveFloat] | None,
        init_numpy_seed: Seed | None,
    ):
        """
        Args:
            input_shape: (C, H, W) of one image.
            num_outputs: classes or targets.
            channels: of each convolution.
            kernel_size: the side of every window.
            padding: zeros around each side before every convolution.
            hidden_sizes: units of each linear layer before the last.
            activation: the function after each layer but the last.
            bias: whether the layers have biases.
            dropout: probability of zeroing an activation while training.
            init: the rule of ``dlcli.layers.initialisation`` for the weights.
            init_range: weights uniform in ± this instead, for all layers or for each.
            init_numpy_seed: draw those, or standard_normal ones, from NumPy's legacy generator.

        Raises:
            ConfigError: images that are smaller than the windows, or no images.
        """
        super().__init__()
        if len(input_shape) != 3:
            raise ConfigError(f"model 'convnet' needs images (C, H, W), not inputs of shape {input_shape}")
        depth, height, width = input_shape
        layers: list[nn.Module] = []
        for count in channels:
            layers += [nn.Conv2d(depth, count, kernel_size, padding=padding, bias=bias), make_activation(activation)]
            layers.append(nn.Dropout(dropout))
            depth, height, width = count, height + 2 * padding - kernel_size + 1, width + 2 * padding - kernel_size + 1
        if min(height, width) < 1:
            raise ConfigError(
                f"model.kernel_size={kernel_size}: {len(channels)} convolutions leave nothing of images of "
                f"{input_shape[1]}x{input_shape[2]}; use a smaller one or more model.padding"
            )
        layers.append(nn.Flatten())
        size = math.prod((depth, height, width))
        for hidden_size in hidden_sizes:
            layers += [nn.Linear(size, hidden_size, bias=bias), make_activation(activation), nn.Dropout(dropout)]
            size = hidden_size
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(size, num_outputs, bias=bias)
        begin(self, init, init_range, init_numpy_seed)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.output(self.hidden(images))
        return outputs
