"""The Time Machine by H. G. Wells.

Source: d2l 9.2.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from dlcli.data.text import TextData, Vocabulary, read_remote
from dlcli.hyperparameters import Count, Gt, Lt, Probability
from dlcli.registry import DATA


@DATA.register("time_machine")
class TimeMachine(TextData):
    """The novel; if ``clean``, as the book reads it: lower-case letters, and one space for everything between them."""

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        *,
        clean: bool,
        sequence_length: Count,
        batch_size: Count,
        val_fraction: Annotated[float, Gt(0), Lt(1)],
        test_fraction: Probability,
        tokenization: Literal["char", "word", "byte"],
        min_frequency: Count,
    ):
        corpus = read_remote("time_machine")
        super().__init__(
            corpus._replace(text=cleaned(corpus.text)) if clean else corpus,
            vocabulary,
            sequence_length=sequence_length,
            batch_size=batch_size,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            tokenization=tokenization,
            min_frequency=min_frequency,
        )


def cleaned(text: str) -> str:
    """Lower-case letters with one space for every run of anything else."""
    return re.sub("[^A-Za-z]+", " ", text).lower()
