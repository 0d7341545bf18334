"""The Time Machine by H. G. Wells.

Source: d2l 9.2.
"""

from __future__ import annotations

import re
from typing import Any

from dlcli.data.corpus import read_remote
from dlcli.data.text import TextData
from dlcli.data.vocabulary import Vocabulary
from dlcli.registry import DATA


@DATA.register("time_machine")
class TimeMachine(TextData):
    """The novel; if ``clean``, as the book reads it: lower-case letters, and one space for everything between them."""

    def __init__(self, vocabulary: Vocabulary | None = None, *, clean: bool, **options: Any):
        corpus = read_remote("time_machine")
        super().__init__(corpus._replace(text=cleaned(corpus.text)) if clean else corpus, vocabulary, **options)


def cleaned(text: str) -> str:
    """Lower-case letters with one space for every run of anything else."""
    return re.sub("[^A-Za-z]+", " ", text).lower()
