"""The networks of momentum contrast: those of SimCLR twice, where the second follows the first slowly."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Probability
from dlcli.models.simclr import SimCLR
from dlcli.registry import MODELS


@MODELS.register("momentum_contrast")
class MomentumContrast(SimCLR):
    """The keys that embeddings are compared with come from a copy of the network, the moving average of its weights.

    As in the third version, the other pictures of the batch are the negatives; there is no queue of older keys.

    Source: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning"; Chen, Xie, He 2021, "An
    Empirical Study of Training Self-Supervised Vision Transformers" (without the queue).
    """

    def __init__(self, *, momentum: Probability, **options: Any):
        """
        Args:
            momentum: share of the copy's weights that each step keeps.
        """
        super().__init__(**options)
        self.momentum = momentum
        self.key_encoder: nn.Module = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_projector: nn.Module = copy.deepcopy(self.projector).requires_grad_(False)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) float -> the copy's embeddings (B, embedding_size), without gradients."""
        keys: Tensor = self.key_projector(self.key_encoder(images))
        return keys

    @torch.no_grad()
    def update_keys(self) -> None:
        """Move the copy's weights by 1 - momentum of the way; its batch normalisations count their own statistics."""
        for copied, own in ((self.key_encoder, self.encoder), (self.key_projector, self.projector)):
            torch._foreach_lerp_(list(copied.parameters()), list(own.parameters()), 1 - self.momentum)
