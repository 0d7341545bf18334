"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: real data without a download.

Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits" (1998).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from dlcli.data.images import ImageData
from dlcli.data.splits import divide, stratified_order
from dlcli.errors import ConfigError
from dlcli.hyperparameters import Augmentations, Count, Folds, Fraction, Natural, Seed
from dlcli.registry import DATA


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
        normalize: bool,
        resize: Count | None,
        augmentation: Augmentations | None,
    ):
        if min(val_fraction, test_fraction) < 0.01:  # stratified parts need a picture of every class
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected at least 0.01 each"
            )
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        if val_fraction + test_fraction > 0.9:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum of at most "
                "0.9, so that something is left to train on"
            )
        raw = load_digits()
        images = torch.from_numpy(raw.images.astype("uint8")).unsqueeze(1)  # (N, 1, 8, 8), 0 to 16
        labels = torch.from_numpy(raw.target.astype("int64"))  # (N,)
        rest, test = train_test_split(
            range(len(labels)), test_size=test_fraction, random_state=split_seed, stratify=labels
        )
        if folds is None and fold == 0:
            share = val_fraction / (1 - test_fraction)
            train, val = train_test_split(rest, test_size=share, random_state=split_seed, stratify=labels[rest])
        else:
            order = np.array(rest)[stratified_order(labels[rest].numpy(), split_seed)]
            parts = divide(order, val_fraction, 0.0, folds, fold)
            train, val = parts["train"].tolist(), parts["val"].tolist()
        splits = {
            name: (images[sorted(rows)], labels[sorted(rows)])
            for name, rows in (("train", train), ("val", val), ("test", test))
        }
        self.source = "packaged"
        self.fingerprint = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        names = [str(digit) for digit in range(10)]
        super().__init__(
            splits, names, 16, batch_size=batch_size, normalize=normalize, resize=resize, augmentation=augmentation
        )
