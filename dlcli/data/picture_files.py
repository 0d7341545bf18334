"""The files of pictures in a folder or archive, with their classes: from the folders, or from a table. Torch-free."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlcli.data.archives import extract, is_archive
from dlcli.data.decoding import SUFFIXES
from dlcli.data.download import sha256_of, writable_cache
from dlcli.errors import DataError, counted

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IGNORED_FOLDERS = ("__MACOSX",)
MAX_CELL = 1_000  # characters of a name or label


@dataclass(frozen=True)
class Picture:
    """A file, its class, and the split whose folder it is in; None where the split is drawn."""

    file: Path
    label: str
    split: str | None


def opened(root: Path) -> Path:
    """The folder at a path; an archive there is unpacked into the cache, once for each content.

    Raises:
        DataError: no such folder, a file that is no archive, or an archive that is refused.
    """
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


def table_at(path: Path) -> Path:
    """The CSV file at a path, or the only one in the archive there.

    Raises:
        DataError: an archive with none, or with several.
    """
    if not (path.is_file() and is_archive(path)):
        return path
    tables = sorted(opened(path).rglob("*.csv"))
    if len(tables) != 1:
        raise DataError(f"{path}: {len(tables)} CSV files in the archive; expected one, of names and labels")
    return tables[0]


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
        notes.append(f"{counted(len(absent), 'name')} without a picture")
    if len(found) < len(files):
        notes.append(f"{counted(len(files) - len(found), 'picture')} without a label, left out")
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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
