"""Texts as sets of words, made up and real."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlcli import train
from dlcli.data import enron_spam
from dlcli.data.splits import in_turns
from dlcli.data.vocabulary import Vocabulary
from dlcli.data.word_sets import LabelledText, WordSets, padded, words_of
from dlcli.errors import ConfigError, DataError
from dlcli.registry import DATA
from dlcli.saved_run import SavedRun

TEXTS = [
    LabelledText(words_of("Buy now , buy cheap"), 1),
    LabelledText(words_of("the meeting is now"), 0),
    LabelledText(words_of("the meeting is cheap"), 0),
]


def sets(texts: list[LabelledText] = TEXTS, vocabulary: Vocabulary | None = None) -> WordSets:
    return WordSets({"train": texts, "val": TEXTS[:1]}, vocabulary, ["ham", "spam"], batch_size=2, min_frequency=2)


def test_a_word_counts_once_in_a_text() -> None:
    assert words_of("Buy now , buy now !") == ("Buy", "now", ",", "buy", "!")


def test_words_of_enough_texts_are_kept_and_others_left_out() -> None:
    data = sets()
    assert list(data.vocabulary) == ["<unk>", "cheap", "is", "meeting", "now", "the"]
    words, labels = data.batches("train", order="sequential")[0]
    assert words.tolist() == [[4, 1, 0, 0], [5, 3, 2, 4]]
    assert (words.dtype, labels.tolist()) == (torch.int64, [1, 0])
    assert data.spec.defined() == {"vocab_size": 6, "num_outputs": 2, "num_classes": 2}
    assert data.class_counts == [2, 1]


def test_a_text_that_is_repeated_counts_once_for_the_vocabulary() -> None:
    assert list(sets([TEXTS[0]] * 3 + TEXTS[1:]).vocabulary) == list(sets().vocabulary)


def test_a_trained_vocabulary_is_kept() -> None:
    vocabulary = Vocabulary(["<unk>", "meeting"], "word")
    assert sets(vocabulary=vocabulary).tensors["train"][0].tolist() == [[0], [1], [1]]
    assert padded([("none",)], vocabulary).tolist() == [[0]]


def test_lines_of_a_file_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "mails.txt"
    file.write_text("cheap cheap meeting\n\nnothing\n")
    kept = {"vocabulary": sets().vocabulary.to_json()}
    inputs = WordSets.prediction_inputs(file, kept)
    ((numbers, batch),) = list(inputs)
    assert (inputs.identity, inputs.notes) == ("line", {})
    assert numbers == ["1", "3"]
    assert batch.words.tolist() == [[1, 3], [0, 0]]
    with pytest.raises(DataError, match="cannot be read"):
        WordSets.prediction_inputs(tmp_path / "none.txt", kept)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        WordSets.prediction_inputs(file, kept)


def test_classes_take_turns_and_the_rarer_begins_again() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1])
    assert in_turns(labels).tolist() == [0, 3, 1, 5, 2, 3, 4, 5]


def enron(**changes: Any) -> Any:
    values = {"max_words": 500, "min_frequency": 8, "val_size": 0, "test_size": 500, "split_seed": 0}
    values |= {"balanced": True, "distinct": True}
    return DATA.build({"name": "enron_spam", "batch_size": 32, **values, **changes})


@pytest.mark.usefixtures("mirror")
def test_the_mails_are_divided_as_the_book_divides_its_own() -> None:
    data = enron()
    words, labels = data.tensors["train"]
    assert (len(words), labels.tolist()[:4]) == (5830, [0, 1, 0, 1])  # 3,415 different ones - 500, twice
    assert data.tensors["test"][1].bincount().tolist() == [500, 500]
    assert words.shape[1] < 500
    assert data.spec.vocab_size <= 5000


def test_of_mails_with_the_same_words_the_first_is_kept() -> None:
    texts = [("b a", 0), ("a", 0), ("a b b", 0), ("a b", 1), ("a", 0)]
    mails = [LabelledText(words_of(text), label) for text, label in texts]
    assert enron_spam.without_repeats(mails) == [mails[0], mails[1], mails[3]]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive like that of the mails: 8 of ham and 5 of spam, of which one is long."""
    file = tmp_path / "enron1.tar.gz"
    with tarfile.open(file, "w:gz") as opened:
        texts = {f"enron1/ham/{number}.txt": f"meeting at n{number}" for number in range(8)}
        texts |= {f"enron1/spam/{number}.txt": f"cheap café x{number}" for number in range(4)}
        texts |= {"enron1/ham/8.txt": "at n3 at meeting", "enron1/spam/4.txt": "cheap café x0"}  # repeated ones
        texts |= {"enron1/spam/9.txt": " ".join(f"w{number}" for number in range(20)), "enron1/Summary.txt": "13 mails"}
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode("latin-1"))
            opened.addfile(member, io.BytesIO(text.encode("latin-1")))
    monkeypatch.setattr(enron_spam, "fetch_all", lambda _: ([file], "mirror"))
    return file


@pytest.mark.usefixtures("archive")
def test_mails_are_read_and_divided() -> None:
    small = {"max_words": 20, "min_frequency": 2, "test_size": 1}
    data = enron(**small)
    assert list(data.vocabulary) == ["<unk>", "at", "meeting", "café", "cheap"]
    assert {split: len(labels) for split, (_, labels) in data.tensors.items()} == {"train": 14, "val": 2, "test": 2}
    assert data.tensors["train"][1].tolist() == [0, 1] * 7
    assert data.tensors["val"][0].equal(data.tensors["test"][0])
    once = enron(**small, balanced=False, val_size=1)
    assert {split: len(labels) for split, (_, labels) in once.tensors.items()} == {"train": 8, "val": 2, "test": 2}
    assert once.class_counts == [6, 2]
    assert enron(**small, balanced=False, val_size=1, distinct=False).class_counts == [7, 3]
    with pytest.raises(
        ConfigError, match=r"test_size=3 and data.val_size=1: expected a sum below 4, the mails of spam"
    ):
        enron(**{**small, "test_size": 3, "val_size": 1})


def test_an_archive_without_mails_is_refused(archive: Path) -> None:
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(DataError, match="no mails in folders 'ham' and 'spam'"):
        enron()


@pytest.mark.usefixtures("archive")
def test_a_trained_run_says_of_each_line_what_it_is(tmp_path: Path) -> None:
    options = ["max_words=20", "min_frequency=1", "test_size=1", "val_size=1", "batch_size=2"]
    run = train(["data=enron_spam", *(f"data.{option}" for option in options), f"run_dir={tmp_path}"])
    file = tmp_path / "mails.txt"
    file.write_text("a meeting at noon\n\ncheap !\n")
    rows = list(SavedRun(run.directory).predictions(file))
    assert [(row["line"], row["label"]) for row in rows] == [(["1", "3"], ["ham", "spam"])]


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("none", "the server reads all 3 words of the text and no other: meeting"),
        ("masks", "the text has 3 words; in the message 15 of 15 words have moved, 3 of them words of the text"),
    ],
)
def test_an_update_shows_its_words_unless_it_is_protected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, line: str
) -> None:
    options = ["data.max_words=20", "data.min_frequency=1", "data.test_size=1", "data.val_size=0", "data.batch_size=2"]
    federated = ["trainer=federated_averaging", "trainer.rounds=1", "trainer.partition=consecutive"]
    shown = ["trainer.show_leak=true", f"trainer.secure_aggregation={kind}", f"run_dir={tmp_path}"]
    train(["data=enron_spam", *options, *federated, *shown], quiet=False)
    assert line in capsys.readouterr().out
