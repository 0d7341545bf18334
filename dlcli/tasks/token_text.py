"""Tokens as text: how many characters each stands for, and text that appears while tokens come one by one.

A vocabulary offers ``tokens`` (list of str), ``kind`` ("char", "word" or "byte"; a byte's id is its value),
``encode(text)`` and ``decode(ids)``.
"""

from __future__ import annotations

import codecs
from typing import Any

import torch
from torch import Tensor


def characters_per_token(vocabulary: Any) -> Tensor:
    """How many characters of text each token stands for, (V,) int64.

    A byte counts if a character begins with it in UTF-8. A word counts with the space that the vocabulary puts between
    it and its neighbour (one, however the text was laid out); a token that replaces rare words counts as it is written.
    """
    if vocabulary.kind == "byte":
        return torch.tensor([int(byte & 0b1100_0000 != 0b1000_0000) for byte in range(256)])
    if vocabulary.kind == "char":
        return torch.ones(len(vocabulary), dtype=torch.int64)
    alone = [len(vocabulary.decode([token])) for token in range(len(vocabulary))]
    twice = [len(vocabulary.decode([token, token])) for token in range(len(vocabulary))]
    return torch.tensor(twice) - torch.tensor(alone)


class TokenDecoder:
    """Turns tokens into the text that each adds after ``prompt``, the tokens before them (there may be none)."""

    def __init__(self, vocabulary: Any, prompt: list[int]):
        self.vocabulary = vocabulary
        self.prompt: str = self._begin(vocabulary.decode(prompt))
        self.last = prompt[-1] if prompt else None
        self.bytes = codecs.getincrementaldecoder("utf-8")("replace") if vocabulary.kind == "byte" else None

    def add(self, token: int) -> str:
        """The text that the token adds: nothing while a character's bytes are incomplete."""
        if self.bytes is not None:
            return self.bytes.decode(bytes([token]))
        if self.last is None:
            piece: str = self._begin(self.vocabulary.decode([token]))
        else:  # decoding the pair shows what stands between the two, such as a space
            before = self.vocabulary.decode([self.last])
            piece = self.vocabulary.decode([self.last, token])[len(before) :]
        self.last = token
        return piece

    def finish(self) -> str:
        """What is left at the end: a replacement character for an incomplete one, else nothing."""
        return self.bytes.decode(b"", final=True) if self.bytes is not None else ""

    def _begin(self, text: str) -> str:
        """A text that begins with a word does not begin with the space before it."""
        return text.removeprefix(" ") if self.vocabulary.kind == "word" else text
