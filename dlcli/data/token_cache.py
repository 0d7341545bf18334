"""Tokens of large texts: files of the user's cache, made once, checked, and mapped into memory from then on.

A folder ``texts/<content and options>/`` holds the tokens and, beside them, facts with a checksum. A file
``texts/<names, times and options>`` says which folder belongs to the files of a text as they are now, so that a text
that nobody has touched is not read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlcli.data.corpus import Tokenised, smallest_type
from dlcli.data.download import sha256_of, writable_cache
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import DataError, ResourceError

log = logging.getLogger("dlcli")

Write = Callable[[Path], tuple[Vocabulary, str]]
"""Writes the tokens into the file ``tokens`` of a folder; returns the vocabulary and the fingerprint of the text."""


def mapped_tokens(files: Sequence[Path], options: Any, label: str, write: Write) -> Tokenised:
    """The tokens of the files, mapped; made by ``write`` unless somebody has done it with the same options.

    Raises:
        DataError: the files changed meanwhile, or the cache cannot be written.
        ResourceError: the disk is full.
    """
    from filelock import FileLock

    folder = Path()
    try:
        folder = writable_cache().parent / "texts"
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / _key([*map(_stamp, files), options])
        with FileLock(f"{note}.lock"):  # another process may be at it
            found = _noted(note)
            if found is None:
                _make(note, files, options, label, write)
                found = _noted(note)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{folder}: cannot hold the tokens ({error.strerror}); set DLCLI_CACHE") from None
        free = shutil.disk_usage(folder).free
        raise ResourceError(
            f"{label}: the disk is full ({free:,} bytes free at {folder}, where the tokens go); "
            "free some space or set DLCLI_CACHE"
        ) from None
    if found is None:
        raise DataError(f"{folder}: does not keep what is written into it; set DLCLI_CACHE")
    return found


def _make(note: Path, files: Sequence[Path], options: Any, label: str, write: Write) -> None:
    """Tokenise into a new folder, which gets its name when it is complete and on the disk."""
    from filelock import FileLock

    partial = note.with_name(f".{note.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    partial.mkdir()
    try:
        vocabulary, fingerprint = write(partial)
        if note.name != _key([*map(_stamp, files), options]):
            raise DataError(f"{label}: changed while it was read; start again when it is complete")
        tokens = partial / "tokens"
        with tokens.open("rb") as stream:
            os.fsync(stream.fileno())
        facts = {
            "fingerprint": fingerprint,
            "size": tokens.stat().st_size,
            "modified": tokens.stat().st_mtime_ns,
            "sha256": sha256_of(tokens),
            "vocabulary": vocabulary.to_json(),
        }
        _write_sealed(partial / "facts", facts)
        target = note.with_name(_key([fingerprint, options]))
        with FileLock(f"{target}.lock"):  # the same text may lie elsewhere too, under a note of its own
            if _load(target) is None:
                shutil.rmtree(target, ignore_errors=True)
                os.rename(partial, target)
        _write_sealed(note, target.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _noted(note: Path) -> Tokenised | None:
    name = _read_sealed(note)
    if not isinstance(name, str):
        return None
    found = _load(note.with_name(name))
    if found is None:
        log.warning("%s: damaged; the text is tokenised again", note.with_name(name))
    return found


def _load(folder: Path) -> Tokenised | None:
    """What a folder holds; None if it is incomplete or damaged."""
    facts = _read_sealed(folder / "facts")
    try:
        status = (folder / "tokens").stat()
    except OSError:
        return None
    if facts is None or status.st_size != facts["size"]:
        return None
    # Whoever writes into the file leaves another time, and so does who copies it: then every byte is looked at.
    if status.st_mtime_ns != facts["modified"] and sha256_of(folder / "tokens") != facts["sha256"]:
        return None
    vocabulary = Vocabulary.from_json(facts["vocabulary"])
    ids = np.memmap(folder / "tokens", dtype=smallest_type(len(vocabulary)), mode="r")
    with warnings.catch_warnings():
        # Of an array that cannot be written. A private copy could be, but the system may refuse one larger than memory.
        warnings.simplefilter("ignore")
        return Tokenised(vocabulary, torch.from_numpy(ids), facts["fingerprint"], mapped=True)


def _stamp(file: Path) -> list[Any]:
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _key(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:40]


def _write_sealed(file: Path, values: Any) -> None:
    """Plain values below their checksum."""
    text = json.dumps(values)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="utf-8")
    os.replace(partial, file)


def _read_sealed(file: Path) -> Any:
    """What ``_write_sealed`` wrote; None if it is not there or damaged."""
    try:
        checksum, _, text = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == checksum else None
