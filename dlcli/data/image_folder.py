"""Your own pictures: a folder for each class, or a table of names and labels; as a folder or as an archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dlcli.data.archives import is_archive
from dlcli.data.augmentation import Augmentation
from dlcli.data.base import ImageBatch, PredictionInputs, TensorData
from dlcli.data.decoding import SUFFIXES, BadPicture, Form, Pixels, decode_all
from dlcli.data.download import located
from dlcli.data.images import normalisation, per_channel
from dlcli.data.picture_files import from_folders, from_table, opened, pictures_below, table_at
from dlcli.data.picture_splits import split_rows
from dlcli.data.pixel_cache import decoded
from dlcli.errors import ConfigError, DataError, counted
from dlcli.hyperparameters import Augmentations, Count, FilePath, Folds, Natural, Normalize, Probability
from dlcli.registry import DATA
from dlcli.spec import DataSpec

MAX_BAD = 0.01  # share of pictures that on_bad=skip leaves out; more is a mistake to look into
PREDICTION_BATCH = 256


@DATA.register("image_folder")
class ImageFolder(TensorData):
    """Pictures in a folder for each class, in any size and mode, decoded once into a memory-mapped cache.

    Folders ``train``, ``val`` and ``test`` above those of the classes are the splits; the parts that are not there are
    drawn from the training pictures, with the classes in equal shares. A batch holds float32 images, divided by 255,
    and, if ``normalize``, with mean 0 and standard deviation 1 over all pixels of the training part.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_classes")

    def __init__(
        self,
        *,
        path: FilePath,
        labels: FilePath | None,
        size: Count,
        resize: Literal["squash", "crop", "pad"],
        channels: Literal[1, 3],
        on_bad: Literal["fail", "skip"],
        val_fraction: Probability,
        test_fraction: Probability,
        split_seed: Natural,
        folds: Folds | None,
        fold: Natural,
        normalize: Normalize,
        augmentation: Augmentations | None,
        submission: Literal["labels", "probabilities"] | None,
        batch_size: Count,
    ):
        """
        Args:
            path: the folder, or a tar or zip archive of it.
            labels: a CSV of file names (below ``path``) and labels, or an archive of one, instead of folders.
            size: side of the pictures in pixels.
            resize: "squash" into the square, "crop" to it from the middle, or "pad" with black.
            channels: 3 for RGB, 1 for grey.
            on_bad: of files that cannot be read: "fail", or "skip" up to 1 % of them.
            val_fraction: share of the training pictures that validate, where there is no folder val; 0 to train on
                all of them: then those that test validate too, or, without a test, those that train.
            test_fraction: share that tests, where there are no folders of splits at all.
            split_seed: draws them.
            folds: divide the training pictures into so many parts instead, of which number ``fold`` validates; those
                that test are the same in all of them.
            augmentation: random changes of the training pictures, as ``dlcli.data.augmentation`` makes them.
            submission: predictions as a competition wants them, by the files' names without their suffixes: the
                "labels", or the "probabilities" of all classes.

        Raises:
            DataError: nothing there, damaged pictures, a class without pictures, only one class.
            ConfigError: shares that leave nothing to train on; no such fold, or folds beside a folder val.
        """
        super().__init__(batch_size=batch_size)
        if val_fraction + test_fraction > 0.9:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum of at most "
                "0.9, so that something is left to train on"
            )
        place, self.source = located(path)
        root = opened(place)
        notes: list[str] = []
        pictures = from_table(root, table_at(located(labels)[0]), on_bad, notes) if labels else from_folders(root)
        self.form = Form(channels, size, resize)
        self.on_bad = on_bad
        found = decoded(root, [picture.file for picture in pictures], self.form)
        if found.bad:
            notes.append(
                skipped({pictures[index].file: reason for index, reason in found.bad.items()}, pictures, on_bad)
            )
        pictures = [picture for index, picture in enumerate(pictures) if index not in found.bad]
        names = sorted({picture.label for picture in pictures})
        if len(names) < 2:
            raise DataError(
                f"{path}: {counted(len(pictures), 'picture')} of one class, '{names[0]}'; expected at least two classes"
            )
        self.notes = tuple(notes)
        self.label_names = names
        self.pixels = found.pixels  # (N, C, S, S) uint8
        numbers = {name: number for number, name in enumerate(names)}
        self.labels = torch.tensor([numbers[picture.label] for picture in pictures])  # (N,)
        rows = split_rows(pictures, val_fraction, test_fraction, split_seed, folds, fold)
        self.splits = tuple(rows)
        self.tensors = {split: (torch.tensor(indices),) for split, indices in rows.items()}
        self.spec = DataSpec(input_shape=(channels, size, size), num_outputs=len(names), num_classes=len(names))
        train = self.tensors["train"][0]
        self.mean, self.deviation = map(per_channel, normalisation(self.pixels, normalize, 255, train))
        if augmentation:
            self.augmenting = True
            self.augmentation = Augmentation(augmentation, (channels, size, size), 255.0, len(names))
        self.submission = submission
        described = json.dumps([found.sha256, names, self.labels.tolist(), rows])
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    def collate(self, *tensors: Tensor) -> ImageBatch:
        (rows,) = tensors
        images = self.pixels.index_select(0, rows)  # (B, C, S, S)
        return ImageBatch(self._standardised(images.float()), self.labels.index_select(0, rows))

    def augmented(self, random: torch.Generator, *tensors: Tensor) -> ImageBatch:
        (rows,) = tensors
        images, labels = self.pixels.index_select(0, rows), self.labels.index_select(0, rows)
        return self.augmentation.batch(images, labels, self._standardised, random)

    def _standardised(self, images: Tensor) -> Tensor:
        return standardised(images, self.mean, self.deviation)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.pixels = self.pixels.to(device)
        self.labels = self.labels.to(device)
        self.mean, self.deviation = self.mean.to(device), self.deviation.to(device)

    def describe(self) -> dict[str, str]:
        assert self.label_names is not None
        counts = self.labels.bincount(minlength=len(self.label_names)).tolist()
        if len(counts) <= 10:
            classes = ", ".join(f"{name} {count:,}" for name, count in zip(self.label_names, counts, strict=True))
        else:
            classes = f"{len(counts)}, with {min(counts):,} to {max(counts):,} pictures"
        return {**super().describe(), "classes": classes}

    @property
    def train_labels(self) -> Tensor:
        (rows,) = self.tensors["train"]
        return self.labels[rows]

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        self.mean, self.deviation = per_channel(preprocessing["mean"]), per_channel(preprocessing["deviation"])

    def preprocessing(self) -> dict[str, Any]:
        """All that is needed to prepare other pictures in the same way, as plain JSON values."""
        return {
            **self.form.to_json(),
            "mean": self.mean.flatten().tolist(),
            "deviation": self.deviation.flatten().tolist(),
            "on_bad": self.on_bad,
            "submission": self.submission,
            "label_names": list(self.label_names or ()),
        }

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PictureInputs:
        return PictureInputs(path, preprocessing)


