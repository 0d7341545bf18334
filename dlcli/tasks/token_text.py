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

    A word counts the space that follows it. A byte counts if a character begins with it in UTF-8. A token that replaces
    rare words counts as it is written, since the word is not known.
    """
    if vocabulary.kind == "byte":
        return torch.tensor([int(byte & 0b1100_0000 != 0b1000_0000) for byte in range(256)])
    space = 1 if vocabulary.kind == "word" else 0
    return torch.tensor([len(token) + space for token in vocabulary.tokens])


class TokenDecoder:
    """Turns tokens into the text that each adds. ``last`` is the token before the first, if there is one."""

    def __init__(self, vocabulary: Any, last: int | None):
        self.vocabulary = vocabulary
        self.last = last
        self.bytes = codecs.getincrementaldecoder("utf-8")("replace") if vocabulary.kind == "byte" else None

    def add(self, token: int) -> str:
        """The text that the token adds: nothing while a character's bytes are incomplete."""
        if self.bytes is not None:
            return self.bytes.decode(bytes([token]))
        if self.last is None:
            piece: str = self.vocabulary.decode([token])
        else:  # decoding the pair shows what stands between the two, such as a space
            before = self.vocabulary.decode([self.last])
            piece = self.vocabulary.decode([self.last, token])[len(before) :]
        self.last = token
        return piece

    def finish(self) -> str:
        """What is left at the end: a replacement character for an incomplete one, else nothing."""
        return self.bytes.decode(b"", final=True) if self.bytes is not None else ""
