"""The small sample of Kaggle's CIFAR-10 competition: numbered pictures, and a table with the label of each number.

Source: d2l 14.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dlcli.data.download import fetch_all
from dlcli.data.image_folder import ImageFolder, PictureInputs
from dlcli.data.picture_files import opened
from dlcli.hyperparameters import Augmentations, Count, Natural, Normalize, Probability
from dlcli.registry import DATA


@DATA.register("kaggle_cifar10_tiny")
class KaggleCifar10Tiny(ImageFolder):
    """100 pictures of 32x32 in colour, read as ``data=image_folder`` reads its own with a table of labels.

    What the competition tests is pictures without labels: ``dlcli predict`` writes a file to submit for them.
    """

    splits = ("train", "val")
    identity: ClassVar[str] = "id"
    submission: ClassVar[Mapping[str, str]] = {"label": "label"}

    def __init__(
        self,
        *,
        batch_size: Count,
        val_fraction: Probability,
        split_seed: Natural,
        normalize: Normalize,
        augmentation: Augmentations | None,
    ):
        (pictures, table), source = fetch_all("kaggle_cifar10_tiny")
        super().__init__(
            path=str(pictures),
            labels=str(opened(str(table)) / "trainLabels.csv"),
            size=32,
            resize="squash",
            channels=3,
            on_bad="skip",  # the table has the labels of all 50,000
            val_fraction=val_fraction,
            test_fraction=0.0,
            split_seed=split_seed,
            normalize=normalize,
            augmentation=augmentation,
            batch_size=batch_size,
        )
        self.source = source

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PictureInputs:
        """Pictures known by their numbers, as the competition wants them: 7 for 7.png."""
        return PictureInputs(path, preprocessing, numbered=True)
