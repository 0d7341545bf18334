"""The network of SimCLR: an encoder, and a projector that is used in training only."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from dlcli.hyperparameters import Count, MinLen
from dlcli.layers.picture_encoder import PictureEncoder
from dlcli.registry import MODELS


@MODELS.register("simclr")
class SimCLR(nn.Module):
    """The encoder's features are what is learned for later; the loss is taken on what the projector makes of them.

    The projector is a linear layer, a rectifier and another linear layer. Its outputs serve as embeddings or, in
    pretexts such as telling rotations, as scores of classes.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations".
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("contrastive", "pretext")}

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
        hidden_size: Count,
        embedding_size: Count,
    ):
        """
        Args:
            input_shape: (C, H, W) of one image.
            stages: (convolutions, their channels) of each stage of the encoder; the last channels are the features.
            hidden_size: units of the projector's hidden layer.
            embedding_size: numbers that it gives out.

        Raises:
            ConfigError: the examples are no images.
        """
        super().__init__()
        self.encoder = PictureEncoder("simclr", input_shape, stages)
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, embedding_size)
        )

    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> the encoder's features (B, F)."""
        features: Tensor = self.encoder(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> embeddings (B, embedding_size), any real numbers."""
        embeddings: Tensor = self.projector(self.encoder(images))
        return embeddings
