"""An autoencoder whose code is that of SimCLR's encoder, to compare what the two learn."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from dlcli.hyperparameters import Count, MinLen
from dlcli.layers.picture_encoder import PictureEncoder
from dlcli.registry import MODELS

BLOCK = 4  # pixels on a side that each place of the decoder draws


@MODELS.register("pooled_autoencoder")
class PooledAutoencoder(nn.Module):
    """The encoder of ``simclr``, whose features hold no places, and a decoder that draws blocks of 4×4 pixels.

    Source: DLFS chapter 7 (autoencoders); Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an
    Efficient Sub-Pixel Convolutional Neural Network" (blocks of pixels from channels).
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("pretext", "reconstruction")}

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
        channels: Count,
    ):
        """
        Args:
            input_shape: (C, H, W) of one image.
            stages: (convolutions, their channels) of each stage of the encoder; the last channels are the code.
            channels: of the decoder.

        Raises:
            ConfigError: the examples are no images.
        """
        super().__init__()
        self.encoder = PictureEncoder("pooled_autoencoder", input_shape, stages)
        self.code_size = self.encoder.size
        depth, self.height, self.width = input_shape
        rows, columns = -(-self.height // BLOCK), -(-self.width // BLOCK)
        self.decoder = nn.Sequential(
            nn.Linear(self.code_size, channels * rows * columns),
            nn.ReLU(),
            nn.Unflatten(1, (channels, rows, columns)),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, depth * BLOCK**2, 3, padding=1),
            nn.PixelShuffle(BLOCK),
        )

    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> the code (B, F), the encoder's features."""
        code: Tensor = self.encoder(images)
        return code

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> pictures of the same shape, any real numbers."""
        pictures: Tensor = self.decoder(self.encoder(images))
        return pictures[:, :, : self.height, : self.width]
