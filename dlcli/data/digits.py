"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: real data without a download.

Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits" (1998).
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlcli.data.images import ImageData
from dlcli.data.splits import divide, stratified_order
from dlcli.errors import ConfigError, DataError
from dlcli.hyperparameters import Augmentations, Count, Folds, Fraction, Natural, Normalize, Seed
from dlcli.registry import DATA

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"  # of the table
SIZE = 264_712  # bytes


@DATA.register("digits")
class Digits(ImageData):
    """Handwritten digits of 8x8 pixels with 17 grey levels. Every split has the classes in equal shares."""

    def __init__(
        self,
        *,
        batch_size: Count,
        val_fraction: Fraction,
        test_fraction: Fraction,
        split_seed: Seed,
        folds: Folds | None,
        fold: Natural,
        normalize: Normalize,
        resize: Count | None,
        augmentation: Augmentations | None,
    ):
        if min(val_fraction, test_fraction) < 0.01:  # each part needs a picture of every class
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected at least 0.01 each"
            )
        if val_fraction + test_fraction > 0.9:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum of at most "
                "0.9, so that something is left to train on"
            )
        pixels, labels = read()
        order = stratified_order(labels, split_seed)
        rows = divide(order, val_fraction / (1 - test_fraction), test_fraction, folds, fold)
        images = torch.from_numpy(pixels).view(-1, 1, 8, 8)  # 0 to 16
        parts = {name: torch.from_numpy(np.sort(found)) for name, found in rows.items()}
        tensors = {name: (images[found], torch.from_numpy(labels)[found]) for name, found in parts.items()}
        self.source = "packaged"
        self.fingerprint = SHA256
        names = [str(digit) for digit in range(10)]
        super().__init__(
            tensors, names, 16, batch_size=batch_size, normalize=normalize, resize=resize, augmentation=augmentation
        )


def read() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels (N, 64) uint8 and labels (N,) int64, from scikit-learn's file. Importing the library takes seconds.

    Raises:
        DataError: scikit-learn is not installed, or comes with another file.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("digits: scikit-learn is not installed, which the pictures come with: pip install scikit-learn")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(file) as stream:
            content = stream.read(SIZE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error}); install scikit-learn again") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{file}: not the digits that are known; install scikit-learn again")
    table = np.loadtxt(io.BytesIO(content), dtype=np.uint8, delimiter=",")
    return np.ascontiguousarray(table[:, :64]), table[:, 64].astype(np.int64)
