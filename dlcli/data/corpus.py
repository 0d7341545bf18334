"""A text in memory, and what becomes of it: its vocabulary, and its tokens as numbers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlcli.data.download import fetch_all
from dlcli.data.text_reading import pieces
from dlcli.data.vocabulary import WORD, Kind, Vocabulary


class Tokenised(NamedTuple):
    """tokens (number of tokens,), of the smallest integer type that holds them; mapped: they lie in a file.

    fingerprint: the SHA-256 of the text's bytes, hex.
    """

    vocabulary: Vocabulary
    tokens: Tensor
    fingerprint: str
    mapped: bool = False


class Corpus(NamedTuple):
    """A text as it was read: its characters, the SHA-256 of its bytes, where it came from, what people call it."""

    text: str
    fingerprint: str
    source: str
    label: str

    def tokenised(self, vocabulary: Vocabulary | None, kind: Kind, min_frequency: int, train_share: float) -> Tokenised:
        """The tokens, and their vocabulary unless one is given: characters of the whole text, as char-rnn has it, but
        words of the training part only."""
        if vocabulary is None and kind == "word":
            words = WORD.findall(self.text)
            trained = Counter(words[: int(len(words) * train_share)])
            vocabulary = Vocabulary.of_counts(trained, min_frequency)
        elif vocabulary is None:
            vocabulary = Vocabulary.of(self.text, kind)
        ids = vocabulary.encode_array(self.text).astype(smallest_type(len(vocabulary)))
        return Tokenised(vocabulary, torch.from_numpy(ids), self.fingerprint)


def read(files: Iterable[Path], source: str, label: str) -> Corpus:
    """The text of the files, joined with a line feed.

    Raises:
        DataError: a file is unreadable, empty, binary, or cannot be decoded.
    """
    digest = hashlib.sha256()
    text = "".join(pieces(files, digest))
    return Corpus(text, digest.hexdigest(), source, label)


def read_remote(name: str) -> Corpus:
    """The one text file of a data set of ``sources.SOURCES``.

    Raises:
        DataError: nothing that can be reached has the file.
    """
    paths, source = fetch_all(name)
    return read(paths[:1], source, name)


def fingerprint_of(raw: bytes) -> str:
    """The SHA-256 of the bytes, hex."""
    return hashlib.sha256(raw).hexdigest()


def smallest_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest integer type of both numpy and torch that holds the numbers of all tokens."""
    return np.dtype(np.uint8 if vocab_size <= 2**8 else np.int16 if vocab_size <= 2**15 else np.int32)
