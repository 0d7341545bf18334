"""A linear classifier on the encoder of the networks that learn without labels."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from dlcli.hyperparameters import Count, MinLen
from dlcli.layers.picture_encoder import PictureEncoder
from dlcli.registry import MODELS


@MODELS.register("encoder_classifier")
class EncoderClassifier(nn.Module):
    """The encoder of ``simclr`` and an output layer, so that ``init_from`` finds the features of such a run.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", section 4.2
    (fine-tuning with few labels).
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        stages: Annotated[list[tuple[Count, Count]], MinLen(1)],
    ):
        """
        Args:
            input_shape: (C, H, W) of one image.
            num_outputs: classes or targets.
            stages: (convolutions, their channels) of each stage of the encoder.

        Raises:
            ConfigError: the examples are no images.
        """
        super().__init__()
        self.encoder = PictureEncoder("encoder_classifier", input_shape, stages)
        self.output = nn.Linear(self.encoder.size, num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> the encoder's features (B, F)."""
        features: Tensor = self.encoder(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.output(self.encoder(images))
        return outputs
