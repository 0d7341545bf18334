"""Photographs with and without hot dogs, for fine-tuning.

Source: d2l 14.2, with a part of another collection of such photographs (see ``dlcli data info hotdog``).
"""

from __future__ import annotations

from typing import Literal

from dlcli.data.download import fetch_folder
from dlcli.data.image_folder import ImageFolder
from dlcli.hyperparameters import Augmentations, Count, Natural, Normalize, Probability
from dlcli.registry import DATA


@DATA.register("hotdog")
class Hotdog(ImageFolder):
    """70 + 70 photographs to train on and 30 + 30 to test, read as ``data=image_folder`` reads its own."""

    def __init__(
        self,
        *,
        batch_size: Count,
        size: Count,
        resize: Literal["squash", "crop", "pad"],
        val_fraction: Probability,
        split_seed: Natural,
        normalize: Normalize,
        augmentation: Augmentations | None,
    ):
        folder, source = fetch_folder("hotdog")
        super().__init__(
            path=str(folder),
            labels=None,
            size=size,
            resize=resize,
            channels=3,
            on_bad="fail",
            val_fraction=val_fraction,
            test_fraction=0.0,
            split_seed=split_seed,
            normalize=normalize,
            augmentation=augmentation,
            batch_size=batch_size,
        )
        self.source = source