class PictureInputs(PredictionInputs):
    """The pictures of a file, a folder (with its subfolders) or an archive: (names, batch) with labels -1, not known.

    Iterating raises DataError for damaged pictures; with ``on_bad`` "skip", for more than 1 % of them, and ``notes``
    then says how many were left out.
    """

    def __init__(self, path: Path, preprocessing: Mapping[str, Any]):
        """
        Args:
            path: a file, a folder or an archive.
            preprocessing: what ``ImageFolder.preprocessing`` returned.

        Raises:
            DataError: no pictures there.
        """
        single = path.is_file() and not is_archive(path)
        self.root = path.parent if single else opened(path)
        self.files = [path] if single else pictures_below(self.root)
        if not self.files:
            raise DataError(f"{path}: no pictures in it; known are {', '.join(sorted(SUFFIXES))}")
        self.preprocessing = preprocessing
        self.submission = preprocessing.get("submission")
        self.identity = "id" if self.submission else "file"
        self.form = Form(preprocessing["channels"], preprocessing["size"], preprocessing["resize"])
        self.mean, self.deviation = per_channel(preprocessing["mean"]), per_channel(preprocessing["deviation"])
        self.left_out = ""

    def __iter__(self) -> Iterator[tuple[list[str], ImageBatch]]:
        bad: dict[Path, str] = {}
        names: list[str] = []
        images: list[Pixels] = []
        for file, result in zip(self.files, decode_all(self.files, self.form), strict=True):
            if isinstance(result, BadPicture):
                bad[file] = str(result)
                if self.preprocessing["on_bad"] == "fail":
                    skipped(bad, self.files, "fail")
                continue
            names.append(file.stem if self.submission else file.relative_to(self.root).as_posix())
            images.append(result)
            if len(names) == PREDICTION_BATCH:
                yield names, self._batch(images)
                names, images = [], []
        if names:
            yield names, self._batch(images)
        if bad:
            self.left_out = skipped(bad, self.files, "skip")

    @property
    def notes(self) -> dict[str, str]:
        return {"pictures": self.left_out} if self.left_out else {}

    def written(self, predicted: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """All columns; for a competition the label alone, or the probabilities under the names of the classes."""
        if self.submission == "labels":
            return {"label": predicted["label"]}
        if self.submission == "probabilities":
            names = self.preprocessing["label_names"]
            return {name: predicted[f"probability_{name}"] for name in names}
        return predicted

    def _batch(self, images: list[Pixels]) -> ImageBatch:
        stacked = torch.from_numpy(np.stack(images))  # (B, C, S, S)
        values = standardised(stacked.float(), self.mean, self.deviation)
        return ImageBatch(values, torch.full((len(images),), -1))


def standardised(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Pixels as float, which are overwritten, with the mean taken away, in units of the deviation."""
    return images.sub_(mean).div_(deviation)


def skipped(bad: Mapping[Path, str], files: Sequence[Any], on_bad: str) -> str:
    """What to say about pictures that are left out.

    Raises:
        DataError: none may be, or not so many.
    """
    file, reason = next(iter(bad.items()))
    if on_bad == "fail":
        more = f" (and {len(bad) - 1:,} more of {len(files):,})" if len(bad) > 1 else ""
        raise DataError(f"{file}: {reason}{more}; repair or remove it, or leave it out with data.on_bad=skip")
    if len(bad) > MAX_BAD * len(files):
        raise DataError(
            f"{file}: {reason}; {len(bad):,} of {len(files):,} pictures cannot be read, more than "
            f"{MAX_BAD:.0%}: repair or remove them"
        )
    return f"{len(bad):,} of {len(files):,} pictures skipped, the first: {file.name} {reason}"
