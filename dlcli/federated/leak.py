"""What a server can read from one client's message: the words of a text that moved a model's word vectors.

Source: GDL chapter 15: training on a text changes the vectors of its words and no others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from torch import Tensor

SHOWN = 12  # words, the longest


def moved_words(changes: Iterable[Tensor], vocabulary: Sequence[str]) -> set[str]:
    """The words whose rows have changed in any parameter that has one row for each word.

    Args:
        changes: of each parameter, in its shape.
        vocabulary: the words, (V,).
    """
    rows = [change.ne(0).any(1) for change in changes if change.ndim == 2 and len(change) == len(vocabulary)]
    return {word for found in rows for word, moved in zip(vocabulary, found.tolist(), strict=True) if moved}


def report(read: Collection[str], written: Collection[str], vocabulary: Sequence[str]) -> str:
    """One line about what the server reads when a client has learned from one text.

    Args:
        read: the words that have moved in the message, as the server sees it.
        written: the words of the text, of those that are in the vocabulary.
        vocabulary: all words.
    """
    if set(read) == set(written):
        words = " ".join(sorted(read, key=lambda word: (-len(word), word))[:SHOWN]) + (
            " …" if len(read) > SHOWN else ""
        )
        return f"the server reads all {len(read):,} words of the text and no other: {words}"
    return (
        f"the text has {len(written):,} words; in the message {len(read):,} of {len(vocabulary):,} words have moved, "
        f"{len(set(read) & set(written)):,} of them words of the text"
    )
