"""Your own pictures: a folder for each class, or a table of names and labels; as a folder or as an archive."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dlcli.data.archives import extract, is_archive
from dlcli.data.augmentation import Augmentation
from dlcli.data.base import ImageBatch, TensorData, permutation
from dlcli.data.decoding import SUFFIXES, BadPicture, Form, Pixels, decode_all
from dlcli.data.download import sha256_of, writable_cache
from dlcli.data.images import pixel_statistics
from dlcli.data.pixel_cache import decoded
from dlcli.errors import ConfigError, DataError
from dlcli.hyperparameters import Augmentations, Count, FilePath, Gt, Lt, Natural, Probability
from dlcli.registry import DATA
from dlcli.spec import DataSpec

MAX_BAD = 0.01  # share of pictures that on_bad=skip leaves out; more is a mistake to look into
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IGNORED_FOLDERS = ("__MACOSX",)
PREDICTION_BATCH = 256
MAX_CELL = 1_000  # characters of a name or label


@dataclass(frozen=True)
class Picture:
    """A file, its class, and the split whose folder it is in; None where the split is drawn."""

    file: Path
    label: str
    split: str | None


@DATA.register("image_folder")
class ImageFolder(TensorData):
    """Pictures in a folder for each class, in any size and mode, decoded once into a memory-mapped cache.

    Folders ``train``, ``val`` and ``test`` above those of the classes are the splits; the parts that are not there are
    drawn from the training pictures, with the classes in equal shares. A batch holds float32 images, divided by 255,
    and, if ``normalize``, with mean 0 and standard deviation 1 over all pixels of the training part.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_classes")
    identity: ClassVar[str] = "file"

    def __init__(
        self,
        *,
        path: FilePath,
        labels: str | None,
        size: Count,
        resize: Literal["squash", "crop", "pad"],
        channels: Literal[1, 3],
        on_bad: Literal["fail", "skip"],
        val_fraction: Annotated[float, Gt(0), Lt(1)],
        test_fraction: Probability,
        split_seed: Natural,
        normalize: bool,
        augmentation: Augmentations | None,
        batch_size: Count,
    ):
        """
        Args:
            path: the folder, or a tar or zip archive of it.
            labels: a CSV of file names (below ``path``) and labels, instead of folders.
            size: side of the pictures in pixels.
            resize: "squash" into the square, "crop" to it from the middle, or "pad" with black.
            channels: 3 for RGB, 1 for grey.
            on_bad: of files that cannot be read: "fail", or "skip" up to 1 % of them.
            val_fraction: share of the training pictures that validate, where there is no folder val.
            test_fraction: share that tests, where there are no folders of splits at all.
            split_seed: draws them.
            augmentation: random changes of the training pictures, as ``dlcli.data.augmentation`` makes them.

        Raises:
            DataError: nothing there, damaged pictures, a class without pictures, only one class.
            ConfigError: shares that leave nothing to train on.
        """
        super().__init__(batch_size=batch_size)
        if val_fraction + test_fraction > 0.9:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum of at most "
                "0.9, so that something is left to train on"
            )
        root = opened(path)
        notes: list[str] = []
        pictures = from_table(root, Path(labels).expanduser(), on_bad, notes) if labels else from_folders(root)
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
                f"{path}: all {len(pictures):,} pictures are of one class, '{names[0]}'; expected at least two"
            )
        self.notes = tuple(notes)
        self.label_names = names
        self.pixels = found.pixels  # (N, C, S, S) uint8
        numbers = {name: number for number, name in enumerate(names)}
        self.labels = torch.tensor([numbers[picture.label] for picture in pictures])  # (N,)
        rows = split_rows(pictures, val_fraction, test_fraction, split_seed)
        self.splits = tuple(rows)
        self.tensors = {split: (torch.tensor(indices),) for split, indices in rows.items()}
        self.spec = DataSpec(input_shape=(channels, size, size), num_outputs=len(names), num_classes=len(names))
        train = self.tensors["train"][0]
        self.mean, self.deviation = pixel_statistics(self.pixels, train) if normalize else (0.0, 255.0)
        if augmentation:
            self.augmenting = True
            self.augmentation = Augmentation(augmentation, (channels, size, size), 255.0, len(names))
        self.source = "own file"
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

    def describe(self) -> dict[str, str]:
        assert self.label_names is not None
        counts = self.labels.bincount(minlength=len(self.label_names)).tolist()
        if len(counts) <= 10:
            classes = ", ".join(f"{name} {count:,}" for name, count in zip(self.label_names, counts, strict=True))
        else:
            classes = f"{len(counts)}, with {min(counts):,} to {max(counts):,} pictures"
        return {**super().describe(), "classes": classes}

    @property
    def class_counts(self) -> list[int]:
        assert self.label_names is not None
        counts: list[int] = self.labels[self.tensors["train"][0]].bincount(minlength=len(self.label_names)).tolist()
        return counts

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        self.mean, self.deviation = preprocessing["mean"], preprocessing["deviation"]

    def preprocessing(self) -> dict[str, Any]:
        """All that is needed to prepare other pictures in the same way, as plain JSON values."""
        return {
            **self.form.to_json(),
            "mean": self.mean,
            "deviation": self.deviation,
            "on_bad": self.on_bad,
            "label_names": list(self.label_names or ()),
        }

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PictureInputs:
        return PictureInputs(path, preprocessing)


