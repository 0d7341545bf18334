"""Codes and features for people: their place in a plane, and what the examples behind them are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def names_of(batch: Any, label_names: Sequence[str] | None) -> list[str]:
    """What the examples of a batch are called: their class, where they have one, else their number."""
    labels = batch[1] if len(batch) > 1 else None
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        return [str(number) for number in range(len(batch[0]))]
    return [str(label_names[label] if label_names else label) for label in labels.tolist()]


def in_the_plane(codes: Tensor) -> Tensor:
    """Points (N, 2) for codes (N, D), N > 1, near each other where the codes are.

    Source: van der Maaten & Hinton 2008, "Visualizing Data using t-SNE"; DLFS chapter 7.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(codes) - 1) / 3)
    return torch.from_numpy(TSNE(perplexity=perplexity, random_state=0).fit_transform(codes.numpy()))
