"""A small convolutional network from pictures to features, for learning without labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dlcli.layers.convolution import channels_of, convolution, pooled


class PictureEncoder(nn.Module):
    """Stages of 3×3 convolutions with batch normalisation and rectifiers, of which the first halves the picture; then
    the mean over all pixels.

    ``size`` is the number of features, the channels of the last stage.
    """

    def __init__(self, model: str, input_shape: tuple[int, ...], stages: Sequence[tuple[int, int]]):
        """
        Args:
            model: what people call the network, for messages.
            input_shape: (C, H, W), of any size.
            stages: (convolutions, their channels) of each stage.

        Raises:
            ConfigError: the examples are no images.
        """
        super().__init__()
        inputs = channels_of(model, input_shape)
        self.stages = nn.Sequential()
        for depth, channels in stages:
            layers = [convolution(inputs, channels, 3, stride=2)]
            layers += [convolution(channels, channels, 3) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*layers))
            inputs = channels
        self.size = inputs

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> features (B, size), none of them negative."""
        return pooled(self.stages(images))