class PictureInputs:
    """The pictures of a file, a folder (with its subfolders) or an archive: (names, batch) with labels -1, not known.

    Iterating raises DataError for damaged pictures; with ``on_bad`` "skip", for more than 1 % of them, and ``notes``
    then says how many were left out.
    """

    def __init__(self, path: Path, preprocessing: Mapping[str, Any]):
        """
        Raises:
            DataError: no pictures there.
        """
        single = path.is_file() and not is_archive(path)
        self.root = path.parent if single else opened(str(path))
        self.files = [path] if single else pictures_below(self.root)
        if not self.files:
            raise DataError(f"{path}: no pictures in it; known are {', '.join(sorted(SUFFIXES))}")
        self.preprocessing = preprocessing
        self.form = Form(preprocessing["channels"], preprocessing["size"], preprocessing["resize"])
        self.notes: list[str] = []

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
            names.append(file.relative_to(self.root).as_posix())
            images.append(result)
            if len(names) == PREDICTION_BATCH:
                yield names, self._batch(images)
                names, images = [], []
        if names:
            yield names, self._batch(images)
        if bad:
            self.notes = [skipped(bad, self.files, "skip")]

    def _batch(self, images: list[Pixels]) -> ImageBatch:
        stacked = torch.from_numpy(np.stack(images))  # (B, C, S, S)
        values = standardised(stacked.float(), self.preprocessing["mean"], self.preprocessing["deviation"])
        return ImageBatch(values, torch.full((len(images),), -1))


def standardised(images: Tensor, mean: float, deviation: float) -> Tensor:
    """Pixels as float, which are overwritten, with the mean taken away, in units of the deviation."""
    return images.sub_(mean).div_(deviation)


