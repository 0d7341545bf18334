"""Texts: tokens, vocabularies, and the windows of a text that a language model reads.

Letters in shape comments: B sequences in a batch, T tokens in a sequence, S streams, L tokens of a stream.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, cast, overload

import numpy as np
import torch
from torch import Tensor

from dlcli.data.base import Batches, DataModule, Order, TokenBatch, generator, permutation
from dlcli.data.download import fetch_all
from dlcli.errors import ConfigError, DataError
from dlcli.spec import DataSpec

Kind = Literal["char", "word", "byte"]
UNKNOWN = "<unk>"
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
NO_SPACE_BEFORE = frozenset(".,;:!?)]}’'”")
EVALUATION_TOKENS = 16_384  # in one batch of windows
STREAM_WINDOW = 2048  # tokens of an evaluation's single stream that are read at once
EVALUATION_LOGITS = 1 << 25  # numbers that a batch of an evaluation may lead to


class Vocabulary(Sequence[str]):
    """The tokens of a text, numbered from 0. ``decode(a + b) == decode(a) + decode(b)``, except for half UTF-8 bytes.

    kind "char": one character each. "byte": the 256 bytes of UTF-8; their placeholders are the characters of the same
    code. "word": words and punctuation marks; ``<unk>``, token 0, stands for every other word.
    """

    def __init__(self, tokens: Sequence[str], kind: Kind):
        self.tokens = list(tokens)
        self.kind = kind
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if kind == "char":
            codes = np.array([ord(token) for token in self.tokens], dtype=np.int64)
            self._table = np.full(int(codes.max(initial=0)) + 2, -1, dtype=np.int32)  # the last entry is for the rest
            self._table[codes] = np.arange(len(codes))

    @classmethod
    def of(cls, text: str, kind: Kind, min_frequency: int = 1) -> Vocabulary:
        """The vocabulary of a text: characters in code order, all bytes, or words from frequent to rare."""
        if kind == "char":
            return cls(sorted(set(text)), kind)
        if kind == "byte":
            return cls([chr(code) for code in range(256)], kind)
        counts = Counter(WORD.findall(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([UNKNOWN, *(word for word in words if counts[word] >= min_frequency)], kind)

    def encode(self, text: str) -> list[int]:
        """The numbers of the tokens of a text.

        Raises:
            ConfigError: a character that is not in the vocabulary (kind "char").
        """
        return cast("list[int]", self.encode_array(text).tolist())

    def encode_array(self, text: str) -> np.ndarray[Any, Any]:
        """As ``encode``, but an integer array, (number of tokens,)."""
        if self.kind == "byte":
            return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        if self.kind == "word":
            words = WORD.findall(text)
            return np.fromiter((self._ids.get(word, 0) for word in words), dtype=np.int32, count=len(words))
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._table[np.minimum(codes, len(self._table) - 1)]
        if len(ids) and ids.min() < 0:
            unknown = text[int((ids < 0).argmax())]
            known = "".join(self.tokens) if len(self.tokens) <= 100 else f"{len(self.tokens)} characters"
            raise ConfigError(f"the character {unknown!r} is not in the vocabulary of the model; known: {known!r}")
        return cast("np.ndarray[Any, Any]", ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token numbers. Words come with a space before them, except before closing punctuation."""
        if self.kind == "byte":
            return bytes(ids).decode("utf-8", "replace")
        tokens = [self.tokens[index] for index in ids]
        if self.kind == "word":
            tokens = [token if token in NO_SPACE_BEFORE else " " + token for token in tokens]
        return "".join(tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` turns back into this vocabulary."""
        return {"kind": self.kind, "tokens": self.tokens}

    @classmethod
    def from_json(cls, values: Any) -> Vocabulary:
        """The vocabulary that ``to_json`` described.

        Raises:
            DataError: these values do not describe a vocabulary.
        """
        kind: Any
        tokens: Any
        kind, tokens = (values.get("kind"), values.get("tokens")) if isinstance(values, dict) else (None, None)
        listed = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if kind not in ("char", "word", "byte") or not listed or not 0 < len(set(tokens)) == len(tokens):
            raise DataError("not a vocabulary; expected a kind (char, word or byte) and a list of distinct tokens")
        fits = {"char": all(len(token) == 1 for token in tokens), "byte": len(tokens) == 256, "word": True}
        if not fits[kind]:
            raise DataError(f"not a vocabulary of kind {kind}: its tokens do not fit")
        return cls(tokens, kind)

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.tokens[index]


class Corpus(NamedTuple):
    """A text as it was read: its characters, the SHA-256 of its bytes, where it came from, what people call it."""

    text: str
    fingerprint: str
    source: str
    label: str


class TextData(DataModule):
    """A text as one tensor of token numbers; its splits are consecutive parts: train, val and, if asked for, test.

    Args:
        corpus: the text.
        vocabulary: that of a trained model; None takes it from the text.
        sequence_length: T, tokens in a training window.
        batch_size: B, windows or streams in a training batch.
        val_fraction, test_fraction: shares of the tokens at the end of the text.
        tokenization: what a token is.
        min_frequency: words that the training part has less often become ``<unk>``.

    Raises:
        DataError: a part is too short.
        ConfigError: nothing is left to train on.
    """

    provides: ClassVar[tuple[str, ...]] = ("vocab_size", "sequence_length")
    splits: tuple[str, ...] = ("train", "val")
    unit: ClassVar[str] = "tokens"
    identity: ClassVar[str] = "line"

    def __init__(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary | None = None,
        *,
        sequence_length: int,
        batch_size: int,
        val_fraction: float,
        test_fraction: float,
        tokenization: Kind,
        min_frequency: int,
    ):
        if val_fraction + test_fraction >= 1:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum below 1"
            )
        self.batch_size = batch_size
        self.source, self.fingerprint, self.label = corpus.source, corpus.fingerprint, corpus.label
        shares = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
        if vocabulary is None:
            vocabulary = build_vocabulary(corpus.text, tokenization, min_frequency, shares["train"])
        self.vocabulary: Vocabulary = vocabulary
        tokens = tensor_of(self.vocabulary.encode_array(corpus.text), len(self.vocabulary))  # (tokens of the text,)
        trained = int(len(tokens) * shares["train"])
        ends = [trained, len(tokens) - int(len(tokens) * test_fraction)]
        parts = dict(zip(shares, tokens.tensor_split(ends), strict=True))
        self.parts = {split: part for split, part in parts.items() if shares[split] > 0}
        self.splits = tuple(self.parts)  # a test part only if it was asked for
        self.spec = DataSpec(vocab_size=len(self.vocabulary), sequence_length=sequence_length)
        self._check_lengths(sequence_length)

    def _check_lengths(self, sequence_length: int) -> None:
        for split, part in self.parts.items():
            needed = 2 * sequence_length if split == "train" else 2  # a window at every offset, and its last target
            if len(part) < needed:
                remedy = "smaller data.sequence_length" if split == "train" else f"larger data.{split}_fraction"
                raise DataError(
                    f"{self.label}: too short: its {split} part has {len(part):,} tokens and needs at least {needed:,} "
                    f"for data.sequence_length={sequence_length}; give a longer text or a {remedy}"
                )

    def batches(self, split: str, *, order: Order, seed: int = 0, epoch: int = 0) -> Batches:
        """The batches of one pass. Each is a TokenBatch of (B, T) int64.

        "stream", train: ``batch_size`` parallel streams, read in consecutive windows from an offset below T.
        "stream", other splits: one stream in long windows, every target once; the last window is shorter.
        "shuffled": a permutation of windows that do not overlap, from an offset below T.
        "sequential": windows in the order of the text, every target once; the last batch is the shorter last window.
        Offset and permutation are functions of seed and epoch alone.

        Raises:
            DataError: the text is too short for ``batch_size`` streams.
        """
        part, length = self.parts[split], cast(int, self.spec.sequence_length)
        if order == "stream" and split == "train":
            streams = (len(part) - length) // self.batch_size  # tokens in each, the same at every offset
            if streams < length:
                raise DataError(
                    f"{self.label}: too short: {self.batch_size} streams of {length} tokens need "
                    f"{length * (self.batch_size + 1):,} tokens, the train part has {len(part):,}; "
                    "give a longer text, or a smaller data.batch_size or data.sequence_length"
                )
            return StreamBatches(part[_offset(length, seed, epoch) :], self.batch_size, streams, length)
        if order == "stream":
            return StreamBatches(part, 1, len(part) - 1, self._evaluation_tokens(STREAM_WINDOW), partial=True)
        size = self.batch_size if split == "train" else max(1, self._evaluation_tokens(EVALUATION_TOKENS) // length)
        if order == "sequential":
            return WindowBatches(part, None, size, length, (len(part) - 1) // length)
        count = (len(part) - length) // length  # the same at every offset
        if count < 1:
            raise DataError(f"{self.label}: too short: its {split} part of {len(part):,} tokens has no whole window")
        return WindowBatches(part[_offset(length, seed, epoch) :], permutation(count, seed, epoch), size, length, count)

    def _evaluation_tokens(self, most: int) -> int:
        return max(1, min(most, EVALUATION_LOGITS // len(self.vocabulary)))

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> Iterable[tuple[list[str], Any]]:
        """The lines of a text file, each a sequence of its own."""
        from dlcli.data.text_lines import TextLines

        return TextLines(path, preprocessing)

    def to(self, device: torch.device) -> None:
        self.parts = {split: part.to(device) for split, part in self.parts.items()}

    def describe(self) -> dict[str, str]:
        rows = {split: f"{len(part):,} tokens" for split, part in self.parts.items()}
        kinds = {"char": "characters", "word": "words", "byte": "bytes"}
        tokens = f"{len(self.vocabulary):,} {kinds[self.vocabulary.kind]}"
        return {**rows, "vocabulary": tokens, "source": self.source}


class StreamBatches:
    """Consecutive windows of S parallel streams of L tokens: batch i holds tokens i*T to (i+1)*T of every stream."""

    def __init__(self, tokens: Tensor, streams: int, length: int, window: int, *, partial: bool = False):
        # tokens and their successors, (2, S, L), without a copy
        self.pairs = tokens.as_strided((2, streams, length), (1, length, 1), tokens.storage_offset())
        self.window = window
        self.length = length if partial else length // window * window

    def __len__(self) -> int:
        return -(-self.length // self.window)

    def __getitem__(self, index: int) -> TokenBatch:
        start = index * self.window
        size = min(self.window, self.length - start)
        if index < 0 or size <= 0:
            raise IndexError(index)
        return _token_batch(self.pairs.narrow(2, start, size))


class WindowBatches:
    """Windows of T tokens that do not overlap, gathered in the order of ``indices`` or as they stand in the text."""

    def __init__(self, tokens: Tensor, indices: Tensor | None, batch_size: int, window: int, count: int):
        self.tokens = tokens
        self.indices = indices.to(tokens.device) if indices is not None else None
        self.batch_size = batch_size
        self.window = window
        self.count = count
        # a window and the token after it, (count, T + 1), without a copy
        self.windows = tokens.as_strided((count, window + 1), (window, 1), tokens.storage_offset())
        self.rest = 0 if indices is not None else len(tokens) - 1 - count * window  # targets after the last window

    def __len__(self) -> int:
        return -(-self.count // self.batch_size) + (self.rest > 0)

    def __getitem__(self, index: int) -> TokenBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.batch_size
        if start >= self.count:
            last = self.tokens[self.count * self.window :]
            return _token_batch(last.unfold(0, self.rest, 1).unsqueeze(1))
        size = min(self.batch_size, self.count - start)
        if self.indices is None:
            chosen = self.windows.narrow(0, start, size)
        else:
            chosen = self.windows.index_select(0, self.indices.narrow(0, start, size))
        return _token_batch(chosen.unfold(1, self.window, 1).permute(1, 0, 2))


def _token_batch(pairs: Tensor) -> TokenBatch:
    """A batch from tokens and their successors, (2, B, T) of any integer type and any strides."""
    tokens, targets = pairs.to(torch.int64, memory_format=torch.contiguous_format).unbind(0)
    return TokenBatch(tokens, targets)


def _offset(length: int, seed: int, epoch: int) -> int:
    """Where the first window starts: below ``length``, a function of seed and epoch."""
    return int(torch.randint(length, (), generator=generator(seed, epoch, 1)))


def build_vocabulary(text: str, kind: Kind, min_frequency: int, train_share: float) -> Vocabulary:
    """Characters of the whole text, as char-rnn has it, but words of the training part only."""
    if kind != "word":
        return Vocabulary.of(text, kind)
    words = list(WORD.finditer(text))
    count = int(len(words) * train_share)
    return Vocabulary.of(text[: words[count - 1].end()] if count else "", kind, min_frequency)


def tensor_of(ids: np.ndarray[Any, Any], vocab_size: int) -> Tensor:
    """Token numbers in the smallest integer type that holds them."""
    kind = np.uint8 if vocab_size <= 2**8 else np.int16 if vocab_size <= 2**15 else np.int32
    return torch.from_numpy(ids.astype(kind))


def read_remote(name: str) -> Corpus:
    """The one text file of a data set of ``sources.SOURCES``.

    Raises:
        DataError: nothing that can be reached has the file.
    """
    paths, source = fetch_all(name)
    raw = paths[0].read_bytes()
    return Corpus(decode_utf8(raw, str(paths[0])), fingerprint_of(raw), source, name)


def decode_utf8(raw: bytes, label: str) -> str:
    """The characters of a text file, without a byte-order mark and with \\n at the end of lines.

    Raises:
        DataError: empty, binary, or not UTF-8; with the place.
    """
    if not raw.strip():
        raise DataError(f"{label}: the text is empty")
    if b"\0" in raw:
        raise DataError(f"{label}: not a text: byte {raw.index(0):,} is NUL; give a file of UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{label}:{line}: not UTF-8 at byte {error.start:,} (0x{raw[error.start]:02x}); save the text as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def fingerprint_of(raw: bytes) -> str:
    """The SHA-256 of the bytes, hex."""
    return hashlib.sha256(raw).hexdigest()
