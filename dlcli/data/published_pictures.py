"""Pictures that were published in two parts, one to train on and one to test: MNIST, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from dlcli.data.base import permutation
from dlcli.data.download import fetch_all
from dlcli.data.images import ImageData
from dlcli.data.labels import only_classes, shifted, some_of_each_class, with_noise
from dlcli.data.sources import fingerprint
from dlcli.data.splits import check_fold, divide
from dlcli.errors import ConfigError
from dlcli.hyperparameters import Augmentations, Chance, Count, Folds, Natural, Normalize, Probability, Seed

Labelled = tuple[Tensor, Tensor]
"""Pictures (N, C, H, W) uint8 and their labels (N,) int64."""


class PublishedPictures(ImageData):
    """What such data sets have in common; each says its name, those of its classes, and how its files are read.

    Class attributes, read from the source before anything is imported:
        published_to_train: pictures in the published training part.
    """

    dataset: ClassVar[str]
    names: ClassVar[list[str]]
    published_to_train: ClassVar[int]

    def __init__(
        self,
        *,
        batch_size: Count,
        train_size: Count | None,
        per_class: Count | None,
        val_size: Natural,
        split_seed: Seed,
        folds: Folds | None,
        fold: Natural,
        classes: list[Natural] | None,
        class_shares: list[Chance] | None,
        brightness_shift: float,
        label_noise: Probability,
        normalize: Normalize,
        resize: Count | None,
        augmentation: Augmentations | None,
    ):
        """
        Args:
            train_size: only the first so many of the pictures that train.
            per_class: only so many training pictures of each class, drawn by ``split_seed``.
            val_size: so many of the training pictures, drawn by ``split_seed``, validate. With 0 all are trained on,
                and the test pictures validate too, as the books have it.
            folds: divide the training pictures into so many parts instead, of which number ``fold`` validates;
                ``val_size`` counts for nothing then.
            classes: only these.
            class_shares: share of the training pictures of each class that there are; the test keeps all.
            brightness_shift: above 0 bright training pictures are rare, below 0 dark ones; the test has them as ever.
            label_noise: share of the training labels that are wrong on purpose.

        Raises:
            DataError: a file is damaged, or pictures and labels do not belong together.
            ConfigError: nothing left to train on, or less than ``train_size`` or ``per_class``; no such fold or class;
                not one share for each class.
        """
        paths, self.source = fetch_all(self.dataset)
        train, test = self.read(paths, len(self.names))
        if class_shares is not None or brightness_shift:
            train = shifted(*train, class_shares, brightness_shift, split_seed)
        splits = held_out(train, test, train_size, val_size, split_seed, folds, fold)
        splits, names = only_classes(splits, self.names, classes)
        images, labels = some_of_each_class(*splits["train"], per_class, split_seed)
        splits["train"] = images, with_noise(labels, len(names), label_noise, split_seed)
        self.fingerprint = fingerprint(self.dataset)
        super().__init__(
            splits, names, 255, batch_size=batch_size, normalize=normalize, resize=resize, augmentation=augmentation
        )

    @staticmethod
    def read(paths: list[Path], classes: int) -> tuple[Labelled, Labelled]:
        """The training and the test part in the files.

        Raises:
            DataError: a file is damaged, or pictures and labels do not belong together.
        """
        raise NotImplementedError


def held_out(
    train: Labelled,
    test: Labelled,
    train_size: int | None,
    val_size: int,
    split_seed: int,
    folds: int | None,
    fold: int,
) -> dict[str, Labelled]:
    """The parts that train, validate and test, as the options of ``PublishedPictures`` say.

    Raises:
        ConfigError: nothing left to train on, or less than ``train_size``; no such fold.
    """
    images, labels = train
    check_fold(folds, fold)
    order = permutation(len(images), split_seed, 0)
    if folds is not None:
        parts = divide(order.numpy(), 0.0, 0.0, folds, fold)
        validating, kept = (torch.from_numpy(parts[split]) for split in ("val", "train"))
    elif val_size >= len(images):
        raise ConfigError(f"data.val_size={val_size}: expected less than the {len(images):,} training pictures")
    else:
        validating, kept = order[:val_size], order[val_size:]
    if train_size is not None and train_size > len(kept):
        raise ConfigError(f"data.train_size={train_size}: expected at most {len(kept):,}")
    validating, kept = validating.sort().values, kept.sort().values[:train_size]
    validates = (images[validating], labels[validating]) if len(validating) else test
    return {"train": (images[kept], labels[kept]), "val": validates, "test": test}
