"""Mails of an employee of Enron, and spam: which of the two is a mail?

Sources: GDL chapter 15; V. Metsis, I. Androutsopoulos, G. Paliouras, "Spam filtering with naive Bayes - which naive
Bayes?" (CEAS 2006): the part "enron1" of their collection.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlcli.data.download import fetch_all
from dlcli.data.sources import fingerprint
from dlcli.data.splits import in_turns, random_order
from dlcli.data.vocabulary import Vocabulary
from dlcli.data.word_sets import LabelledText, WordSets, words_of
from dlcli.errors import ConfigError, DataError
from dlcli.hyperparameters import Count, Natural, Seed
from dlcli.registry import DATA

KINDS = ["ham", "spam"]


@DATA.register("enron_spam")
class EnronSpam(WordSets):
    """3,672 mails (ham) and 1,500 mails of spam, as sets of words.

    With ``distinct``, of the mails of a kind with the same words one is kept, before the parts are drawn, so that no
    test mail has been learned from. Mails that differ in a word, such as a changed number, are kept.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        *,
        batch_size: Count,
        max_words: Count,
        min_frequency: Count,
        val_size: Natural,
        test_size: Count,
        split_seed: Seed,
        balanced: bool,
        distinct: bool,
    ):
        """
        Args:
            vocabulary: that of a trained model.
            max_words: mails with as many different words are left out.
            min_frequency: words that fewer different training mails have are left out.
            val_size, test_size: mails of each kind. With a ``val_size`` of 0 the test mails validate too.
            split_seed: draws them.
            balanced: ham and spam take turns in training, the spam again and again until the ham is used up.
            distinct: keep one of the mails with the same words.

        Raises:
            DataError: the archive holds no mails. ConfigError: no mail of a kind is left to train on.
        """
        paths, self.source = fetch_all("enron_spam")
        self.fingerprint = fingerprint("enron_spam")
        mails = read(paths[0])
        if distinct:
            mails = without_repeats(mails)
        parts: dict[str, list[LabelledText]] = {"train": [], "val": [], "test": []}
        for label in range(len(KINDS)):
            kind = [mail for mail in mails if mail.label == label and len(mail.words) < max_words]
            held = test_size + val_size
            if held >= len(kind):
                raise ConfigError(
                    f"data.test_size={test_size} and data.val_size={val_size}: expected a sum below {len(kind):,}, "
                    f"the mails of {KINDS[label]} with less than {max_words} words"
                )
            order = random_order(len(kind), split_seed)
            for name, rows in zip(parts, (order[held:], order[test_size:held], order[:test_size]), strict=True):
                parts[name] += [kind[row] for row in rows]
        labels = np.array([mail.label for mail in parts["train"]])
        order = in_turns(labels) if balanced else random_order(len(labels), split_seed)
        parts["train"] = [parts["train"][row] for row in order]
        parts["val"] = parts["val"] or parts["test"]
        super().__init__(parts, vocabulary, KINDS, batch_size=batch_size, min_frequency=min_frequency)


def read(archive: Path) -> list[LabelledText]:
    """The mails of the archive, those of a kind in the order of their names, which begin with a number by date.

    Raises:
        DataError: it holds no mails where they are expected.
    """
    found: dict[str, LabelledText] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            kind = Path(member.name).parent.name
            stream = opened.extractfile(member) if kind in KINDS else None
            if stream is not None:
                text = stream.read().decode("latin-1")
                found[member.name] = LabelledText(words_of(text), KINDS.index(kind))
    if not found:
        raise DataError(f"{archive}: no mails in folders 'ham' and 'spam'")
    return [found[name] for name in sorted(found)]


def without_repeats(mails: Sequence[LabelledText]) -> list[LabelledText]:
    """The first mail of each kind with a set of words."""
    first: dict[tuple[int, frozenset[str]], LabelledText] = {}
    for mail in mails:
        first.setdefault((mail.label, frozenset(mail.words)), mail)
    return list(first.values())
