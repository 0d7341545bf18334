"""MNIST and Fashion-MNIST, read from their IDX files.

Sources: Y. LeCun et al., "Gradient-based learning applied to document recognition" (1998); H. Xiao, K. Rasul,
R. Vollgraf, "Fashion-MNIST" (2017); d2l 4.2; DLFS chapter 4; GDL chapter 8.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dlcli.data.idx import read_idx
from dlcli.data.published_pictures import Labelled, PublishedPictures
from dlcli.errors import DataError
from dlcli.registry import DATA

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = [
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip


def read_idx_files(paths: list[Path], classes: int) -> tuple[Labelled, Labelled]:
    """Training and test part from four files: pictures and labels of each."""
    images, tested = read_idx(paths[0], 3).unsqueeze(1), read_idx(paths[2], 3).unsqueeze(1)  # (N, 1, H, W)
    train = images, read_labels(paths[1], len(images), classes)
    return train, (tested, read_labels(paths[3], len(tested), classes))


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


@DATA.register("mnist")
class Mnist(PublishedPictures):
    """Handwritten digits."""

    dataset = "mnist"
    published_to_train = 60_000
    names = DIGITS
    read = staticmethod(read_idx_files)


@DATA.register("fashion_mnist")
class FashionMnist(PublishedPictures):
    """Pictures of clothes."""

    dataset = "fashion_mnist"
    published_to_train = 60_000
    names = CLOTHES
    read = staticmethod(read_idx_files)
