"""Text files as a stream of characters: checked, decoded, \\n at the end of lines, in bounded memory. Torch-free."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dlcli.errors import DataError

PIECE = 1 << 20  # bytes that are read at once
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
REMEDY = "give data.path a text file or a folder of .txt files"


def text_files(path: Path) -> list[Path]:
    """The file, or all .txt files below the folder in the order of their names.

    Raises:
        DataError: missing, no regular file, or a folder without .txt files.
    """
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder holds no .txt file; {REMEDY}")
    for file in files:
        if not file.exists():
            raise DataError(f"{file}: no such file; {REMEDY}")
        if not file.is_file():
            raise DataError(f"{file}: not a regular file; {REMEDY}")
    return files


def pieces(files: Iterable[Path], digest: Any = None) -> Iterator[str]:
    """The characters of the files, with a line feed between one file and the next, a piece at a time.

    A byte-order mark says that a file is UTF-16 (and is left out); else it has to be UTF-8.

    Args:
        files: in their order.
        digest: a hash of ``hashlib`` that is updated with the bytes as they are read, a line feed between the files.

    Raises:
        DataError: a file is unreadable, empty, binary, or cannot be decoded; with the place.
    """
    for number, file in enumerate(files):
        if number:
            if digest is not None:
                digest.update(b"\n")
            yield "\n"
        try:
            with file.open("rb") as stream:
                yield from _pieces_of(stream, str(file), digest)
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from None


def _pieces_of(stream: BinaryIO, label: str, digest: Any) -> Iterator[str]:
    raw = stream.read(PIECE)
    mark = next((mark for mark in MARKS if raw.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    position, line, blank = 0, 1, True  # bytes and lines before ``raw``
    while True:
        if digest is not None:
            digest.update(raw)
        if encoding == "utf-8" and b"\0" in raw:
            place = position + raw.index(0)
            raise DataError(f"{label}: not a text: byte {place:,} is NUL; give a file of UTF-8 text")
        skipped = len(mark) if position == 0 else 0
        held = len(decoder.getstate()[0])  # the first bytes of a character, from the piece before
        try:
            text = ends.decode(decoder.decode(raw[skipped:], final=not raw), final=not raw)
        except UnicodeDecodeError as error:
            place = position + skipped - held + error.start
            line += error.object[: error.start].decode(encoding, "ignore").count("\n")
            raise DataError(
                f"{label}:{line}: not {encoding.upper()} at byte {place:,} (0x{error.object[error.start]:02x}); "
                "save the text as UTF-8"
            ) from None
        blank = blank and not text.strip()
        if text:
            yield text
        if not raw:
            break
        position += len(raw)
        line += text.count("\n")
        raw = stream.read(PIECE)
    if blank:
        raise DataError(f"{label}: the text is empty")
