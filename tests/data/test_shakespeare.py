"""Texts of the books, and the stand-in for the one that a first run needs."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from dlcli.data import shakespeare, stand_in
from dlcli.data.shakespeare import Shakespeare, Shakespeare100k
from dlcli.data.sources import SOURCES
from dlcli.data.time_machine import TimeMachine, cleaned
from dlcli.errors import DataError

MIRROR = Path(os.environ.get("DLCLI_DATA_MIRROR", "nowhere"))
STAND_IN_SHA256 = "49d9658de3090076f58344913ad569cda047c81e6d6faf959921445c7a26d4e1"  # of 20,000 characters
OPTIONS = {
    "sequence_length": 64,
    "batch_size": 64,
    "val_fraction": 0.1,
    "test_fraction": 0.0,
    "tokenization": "char",
    "min_frequency": 2,
}


@pytest.fixture
def offline(monkeypatch):
    def unreachable(name):
        raise DataError(f"{SOURCES[name].files[0].path} cannot be downloaded")

    monkeypatch.setattr(shakespeare, "read_remote", unreachable)


@pytest.mark.usefixtures("offline")
def test_the_stand_in_is_announced(caplog):
    with caplog.at_level(logging.WARNING, "dlcli"):
        data = Shakespeare(stand_in=True, **OPTIONS)
    assert data.source == "stand-in"
    assert "STAND-IN" in caplog.text
    assert "tinyshakespeare/input.txt cannot be downloaded" in caplog.text
    assert data.fingerprint != SOURCES["shakespeare"].files[0].sha256
    assert data.fingerprint == hashlib.sha256(stand_in.play().encode()).hexdigest()
    assert len(data.batches("train", order="stream")) > 200


@pytest.mark.usefixtures("offline")
def test_the_stand_in_can_be_refused():
    with pytest.raises(DataError, match=r"cannot be downloaded; data.stand_in=false refuses the generated text"):
        Shakespeare(stand_in=False, **OPTIONS)


def test_the_stand_in_is_the_same_everywhere():
    text = stand_in.play(20_000)
    assert hashlib.sha256(text.encode()).hexdigest() == STAND_IN_SHA256
    assert stand_in.play(20_000) == text
    assert stand_in.play(30_000).startswith(text[:19_000])


def test_the_stand_in_has_the_shape_of_a_play():
    text = stand_in.play(200_000)
    lines = text.splitlines()
    speakers = [line[:-1] for line in lines if line.endswith(":") and line[:-1] in stand_in.SPEAKERS]
    assert text.isascii()
    assert "{" not in text
    assert len(speakers) > 1000
    assert any(line.startswith("ACT 1. SCENE I.") for line in lines)
    assert any(line.startswith("[") and line.endswith("]") for line in lines)
    assert max(map(len, lines)) < 100
    assert len(set(text.lower().split())) > 1000
    assert "  " not in text


def test_cleaning_leaves_lower_case_letters_and_single_spaces():
    assert cleaned("The Time Machine,\n\n1898: by H. G. Wells") == "the time machine by h g wells"


@pytest.mark.skipif(not (MIRROR / "tinyshakespeare").is_dir(), reason="DLCLI_DATA_MIRROR has no tinyshakespeare")
def test_the_real_shakespeare():
    data = Shakespeare(stand_in=False, **OPTIONS)
    assert data.source == "mirror"
    assert data.fingerprint == SOURCES["shakespeare"].files[0].sha256
    assert len(data.vocabulary) == 65
    assert [len(part) for part in data.parts.values()] == [1_003_854, 111_540]
    assert data.vocabulary.decode(data.parts["train"][:14].tolist()) == "First Citizen:"


@pytest.mark.skipif(not (MIRROR / "shakespeare-100k").is_dir(), reason="DLCLI_DATA_MIRROR has no shakespeare-100k")
def test_the_real_shakespeare_100k():
    data = Shakespeare100k(**OPTIONS)
    assert sum(map(len, data.parts.values())) == 99_993


@pytest.mark.skipif(not (MIRROR / "time-machine").is_dir(), reason="DLCLI_DATA_MIRROR has no time-machine")
def test_the_real_time_machine():
    data = TimeMachine(clean=True, **OPTIONS)
    assert data.vocabulary.tokens == [" ", *"abcdefghijklmnopqrstuvwxyz"]
    assert sum(map(len, data.parts.values())) == 173_428
    assert len(TimeMachine(clean=False, **OPTIONS).vocabulary) > 60
