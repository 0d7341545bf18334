"""Your own text: one file, or all .txt files of a folder in the order of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlcli.data.corpus import Corpus, read
from dlcli.data.large_text import LargeText
from dlcli.data.text import TextData
from dlcli.data.text_reading import text_files
from dlcli.data.vocabulary import Vocabulary
from dlcli.hyperparameters import FilePath
from dlcli.registry import DATA

LARGE = 1 << 24  # bytes of text that are not held in memory


@DATA.register("text")
class TextFile(TextData):
    """The text of ``path`` (UTF-8, or UTF-16 with a byte-order mark). The files of a folder are joined with a line feed
    between them. A large text is tokenised once into a file of the cache and read from there."""

    def __init__(self, vocabulary: Vocabulary | None = None, *, path: FilePath, **options: Any):
        super().__init__(opened(Path(path).expanduser()), vocabulary, **options)


def opened(path: Path) -> Corpus | LargeText:
    """The text of a file or folder, in memory unless it is large.

    Raises:
        DataError: missing, unreadable, a folder without .txt files, empty, binary, or not UTF-8.
    """
    files = text_files(path)
    if sum(file.stat().st_size for file in files) > LARGE:
        return LargeText(tuple(files), "own file", str(path))
    return read(files, "own file", str(path))
