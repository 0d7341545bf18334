"""A part of CIFAR-10, compressed again as JPEG: for trials where the original cannot be had."""

from __future__ import annotations

from dlcli.data.download import fetch_all
from dlcli.data.image_folder import ImageFolder
from dlcli.hyperparameters import Augmentations, Count, Natural, Normalize, Probability
from dlcli.registry import DATA


@DATA.register("cifar10_jpg")
class Cifar10Jpeg(ImageFolder):
    """15,000 + 3,000 pictures of 32x32 in colour, read as ``data=image_folder`` reads its own."""

    def __init__(
        self,
        *,
        batch_size: Count,
        val_fraction: Probability,
        split_seed: Natural,
        normalize: Normalize,
        augmentation: Augmentations | None,
    ):
        (archive,), source = fetch_all("cifar10_jpg")
        super().__init__(
            path=str(archive),
            labels=None,
            size=32,
            resize="squash",
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
