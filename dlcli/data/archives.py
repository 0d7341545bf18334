"""Unpacking tar and zip archives of unknown origin. Torch-free.

Only regular files and folders are written, under normalised names inside one new folder, up to limits on bytes, files
and compression. Links, devices and encrypted members are refused; archives inside the archive stay packed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dlcli.errors import DataError

CHUNK = 1 << 20
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
COMPRESSIONS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"BZh", bz2.open),
)


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold. ``ratio`` is unpacked bytes for each packed one, from ``free_bytes`` on."""

    files: int = 500_000
    bytes: int = 100 * 10**9
    ratio: int = 100
    free_bytes: int = 10**7


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]]


def extract(archive: Path, target: Path, limits: Limits | None = None) -> None:
    """Unpack an archive into the new folder ``target``, which appears when it is complete.

    Raises:
        DataError: no archive, damaged, over a limit, or with a member that is not plain; nothing is left of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(archive, partial, limits or Limits())
        os.rename(partial, target)
    except DAMAGED as error:
        raise DataError(f"{archive}: damaged or incomplete ({error or type(error).__name__})") from None
    except (NotImplementedError, UnicodeError, ValueError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_archive(file: Path) -> bool:
    """Whether a file begins as an archive that ``extract`` can read."""
    return _kind(file) is not None


def _kind(file: Path) -> str | None:
    with file.open("rb") as stream:
        start = stream.read(512)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    packed = any(start.startswith(magic) for magic, _ in COMPRESSIONS)
    return "tar" if packed or start[257:262] == b"ustar" else None


def _write(archive: Path, folder: Path, limits: Limits) -> None:
    kind = _kind(archive)
    if kind is None:
        raise DataError(f"{archive}: neither a tar nor a zip archive")
    packed = archive.stat().st_size
    allowed = min(limits.bytes, max(limits.free_bytes, packed * limits.ratio))
    written = 0
    spelling: dict[str, str] = {}  # of every file and folder, by its name without case
    files = set()
    for number, member in enumerate(_zip_members(archive) if kind == "zip" else _tar_members(archive, allowed)):
        if number >= limits.files:
            raise DataError(f"{archive}: more than {limits.files:,} members; unpack it yourself if you trust it")
        parts = _plain_parts(member.name, archive)
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            key = unicodedata.normalize("NFC", name).casefold()
            if spelling.setdefault(key, name) != name or key in files:
                raise DataError(
                    f"{archive}: member {shown(name)} clashes with {shown(spelling[key])}; unpack it yourself"
                )
        path = folder.joinpath(*parts)
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        if path.exists():
            raise DataError(f"{archive}: member {shown(member.name)} is there twice; unpack it yourself")
        files.add(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, path.open("xb") as output:
            while chunk := source.read(CHUNK):
                written += len(chunk)
                if written > allowed:
                    raise _too_large(archive, allowed)
                output.write(chunk)


def _too_large(archive: Path, allowed: int) -> DataError:
    return DataError(f"{archive}: unpacks to more than {allowed:,} bytes; unpack it yourself if you trust it")


def shown(name: str) -> str:
    """A member's name for a message: printable and not long."""
    text = repr(name)
    return text if len(text) <= 80 else text[:76] + "…'"


def _plain_parts(name: str, archive: Path) -> list[str]:
    """The parts of a member's path; [] for the archive's own folder.

    Raises:
        DataError: a path that leads, or could lead on some system, outside the folder.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    unsafe = name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in "".join(parts[:1])
    if unsafe or any(len(os.fsencode(part)) > 255 for part in parts) or len(name) > 2000:
        raise DataError(f"{archive}: member {shown(name)} is not a plain relative path; the archive is refused")
    return parts


def _refuse(archive: Path, name: str, kind: str) -> DataError:
    return DataError(f"{archive}: member {shown(name)} is {kind}; only files and folders are unpacked")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refuse(archive, info.filename, "a link" if kind == stat.S_IFLNK else "a special file")
            if info.flag_bits & 1:
                raise _refuse(archive, info.filename, "encrypted")
            # zipfile cuts names at a NUL; the whole one is judged
            yield _Member(info.orig_filename, info.is_dir(), lambda info=info: opened.open(info))  # type: ignore[misc]


def _tar_members(archive: Path, allowed: int) -> Iterator[_Member]:
    with archive.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        unpack = next((unpack for magic, unpack in COMPRESSIONS if start.startswith(magic)), None)
        # Headers count too: names of gigabytes would fill the memory before any file is written.
        stream = _Limited(unpack(raw) if unpack else raw, archive, allowed + 10**7)
        with tarfile.open(fileobj=stream, mode="r|") as opened:  # type: ignore[call-overload]
            for info in opened:
                if info.islnk() or info.issym():
                    raise _refuse(archive, info.name, "a link")
                if not (info.isreg() or info.isdir()) or info.size < 0:
                    raise _refuse(archive, info.name, "a special file")
                yield _Member(info.name, info.isdir(), lambda info=info: opened.extractfile(info))  # type: ignore[misc]


class _Limited:
    """A stream that ends with an error when more is read from it than is allowed."""

    def __init__(self, stream: IO[bytes], archive: Path, allowed: int):
        self.stream = stream
        self.archive = archive
        self.allowed = allowed
        self.received = 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.received += len(data)
        if self.received > self.allowed:
            raise _too_large(self.archive, self.allowed)
        return data
