"""Texts that are not held in memory: read in a stream and tokenised into a file."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlcli.data.corpus import Tokenised, smallest_type
from dlcli.data.text_reading import pieces
from dlcli.data.token_cache import mapped_tokens
from dlcli.data.vocabulary import WORD, Kind, Vocabulary
from dlcli.errors import DataError

log = logging.getLogger("dlcli")

VERSION = 1  # of the way of tokenising; another one makes the files anew
ANNOUNCED = 1 << 28  # so many bytes of text take a while
MAX_WORD = 1 << 20  # characters
MAX_WORDS = 1 << 22  # different ones: about half a gigabyte while they are counted
BLOCK = 1 << 20  # words that are counted together
CHARACTERS = 0x110000  # that there can be
REMEDY = "use data.tokenization=char or byte"
Ids = np.ndarray[Any, Any]


class LargeText(NamedTuple):
    """Text files on the disk, where they came from, what people call them. Offers what ``Corpus`` offers."""

    files: tuple[Path, ...]
    source: str
    label: str

    def tokenised(self, vocabulary: Vocabulary | None, kind: Kind, min_frequency: int, train_share: float) -> Tokenised:
        """The same as ``Corpus.tokenised``, but the tokens lie in a file of the cache.

        Raises:
            DataError: a file cannot be read or changes meanwhile, or a word is too long, or there are too many.
            ResourceError: the disk is full.
        """
        options: list[Any] = [VERSION, kind if vocabulary is None else vocabulary.to_json()]
        if vocabulary is None and kind == "word":
            options += [min_frequency, train_share]

        def write(folder: Path) -> tuple[Vocabulary, str]:
            size = sum(file.stat().st_size for file in self.files)
            if size > ANNOUNCED:
                log.warning("tokenising %s (%.1f GB), this once; the tokens are kept", self.label, size / 1e9)
            digest = hashlib.sha256()
            if vocabulary is None and kind == "word":
                return self._count_and_write(folder, digest, min_frequency, train_share), digest.hexdigest()
            if vocabulary is None and kind == "char":
                known = characters_of(pieces(self.files))
            else:
                known = vocabulary or Vocabulary.of("", kind)
            text = pieces(self.files, digest)
            if known.kind == "word":
                text = whole_words(text, self.label)
            _write(folder / "tokens", (known.encode_array(piece) for piece in text), smallest_type(len(known)))
            return known, digest.hexdigest()

        return mapped_tokens(self.files, options, self.label, write)

    def _count_and_write(self, folder: Path, digest: Any, min_frequency: int, train_share: float) -> Vocabulary:
        """Words need one look at the text and one at numbers: how many are trained on is known at the end only."""
        drafts: defaultdict[str, int] = defaultdict()  # numbers of the words in the order in which they come
        drafts.default_factory = drafts.__len__
        draft = folder / "draft"
        _write(draft, self._drafted(drafts, digest), np.dtype(np.int32))
        ids = np.memmap(draft, dtype=np.int32, mode="r")
        trained = int(len(ids) * train_share)
        counts = np.zeros(len(drafts), dtype=np.int64)
        for start in range(0, trained, BLOCK):
            np.add.at(counts, ids[start : min(start + BLOCK, trained)], 1)
        numbered = zip(drafts, counts.tolist(), strict=True)
        vocabulary = Vocabulary.of_counts({word: count for word, count in numbered if count}, min_frequency)
        final = np.fromiter(map(vocabulary.id_of, drafts), dtype=np.int32, count=len(drafts))
        kind = smallest_type(len(vocabulary))
        _write(folder / "tokens", (final[ids[start : start + BLOCK]] for start in range(0, len(ids), BLOCK)), kind)
        draft.unlink()
        return vocabulary

    def _drafted(self, drafts: defaultdict[str, int], digest: Any) -> Iterator[Ids]:
        for piece in whole_words(pieces(self.files, digest), self.label):
            words = WORD.findall(piece)
            yield np.fromiter(map(drafts.__getitem__, words), dtype=np.int32, count=len(words))
            if len(drafts) > MAX_WORDS:
                raise DataError(f"{self.label}: more than {MAX_WORDS:,} different words; {REMEDY}")


def _write(file: Path, arrays: Iterable[Ids], kind: np.dtype[Any]) -> None:
    with file.open("wb") as output:
        for ids in arrays:
            output.write(ids.astype(kind, copy=False).data)


def characters_of(text: Iterable[str]) -> Vocabulary:
    """As ``Vocabulary.of`` for a text that comes in pieces."""
    seen = np.zeros(CHARACTERS, dtype=bool)
    for piece in text:
        seen[np.frombuffer(piece.encode("utf-32-le"), dtype=np.uint32)] = True
    return Vocabulary([chr(code) for code in np.flatnonzero(seen)], "char")


def whole_words(text: Iterable[str], label: str) -> Iterator[str]:
    """The same text in pieces between which no word continues.

    Raises:
        DataError: a word of more than ``MAX_WORD`` characters.
    """
    rest = ""
    for piece in text:
        rest += piece
        end = len(rest)
        while end and (rest[end - 1].isalnum() or rest[end - 1] in "_'’"):  # what ``WORD`` may continue after
            end -= 1
        if len(rest) - end > MAX_WORD:
            raise DataError(f"{label}: a word of more than {MAX_WORD:,} characters; {REMEDY}")
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest
