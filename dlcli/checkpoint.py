"""Checkpoints that survive: written whole or not at all, checked before they are read, and unable to run code.

A checkpoint is a file of ``torch.save`` with a trailer of 44 bytes: magic, version, SHA-256 of every byte before the
digest. ``torch.load`` ignores the trailer, so other programs can read the file. A write goes to a temporary file in the
same folder, is synced, and is renamed over the old file. What a crash leaves is the old file or the new one.

Out of scope: choosing when to save, pruning, and locks. One process writes the checkpoints of a run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dlcli.errors import DataError, ResourceError

FORMAT_VERSION = 1  # of the dict: model, optimizer, scheduler, loop, rng, format_version
LAST, PREVIOUS = "last.pt", "previous.pt"

_MAGIC = b"dlcli.pt"
_TRAILER_VERSION = 1
_HEAD = struct.Struct("<8sI")  # magic, trailer version; the digest follows
_TRAILER_SIZE = _HEAD.size + hashlib.sha256().digest_size
_MAX_PICKLE = 256 << 20  # bytes; the structure of a state, without its tensors' data
_CHUNK = 8 << 20  # bytes
_SCALARS = {str, int, float, bool, type(None), bytes}
_REMEDY = f"use another checkpoint of the run ({PREVIOUS}, best.pt), or train again"

# Identities of files that this process has written or checked: only those may become previous.pt unread.
_known_good: set[tuple[int, int, int, int]] = set()


class NewerFormatError(DataError):
    """The checkpoint was written by a later version of dlcli. It is not damaged."""


def save(path: Path, state: dict[str, Any], *, keep_previous: bool) -> None:
    """Write ``state`` and its ``format_version`` to ``path``, so that a crash at any moment leaves a whole file.

    Args:
        path: the checkpoint; its folder exists.
        state: plain values only: tensors (on any device), str, int, float, bool, None, bytes, and lists, tuples and
            dicts of these.
        keep_previous: the file that is there now stays as ``previous.pt`` beside it, unless it is damaged.

    Raises:
        TypeError: a value of another type, such as a NumPy scalar; names its path in the state.
        ResourceError: the disk is full or cannot be written. The old checkpoint is intact.
    """
    state = {**state, "format_version": FORMAT_VERSION}
    _refuse_other_than_plain(state, "")
    path = Path(path)
    temporary = _temporary(path)
    try:
        _sweep(path.parent)
        _write(temporary, state)
        if keep_previous and _is_intact(path):
            _keep(path, path.with_name(PREVIOUS))
        os.replace(temporary, path)
        _sync_folder(path.parent)
        _known_good.add(_identity(os.stat(path)))
    except OSError as error:
        temporary.unlink(missing_ok=True)  # before the free bytes are counted
        raise ResourceError(_write_problem(path, error)) from None
    finally:
        temporary.unlink(missing_ok=True)  # also when a second signal interrupts the write


def load(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The state that ``save`` wrote to ``path``, with its tensors on the CPU.

    The digest is verified before anything is parsed, and only tensors and plain values can come out: nothing in the
    file is executed.

    Args:
        path: the checkpoint.
        mmap: map the tensors instead of copying them, for readers that need a part of a large file for a short time.

    Raises:
        DataError: the file is missing, damaged, not a checkpoint, or of a newer dlcli.
        ResourceError: there is not enough memory.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            _verify(path, file)
            _verify_archive(path, file)
            identity = _identity(os.fstat(file.fileno()))
        state = _unpickle(path, mmap)
    except FileNotFoundError:
        raise DataError(f"{path}: no such checkpoint; see 'dlcli runs' for the runs that have one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {_REMEDY}") from None
    version = state.get("format_version") if isinstance(state, dict) else None
    if not isinstance(state, dict) or type(version) is not int or version < 1:
        raise DataError(f"{path}: not a checkpoint of dlcli (no format_version in it); {_REMEDY}")
    if version > FORMAT_VERSION:
        raise _newer(path, f"format {version}; this one reads up to {FORMAT_VERSION}")
    _known_good.add(identity)
    return state


def load_latest(folder: Path) -> tuple[dict[str, Any], Path, str | None]:
    """The newest checkpoint of a run that can be read: ``last.pt``, else ``previous.pt``.

    Returns:
        The state, the file that it came from, and a note for people if that is not ``last.pt``.

    Raises:
        DataError: there is none, both are damaged, or the newest needs a newer dlcli.
    """
    last, previous = Path(folder) / LAST, Path(folder) / PREVIOUS
    if not last.exists() and not previous.exists():
        raise DataError(f"{folder}: no checkpoint yet ({LAST}); the run cannot be resumed, train again")
    try:
        return load(last), last, None
    except NewerFormatError:
        raise
    except DataError as problem:
        if not previous.exists():
            raise
        try:
            state = load(previous)
        except DataError:
            raise DataError(f"{folder}: both {LAST} and {PREVIOUS} are damaged; use best.pt, or train again") from None
        reason = "is missing" if not last.exists() else f"cannot be used ({str(problem).split(';')[0]})"
        return state, previous, f"{LAST} {reason}: going on from {PREVIOUS}, which is one save older"


# Writing


class _HashingWriter:
    """What ``torch.save`` writes to: a file descriptor and a digest.

    A failed write is remembered, not raised, because torch replaces an exception inside its writer by one of its own.
    """

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        if self.error is None:
            self.digest.update(view)
            try:
                _write_all(self.descriptor, view)
            except OSError as error:
                self.error = error
        return len(view)

    def flush(self) -> None:
        pass


def _write(temporary: Path, state: dict[str, Any]) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        writer = _HashingWriter(descriptor)
        torch.save(state, writer)  # type: ignore[arg-type]
        writer.write(_HEAD.pack(_MAGIC, _TRAILER_VERSION))
        writer.write(writer.digest.digest())
        if writer.error is not None:
            raise writer.error
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(descriptor, view) :]


def _keep(path: Path, previous: Path) -> None:
    """Make ``previous`` the file that ``path`` is. There is a whole file under one of the names at every moment."""
    link = _temporary(previous)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, previous)
    else:
        try:
            os.replace(link, previous)
        finally:
            link.unlink(missing_ok=True)  # also there if both names were one file: then the rename did nothing


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes that are gone, and those of an earlier process with our number."""
    for file in folder.iterdir():
        match = re.search(r"\.pt\.tmp-(\d+)$", file.name)
        if match and (int(match[1]) == os.getpid() or not _is_alive(int(match[1]))):
            file.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_intact(path: Path) -> bool:
    """Whether ``path`` is a whole checkpoint; reads it only if this process has not done so yet."""
    try:
        if _identity(os.stat(path)) in _known_good:
            return True
        with open(path, "rb") as file:
            _verify(path, file)
    except (OSError, DataError):
        return False
    return True


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _write_problem(path: Path, error: OSError) -> str:
    kept = "; the earlier checkpoint is intact" if path.exists() else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent).free
        return f"{path}: no space to save the checkpoint ({free:,} bytes free); make room and resume{kept}"
    return f"{path}: cannot save the checkpoint ({error.strerror or error}); make the folder writable and resume{kept}"


