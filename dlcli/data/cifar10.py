"""CIFAR-10, read from its archive of binary files (the other one, of Python pickles, would have to be executed).

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009); d2l 14.1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dlcli.data.picture_files import opened
from dlcli.data.published_pictures import Labelled, PublishedPictures
from dlcli.errors import DataError
from dlcli.registry import DATA

FOLDER = "cifar-10-batches-bin"
TRAINING = [f"data_batch_{number}.bin" for number in range(1, 6)]
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green and blue, row by row
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@DATA.register("cifar10")
class Cifar10(PublishedPictures):
    """Small pictures in colour of animals and vehicles."""

    dataset = "cifar10"
    published_to_train = 50_000
    names = CIFAR10_CLASSES

    @staticmethod
    def read(paths: list[Path], classes: int) -> tuple[Labelled, Labelled]:
        """The five training files and the test file of the archive, which is unpacked into the cache once."""
        folder = opened(paths[0]) / FOLDER
        parts = [read_records(folder / name, classes) for name in TRAINING]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return (images, labels), read_records(folder / "test_batch.bin", classes)


def read_records(file: Path, classes: int) -> Labelled:
    """The pictures and labels of one binary file.

    Raises:
        DataError: no such file, not whole records, or a label that is no class.
    """
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    if len(content) % RECORD or not len(content):
        raise DataError(f"{file}: {len(content):,} bytes; expected a multiple of {RECORD:,}, the bytes of a picture")
    records = torch.from_numpy(content.reshape(-1, RECORD))
    labels = records[:, 0].long()
    if labels.max() >= classes:
        index = int((labels >= classes).nonzero()[0])
        raise DataError(f"{file}: label {int(labels[index])} of picture {index}; expected 0 to {classes - 1}")
    return records[:, 1:].reshape(-1, *SHAPE), labels
