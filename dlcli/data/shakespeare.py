"""Texts by and after Shakespeare.

Sources: A. Karpathy, char-rnn (tinyshakespeare); DLFS chapter 6 and GDL chapter 14 (the 100,000 characters).
"""

from __future__ import annotations

import logging
from typing import Any

from dlcli.data import stand_in as generated
from dlcli.data.corpus import Corpus, fingerprint_of, read_remote
from dlcli.data.text import TextData
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import DataError
from dlcli.registry import DATA

log = logging.getLogger("dlcli")


@DATA.register("shakespeare")
class Shakespeare(TextData):
    """About a million characters of Shakespeare's plays; without a network, a generated play in their shape.

    ``stand_in=False`` refuses the generated text: nothing but the real one will do.
    """

    def __init__(self, vocabulary: Vocabulary | None = None, *, stand_in: bool, **options: Any):
        super().__init__(read_or_stand_in(stand_in), vocabulary, **options)


@DATA.register("shakespeare_100k")
class Shakespeare100k(TextData):
    """99,993 characters that were sampled from a model of Shakespeare's plays."""

    def __init__(self, vocabulary: Vocabulary | None = None, **options: Any):
        super().__init__(read_remote("shakespeare_100k"), vocabulary, **options)


def read_or_stand_in(allowed: bool) -> Corpus:
    """The real text; if it cannot be had and ``allowed``, the generated one, with a warning.

    Raises:
        DataError: the real text cannot be had and the generated one is not allowed.
    """
    try:
        return read_remote("shakespeare")
    except DataError as error:
        if not allowed:
            raise DataError(f"{error}; data.stand_in=false refuses the generated text") from None
        log.warning("%s", error)
        log.warning("training on a STAND-IN: a generated play, not Shakespeare (data.stand_in=false refuses it)")
    text = generated.play()
    return Corpus(text, fingerprint_of(text.encode()), "stand-in", "the stand-in for shakespeare")
