"""Bag of words: each word of a text has a score for each class, whatever its place."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dlcli.registry import MODELS


@MODELS.register("bag_of_words")
class BagOfWords(nn.Module):
    """The sum of an embedding over the words of a text, (B, D); of two classes D = 1, else one number for each class.

    The one number z of two classes stands for the second class: the scores are (0, z), and their softmax is
    (1 - sigmoid(z), sigmoid(z)). Word 0 is padding and counts for nothing.

    Source: GDL chapter 15 (an embedding of one number for each word, summed up, and a sigmoid).
    """

    def __init__(self, *, vocab_size: int, num_outputs: int, output_activation: Literal["softmax"] | None):
        """
        Args:
            vocab_size: words, with the padding.
            num_outputs: classes.
            output_activation: "softmax" for squared errors on probabilities; None gives scores.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 1 if num_outputs == 2 else num_outputs)
        nn.init.normal_(self.embedding.weight, std=0.01)
        self.softmax = output_activation == "softmax"

    def forward(self, words: Tensor) -> Tensor:
        """words (B, W) int64 -> (B, num_outputs): scores, any real number, or probabilities."""
        present = (words != 0).unsqueeze(-1)  # (B, W, 1)
        scores: Tensor = (self.embedding(words) * present).sum(1)  # (B, D)
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], 1)
        return scores.softmax(1) if self.softmax else scores
