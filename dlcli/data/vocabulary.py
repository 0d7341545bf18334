"""Vocabularies: the tokens of a text, from text to numbers and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, overload

import numpy as np

from dlcli.errors import ConfigError, DataError

Kind = Literal["char", "word", "byte"]
UNKNOWN = "<unk>"
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
NO_SPACE_BEFORE = frozenset(".,;:!?)]}’'”")


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
        return cls.of_counts(Counter(WORD.findall(text)), min_frequency)

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], min_frequency: int) -> Vocabulary:
        """Words from frequent to rare, those of one frequency in code order."""
        kept = [word for word, count in counts.items() if count >= min_frequency]
        return cls([UNKNOWN, *sorted(kept, key=lambda word: (-counts[word], word))], "word")

    def id_of(self, word: str) -> int:
        """The number of a token; that of ``<unk>`` for a word that is not in the vocabulary."""
        return self._ids.get(word, 0)

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
            return np.fromiter(map(self.id_of, words), dtype=np.int32, count=len(words))
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = np.take(self._table, codes, mode="clip")
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