def opened(path: str) -> Path:
    """The folder that a path names; an archive is unpacked into the cache, once for each content.

    Raises:
        DataError: no such folder, a file that is no archive, or an archive that is refused.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        return root
    if not root.exists():
        raise DataError(f"{root}: no such folder; give data.path a folder of pictures or a tar or zip archive of one")
    try:
        known = root.is_file() and is_archive(root)
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from None
    if not known:
        raise DataError(f"{root}: is a single file, and no archive; give data.path the folder above the classes")
    target = writable_cache().parent / "archives" / str(sha256_of(root))[:40]
    if not target.is_dir():
        from filelock import FileLock

        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                extract(root, target)
    return target


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_dir()
        and not entry.name.startswith(".")
        and entry.name not in IGNORED_FOLDERS
        and entry.suffix.lower() not in SUFFIXES
    )


def pictures_below(folder: Path) -> list[Path]:
    """All files with a picture's suffix in a folder and its subfolders, by name; links to folders are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        # A folder called x.png is no class; it is reported as a picture that cannot be read.
        candidates = [*names, *(name for name in folders if Path(name).suffix.lower() in SUFFIXES)]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in IGNORED_FOLDERS)
        found += [Path(parent, name) for name in candidates if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
    return sorted(found)


def from_folders(root: Path) -> list[Picture]:
    """The pictures below a folder with one folder for each class, and folders of splits above them if there are any.

    Raises:
        DataError: no pictures, no classes, an empty class, or a class that is only tested.
    """
    top = root
    while len(inner := subfolders(top)) == 1 and subfolders(inner[0]):
        top = inner[0]  # an archive often wraps all in one folder
    parts = {folder.name: folder for folder in subfolders(top)}
    named = {name.lower(): name for name in parts if name.lower() in SPLIT_FOLDERS}
    if "train" not in named or len(parts) == 1:
        return in_classes(top, None)
    others = sorted(set(parts) - set(named.values()))
    if others:
        if len(named) == 1:
            return in_classes(top, None)  # a class of trains
        raise DataError(
            f"{top}: holds folders of splits ({', '.join(sorted(named.values()))}) and others ({_some(others)}); "
            "give either splits or classes"
        )
    splits = [SPLIT_FOLDERS[name] for name in named]
    if len(set(splits)) < len(splits):
        raise DataError(f"{top}: two folders for one split ({', '.join(sorted(named.values()))}); keep one")
    found = [picture for low, name in named.items() for picture in in_classes(parts[name], SPLIT_FOLDERS[low])]
    known = {picture.label for picture in found if picture.split == "train"}
    for picture in found:
        if picture.label not in known:
            raise DataError(f"{picture.file.parent}: class '{picture.label}' is not among the training pictures")
    return found


def in_classes(folder: Path, split: str | None) -> list[Picture]:
    """The pictures of the class folders in a folder.

    Raises:
        DataError: no class folders, or one without pictures.
    """
    found = []
    for inner in subfolders(folder):
        files = pictures_below(inner)
        if not files:
            raise DataError(
                f"{inner}: no pictures of class '{inner.name}' in it; known are {', '.join(sorted(SUFFIXES))}"
            )
        found += [Picture(file, inner.name, split) for file in files]
    if not found:
        inside = "pictures but no folders" if pictures_below(folder) else "no pictures"
        raise DataError(f"{folder}: holds {inside}; expected a folder for each class, or data.labels=FILE.csv")
    return found


def from_table(root: Path, table: Path, on_bad: str, notes: list[str]) -> list[Picture]:
    """The pictures that a CSV file names: the file's name (the suffix may be left out), the label.

    Raises:
        DataError: no such file, not two columns of UTF-8 text, a name twice, or a name without a picture (with
        ``on_bad`` "skip" that is only noted), or no picture at all.
    """
    rows = read_table(table)
    files = pictures_below(root)
    if not files:
        raise DataError(f"{root}: holds no pictures; known are {', '.join(sorted(SUFFIXES))}")
    known: dict[str, Path] = {}
    ambiguous = set()
    for file in files:
        relative = file.relative_to(root)
        for name in {relative.as_posix(), relative.with_suffix("").as_posix(), file.name, file.stem}:
            if known.setdefault(name, file) != file:
                ambiguous.add(name)
    if rows and rows[0][1] not in known:
        rows = rows[1:]  # the names of the columns
    found: dict[Path, Picture] = {}
    absent = []
    for line, name, label in rows:
        if name in ambiguous:
            raise DataError(f"{table}:{line}: several pictures are called '{name}'; write their folders too")
        if name not in known:
            absent.append((line, name))
        elif known[name] in found:
            raise DataError(f"{table}:{line}: '{name}' is there twice; keep one line")
        else:
            found[known[name]] = Picture(known[name], label, None)
    if absent and (on_bad == "fail" or not found):
        line, name = absent[0]
        raise DataError(
            f"{table}:{line}: no picture '{name}' below {root} ({len(absent):,} of {len(rows):,} names have none); "
            "correct the names, or leave them out with data.on_bad=skip"
        )
    if not found:
        raise DataError(f"{table}: no names and labels in it")
    if absent:
        notes.append(f"{len(absent):,} names without a picture")
    if len(found) < len(files):
        notes.append(f"{len(files) - len(found):,} pictures without a label are left out")
    return [found[file] for file in files if file in found]


def read_table(table: Path) -> list[tuple[int, str, str]]:
    """(line, first column, second column) of a CSV file of two columns.

    Raises:
        DataError: unreadable, not UTF-8, or other than two columns.
    """
    rows = []
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            for row in reader:
                if not row:
                    continue
                if len(row) != 2 or not all(cell.strip() for cell in row):
                    raise DataError(
                        f"{table}:{reader.line_num}: expected two columns, the picture's name and its label, "
                        f"found {len(row)}" + (" (one is empty)" if len(row) == 2 else "")
                    )
                if max(map(len, row)) > MAX_CELL:
                    raise DataError(f"{table}:{reader.line_num}: a cell of more than {MAX_CELL:,} characters")
                rows.append((reader.line_num, row[0].strip(), row[1].strip()))
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); give data.labels a CSV file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{table}: not a CSV file ({error})") from None
    return rows


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


def split_rows(pictures: Sequence[Picture], val: float, test: float, seed: int) -> dict[str, list[int]]:
    """Indices of the pictures of each split, sorted. Parts without a folder are drawn, class by class.

    Raises:
        DataError: a class has too few pictures for the parts, or a folder has none.
    """
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    present = {picture.split for picture in pictures}
    if present & {"val", "test"}:
        test = 0.0  # folders of splits say what is tested
    if "val" in present:
        val = 0.0
    drawn: dict[str, list[int]] = {}
    for index, picture in enumerate(pictures):
        if picture.split in ("val", "test"):
            rows[picture.split].append(index)
        else:
            drawn.setdefault(picture.label, []).append(index)
    for number, (label, indices) in enumerate(sorted(drawn.items())):
        order = [indices[i] for i in permutation(len(indices), seed, number).tolist()]
        held = [max(1, round(share * len(order))) if share else 0 for share in (val, test)]
        if sum(held) >= len(order):
            raise DataError(
                f"class '{label}' has {_pictures(len(order))} to train on, too few to hold out {_shares(val, test)}; "
                "add pictures or a folder of each split"
            )
        rows["val"] += order[: held[0]]
        rows["test"] += order[held[0] : sum(held)]
        rows["train"] += order[sum(held) :]
    missing = {picture.label for picture in pictures} - set(drawn)
    if missing:
        raise DataError(f"class '{min(missing)}' has no picture to train on that can be read")
    return {split: sorted(indices) for split, indices in rows.items() if indices}


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _shares(val: float, test: float) -> str:
    named = [f"data.{name}={value}" for name, value in (("val_fraction", val), ("test_fraction", test)) if value]
    return " and ".join(named)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