def _refuse_other_than_plain(value: Any, path: str) -> None:
    kind = type(value)  # exact: numpy.float64 is a float to isinstance, and torch.load would refuse it
    if kind in _SCALARS or kind in (torch.Tensor, torch.nn.Parameter):
        return
    if kind in (list, tuple):
        for index, item in enumerate(value):
            _refuse_other_than_plain(item, f"{path}[{index}]")
    elif kind in (dict, OrderedDict):
        for key, item in value.items():
            _refuse_key(key, path)
            _refuse_other_than_plain(item, f"{path}.{key}" if path else str(key))
        if kind is OrderedDict:
            _refuse_other_than_plain(vars(value), f"{path}.__dict__")  # a state_dict's _metadata
    else:
        raise TypeError(
            f"checkpoint value {path or 'state'} is a {kind.__module__}.{kind.__qualname__}; expected a tensor, str, "
            "int, float, bool, None, bytes, or a list, tuple or dict of these"
        )


def _refuse_key(key: Any, path: str) -> None:
    if type(key) is tuple:
        for item in key:
            _refuse_key(item, path)
    elif type(key) not in _SCALARS:
        raise TypeError(
            f"checkpoint value {path or 'state'} has the key {key!r} of type {type(key).__qualname__}; "
            "expected a str, int, float, bool, None, bytes, or a tuple of these"
        )


# Reading


def _verify(path: Path, file: BinaryIO) -> None:
    """Check the trailer and the digest; reads the whole file in constant memory."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DataError(f"{path}: the checkpoint is empty; {_REMEDY}")
    if size <= _TRAILER_SIZE:
        raise DataError(f"{path}: not a checkpoint of dlcli, or cut short ({size} bytes); {_REMEDY}")
    file.seek(size - _TRAILER_SIZE)
    trailer = file.read(_TRAILER_SIZE)
    magic, version = _HEAD.unpack(trailer[: _HEAD.size])
    if magic != _MAGIC:
        raise DataError(f"{path}: not a checkpoint of dlcli, or cut short (no checksum at its end); {_REMEDY}")
    file.seek(0)
    digest, remaining = hashlib.sha256(), size - hashlib.sha256().digest_size
    while remaining:
        chunk = file.read(min(_CHUNK, remaining))
        if not chunk:
            break
        digest.update(chunk)
        remaining -= len(chunk)
    if digest.digest() != trailer[_HEAD.size :]:
        raise DataError(f"{path}: the checkpoint is damaged (its checksum does not match); {_REMEDY}")
    if version > _TRAILER_VERSION:
        raise _newer(path, f"trailer {version}; this one reads up to {_TRAILER_VERSION}")


def _verify_archive(path: Path, file: BinaryIO) -> None:
    """Refuse what ``torch.save`` never writes: other containers, compressed entries, a structure of absurd size."""
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        raise _foreign(path, "not an archive of torch.save")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, UnicodeError) as error:
        raise _foreign(path, f"a broken archive, {type(error).__name__}") from None
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise _foreign(path, "compressed entries")
    if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
        raise _foreign(path, "overlapping entries")
    if any(entry.file_size > _MAX_PICKLE for entry in entries if entry.filename.endswith(".pkl")):
        raise _foreign(path, f"a structure of more than {_MAX_PICKLE:,} bytes")


def _unpickle(path: Path, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about TorchScript archives before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # the unpickler leaks many types: KeyError, AttributeError, RuntimeError, …
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ResourceError(f"{path}: not enough memory to load the checkpoint; close other programs") from None
        raise _foreign(path, type(error).__name__) from None


def _foreign(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: holds something else than tensors and plain values ({what}), so it was not loaded; {_REMEDY}"
    )


def _newer(path: Path, what: str) -> NewerFormatError:
    return NewerFormatError(f"{path}: needs a newer dlcli ({what}); upgrade with 'pip install --upgrade dlcli'")
