"""The pictures that a classifier is most certain about, and wrong (d2l 4.3, exercise; DLFS chapter 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcli.functional.pictures import captioned
from dlcli.metrics.base import Metric

SHOWN = 25


class MostConfidentMistakes(Metric):
    """Keeps the ``SHOWN`` wrongly classified images with the highest probabilities, on the images' device.

    Nothing is added up over processes: the pictures are those of the main one's share. Other inputs than images are
    left out.
    """

    def __init__(self, label_names: Sequence[str]):
        self.state = torch.zeros(0, dtype=torch.float64)
        self.label_names = label_names
        self.kept: tuple[Tensor, ...] | None = None  # images, certainty (-1 for right ones), labels, predicted classes

    def update(self, images: Tensor, probabilities: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """images (B, C, H, W); probabilities (B, num_classes); labels (B,) int64."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            return
        certainty, predicted = probabilities.max(1)
        batch = (images, torch.where(predicted == labels, -1.0, certainty), labels, predicted)
        rows = batch if self.kept is None else tuple(map(torch.cat, zip(self.kept, batch, strict=True)))
        best = rows[1].topk(min(SHOWN, len(rows[1]))).indices
        self.kept = tuple(values.index_select(0, best) for values in rows)

    def compute(self) -> Tensor:
        """A picture (3, H, W) uint8 with the true class, the predicted one and its probability below each image; an
        empty tensor where nothing is wrong."""
        if self.kept is None:
            return torch.zeros(0)
        images, certainty, labels, predicted = (values.cpu() for values in self.kept)
        wrong = certainty >= 0
        if not wrong.any():
            return torch.zeros(0)
        captions = [
            (self.label_names[label], f"{self.label_names[guess]}? {share:.0%}")
            for label, guess, share in zip(
                labels[wrong].tolist(), predicted[wrong].tolist(), certainty[wrong].tolist(), strict=True
            )
        ]
        return captioned(images[wrong], captions)
