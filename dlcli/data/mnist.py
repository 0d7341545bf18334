"""MNIST and Fashion-MNIST, read from their IDX files.

Sources: Y. LeCun et al., "Gradient-based learning applied to document recognition" (1998); H. Xiao, K. Rasul,
R. Vollgraf, "Fashion-MNIST" (2017); d2l 4.2; DLFS chapter 4; GDL chapter 8.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dlcli.data.base import permutation
from dlcli.data.download import fetch_all
from dlcli.data.idx import read_idx
from dlcli.data.images import ImageData
from dlcli.data.labels import only_classes, with_noise
from dlcli.data.sources import SOURCES
from dlcli.data.splits import divide
from dlcli.errors import ConfigError, DataError
from dlcli.hyperparameters import Augmentations, Count, Folds, Natural, Probability, Seed
from dlcli.registry import DATA

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = [
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip

Splits = dict[str, tuple[Tensor, Tensor]]


def load(
    name: str, classes: int, train_size: int | None, val_size: int, split_seed: int, folds: int | None, fold: int
) -> tuple[Splits, str]:
    """Pictures (N, 1, 28, 28) uint8 and labels (N,) int64 of each split, and where the files came from.

    ``val_size`` of the 60,000 training pictures, drawn by ``split_seed``, are the validation part. With ``val_size=0``
    all of them are trained on, and the test pictures are the validation part too, as the books have it. With ``folds``
    the training pictures are divided into so many parts, of which one validates. ``train_size`` keeps the first so many
    of the training part.

    Raises:
        DataError: a file is damaged, or pictures and labels do not belong together.
        ConfigError: ``val_size`` leaves nothing to train on, or less than ``train_size``; or there is no such fold.
    """
    paths, source = fetch_all(name)
    images = read_idx(paths[0], 3).unsqueeze(1)  # (N, 1, H, W)
    labels = read_labels(paths[1], len(images), classes)  # (N,)
    test = read_idx(paths[2], 3).unsqueeze(1)
    tested = test, read_labels(paths[3], len(test), classes)
    if val_size >= len(images):
        raise ConfigError(f"data.val_size={val_size}: expected less than the {len(images):,} training pictures")
    order = permutation(len(images), split_seed, 0)
    if folds is not None:
        parts = divide(order.numpy(), 0.0, 0.0, folds, fold)
        held_out, kept = (torch.from_numpy(parts[split]) for split in ("val", "train"))
    elif fold:
        raise ConfigError(f"data.fold={fold}: say with data.folds how many parts there are")
    else:
        held_out, kept = order[:val_size], order[val_size:]
    if train_size is not None and train_size > len(kept):
        raise ConfigError(f"data.train_size={train_size}: expected at most {len(kept):,}")
    held_out, kept = held_out.sort().values, kept.sort().values[:train_size]
    validates = (images[held_out], labels[held_out]) if len(held_out) else tested
    return {"train": (images[kept], labels[kept]), "val": validates, "test": tested}, source


def read_labels(file: Path, count: int, classes: int) -> Tensor:
    """The labels (count,) int64 of an IDX file.

    Raises:
        DataError: another number of labels, or a label that is no class.
    """
    labels = read_idx(file, 1).long()
    if len(labels) != count:
        raise DataError(f"{file}: {len(labels):,} labels for {count:,} pictures")
    if labels.max() >= classes:
        index = int((labels >= classes).nonzero()[0])
        raise DataError(f"{file}: label {int(labels[index])} of picture {index}; expected 0 to {classes - 1}")
    return labels


def fingerprint(name: str) -> str:
    """The SHA-256 over the checksums of the data set's files."""
    return hashlib.sha256("".join(file.sha256 for file in SOURCES[name].files).encode()).hexdigest()


class IdxPictures(ImageData):
    """What MNIST and Fashion-MNIST have in common."""

    dataset: ClassVar[str]
    names: ClassVar[list[str]]

    def __init__(
        self,
        *,
        batch_size: Count,
        train_size: Count | None,
        val_size: Natural,
        split_seed: Seed,
        folds: Folds | None,
        fold: Natural,
        classes: list[Natural] | None,
        label_noise: Probability,
        normalize: bool | Literal["symmetric"],
        resize: Count | None,
        augmentation: Augmentations | None,
    ):
        splits, self.source = load(self.dataset, len(self.names), train_size, val_size, split_seed, folds, fold)
        splits, names = only_classes(splits, self.names, classes)
        images, labels = splits["train"]
        splits["train"] = images, with_noise(labels, len(names), label_noise, split_seed)
        self.fingerprint = fingerprint(self.dataset)
        super().__init__(
            splits, names, 255, batch_size=batch_size, normalize=normalize, resize=resize, augmentation=augmentation
        )


@DATA.register("mnist")
class Mnist(IdxPictures):
    """Handwritten digits."""

    dataset = "mnist"
    names = DIGITS


@DATA.register("fashion_mnist")
class FashionMnist(IdxPictures):
    """Pictures of clothes."""

    dataset = "fashion_mnist"
    names = CLOTHES
