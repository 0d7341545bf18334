"""Pictures decoded once: their pixels in a file of the user's cache folder, memory-mapped from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from dlcli.data.decoding import BadPicture, Form, Pixels, decode_all
from dlcli.data.download import cache_folder

log = logging.getLogger("dlcli")

VERSION = 1  # of the way of decoding; another one makes the cache anew
ANNOUNCED = 5_000  # so many pictures take a while


@dataclass(frozen=True)
class Decoded:
    """pixels (N, C, S, S) uint8 of the pictures that could be read, in order; ``bad``: index of a file -> what is
    wrong with it; ``sha256`` of the pixels."""

    pixels: Tensor
    bad: dict[int, str]
    sha256: str


def decoded(root: Path, files: Sequence[Path], form: Form) -> Decoded:
    """The pixels of ``files`` (below ``root``), from the cache if neither they nor ``form`` have changed."""
    key = _key(root, files, form)
    folder = cache_folder().parent / "pictures" / key
    try:
        from filelock import FileLock

        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # another process may be decoding the same
            return _load(folder, form) or _store(folder, files, form)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        log.warning("%s cannot be written (%s); the pictures stay in memory (set DLCLI_CACHE)", folder.parent, reason)
    digest, bad, rows = hashlib.sha256(), dict[int, str](), list[Pixels]()
    for row in _good(files, form, bad):
        digest.update(row.tobytes())
        rows.append(row)
    pixels = torch.from_numpy(np.stack(rows)) if rows else torch.empty(_shape(0, form), dtype=torch.uint8)
    return Decoded(pixels, bad, digest.hexdigest())


def _key(root: Path, files: Sequence[Path], form: Form) -> str:
    """Of the folder, of all names, sizes and times of change, and of what is asked for."""
    digest = hashlib.sha256(json.dumps([VERSION, str(root.resolve()), form.to_json()]).encode())
    for file in files:
        try:
            facts = file.stat()
            stamp = f"{facts.st_size} {facts.st_mtime_ns}"
        except OSError:
            stamp = "missing"
        digest.update(os.fsencode(file.relative_to(root)) + f"\0{stamp}\0".encode())
    return digest.hexdigest()[:40]


def _good(files: Sequence[Path], form: Form, bad: dict[int, str]) -> Iterator[Pixels]:
    """The pixels of the pictures that can be read; what is wrong with the others goes into ``bad``."""
    for index, result in enumerate(decode_all(files, form)):
        if isinstance(result, BadPicture):
            bad[index] = str(result)
        else:
            yield result


def _shape(count: int, form: Form) -> tuple[int, int, int, int]:
    return count, form.channels, form.size, form.size


def _load(folder: Path, form: Form) -> Decoded | None:
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        shape = _shape(facts["count"], form)
        if not (folder / "pixels").stat().st_size == int(np.prod(shape)) > 0:
            return None
        # Private to this process: what is written into it, were it ever, does not reach the file.
        pixels = torch.from_numpy(np.memmap(folder / "pixels", dtype=np.uint8, mode="c", shape=shape))
        return Decoded(pixels, {int(index): reason for index, reason in facts["bad"].items()}, facts["sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _store(folder: Path, files: Sequence[Path], form: Form) -> Decoded:
    """Decode into a new folder, which gets its name when it is complete."""
    if len(files) > ANNOUNCED:
        log.warning("decoding %s pictures, this once; their pixels are kept in %s", f"{len(files):,}", folder.parent)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    shutil.rmtree(folder, ignore_errors=True)  # not complete, or it would have been loaded
    partial.mkdir()
    try:
        with (partial / "pixels").open("wb") as output:
            count, bad, sha256 = _write(output, files, form)
        facts = {"count": count, "bad": bad, "sha256": sha256}
        (partial / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _load(folder, form) or Decoded(torch.empty(_shape(0, form), dtype=torch.uint8), bad, sha256)


def _write(output: IO[bytes], files: Sequence[Path], form: Form) -> tuple[int, dict[int, str], str]:
    digest, bad, count = hashlib.sha256(), dict[int, str](), 0
    for row in _good(files, form, bad):
        data = row.tobytes()
        digest.update(data)
        output.write(data)
        count += 1
    return count, bad, digest.hexdigest()
