"""Your own text: one file, or all .txt files of a folder in the order of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from dlcli.data.text import Corpus, TextData, Vocabulary, decode_utf8, fingerprint_of
from dlcli.errors import DataError
from dlcli.hyperparameters import Count, FilePath, Gt, Lt, Probability
from dlcli.registry import DATA


@DATA.register("text")
class TextFile(TextData):
    """The text of ``path`` (UTF-8). The files of a folder are joined with a line feed between them."""

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        *,
        path: FilePath,
        sequence_length: Count,
        batch_size: Count,
        val_fraction: Annotated[float, Gt(0), Lt(1)],
        test_fraction: Probability,
        tokenization: Literal["char", "word", "byte"],
        min_frequency: Count,
    ):
        super().__init__(
            read(Path(path).expanduser()),
            vocabulary,
            sequence_length=sequence_length,
            batch_size=batch_size,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            tokenization=tokenization,
            min_frequency=min_frequency,
        )


def read(path: Path) -> Corpus:
    """The text of a file or folder.

    Raises:
        DataError: missing, unreadable, a folder without .txt files, empty, binary, or not UTF-8.
    """
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder holds no .txt file; give data.path a text file or a folder of them")
    contents, texts = [], []
    for file in files:
        if file.exists() and not file.is_file():
            raise DataError(f"{file}: not a regular file; give data.path a text file or a folder of .txt files")
        try:
            contents.append(file.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{file}: no such file; give data.path a text file or a folder of .txt files") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from None
        texts.append(decode_utf8(contents[-1], str(file)))
    return Corpus("\n".join(texts), fingerprint_of(b"\n".join(contents)), "own file", str(path))
