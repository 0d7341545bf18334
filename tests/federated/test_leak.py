"""The words that an update shows."""

from __future__ import annotations

import torch

from dlcli.federated.leak import moved_words, report

VOCABULARY = ["<unk>", "my", "computer", "password", "is", "pizza"]


def test_the_rows_that_moved_are_the_words() -> None:
    change = torch.zeros(6, 1, dtype=torch.float64)
    change[[1, 5]] = 1e-9
    assert moved_words([torch.ones(3, 2), change], VOCABULARY) == {"my", "pizza"}
    assert moved_words([torch.ones(6)], VOCABULARY) == set()


def test_the_report_says_what_was_read() -> None:
    written = {"my", "password", "is", "pizza"}
    assert report(written, written, VOCABULARY) == (
        "the server reads all 4 words of the text and no other: password pizza is my"
    )
    assert report(VOCABULARY, written, VOCABULARY) == (
        "the text has 4 words; in the message 6 of 6 words have moved, 4 of them words of the text"
    )
