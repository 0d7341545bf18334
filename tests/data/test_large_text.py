"""Texts that are tokenised into a mapped file: equal to texts in memory, kept, checked, and made by one process."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dlcli.data import download, large_text, text, text_file, text_reading, token_cache
from dlcli.data.corpus import Tokenised, read
from dlcli.data.large_permutation import LargePermutation
from dlcli.data.large_text import LargeText, whole_words
from dlcli.data.text_file import TextFile
from dlcli.data.vocabulary import WORD, Vocabulary
from dlcli.errors import ConfigError, DataError, ResourceError

OPTIONS = {
    "sequence_length": 8,
    "batch_size": 4,
    "val_fraction": 0.2,
    "test_fraction": 0.1,
    "tokenization": "char",
    "min_frequency": 2,
}
PLAY = (
    "First Citizen:\r\nWe don't know o’clock, naïve 🙂 ladies_and gentle-men!\r\n"
    + "".join(f"Line {i * i % 97} of the café, said {i % 13}.\n" for i in range(120))
    + "\u3000\u00a0end\r"
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLCLI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 7 bytes cut words, characters and line ends in two."""
    monkeypatch.setattr(text_file, "LARGE", 0)
    monkeypatch.setattr(text_reading, "PIECE", 7)
    monkeypatch.setattr(large_text, "BLOCK", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "plays"
    path.mkdir()
    (path / "a.txt").write_bytes(b"\xef\xbb\xbf" + PLAY.encode())
    (path / "b.txt").write_bytes(PLAY[::-1].encode("utf-16"))
    return path


def own(path: Path, vocabulary: Vocabulary | None = None, **options: object) -> TextFile:
    return TextFile(vocabulary, path=str(path), **{**OPTIONS, **options})


def folders(tmp_path: Path) -> list[Path]:
    """Of the cache, those with tokens."""
    return [path.parent for path in (tmp_path / "cache" / "texts").glob("*/tokens")]


@pytest.mark.parametrize("tokenization", ["char", "word", "byte"])
@pytest.mark.parametrize("given", [False, True])
def test_a_mapped_text_is_the_text_in_memory(
    folder: Path, tokenization: str, given: bool, request: pytest.FixtureRequest
):
    vocabulary = Vocabulary.of(PLAY, tokenization, 5) if given else None  # type: ignore[arg-type]
    small = own(folder, vocabulary, tokenization=tokenization)
    request.getfixturevalue("everything_is_large")
    large = own(folder, vocabulary, tokenization=tokenization)
    assert (small.mapped, large.mapped) == (False, True)
    assert large.vocabulary.to_json() == small.vocabulary.to_json()
    assert large.spec == small.spec
    assert large.fingerprint == small.fingerprint
    assert large.describe() == small.describe()
    assert large.splits == small.splits == ("train", "val", "test")
    for split in small.splits:
        assert torch.equal(large.parts[split], small.parts[split])
        assert large.parts[split].dtype == small.parts[split].dtype
        for order in ("stream", "shuffled", "sequential"):
            pairs = zip(
                *(data.batches(split, order=order, seed=3, epoch=2) for data in (large, small)),  # type: ignore[arg-type]
                strict=True,
            )
            assert all(torch.equal(a.tokens, b.tokens) and torch.equal(a.targets, b.targets) for a, b in pairs)


def test_the_size_decides(folder: Path, monkeypatch: pytest.MonkeyPatch):
    size = sum(file.stat().st_size for file in folder.iterdir())
    monkeypatch.setattr(text_file, "LARGE", size)
    assert not own(folder).mapped
    monkeypatch.setattr(text_file, "LARGE", size - 1)
    assert own(folder).mapped


@pytest.mark.usefixtures("everything_is_large")
def test_a_text_is_tokenised_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own(folder)
    calls = []
    monkeypatch.setattr(large_text, "pieces", lambda *arguments: calls.append(arguments) or iter(()))
    assert own(folder, val_fraction=0.3, min_frequency=7).mapped  # which change nothing about characters
    assert not calls
    assert len(folders(tmp_path)) == 1
    assert not list((tmp_path / "cache" / "texts").glob(".*"))


@pytest.mark.usefixtures("everything_is_large")
def test_other_options_are_other_tokens(folder: Path, tmp_path: Path):
    sizes = {len(own(folder, tokenization="word", **options).vocabulary) for options in ({}, {"min_frequency": 9})}
    assert len(sizes) == 2
    own(folder, tokenization="word", val_fraction=0.5)
    own(folder, tokenization="byte")
    assert len(folders(tmp_path)) == 4


@pytest.mark.usefixtures("everything_is_large")
def test_a_changed_text_is_tokenised_again_and_a_moved_one_shares_its_tokens(folder: Path, tmp_path: Path):
    before = own(folder)
    moved = folder.rename(tmp_path / "moved")
    assert own(moved).fingerprint == before.fingerprint
    assert len(folders(tmp_path)) == 1
    (moved / "a.txt").write_text(PLAY.replace("café", "cave"))
    after = own(moved)
    assert after.fingerprint != before.fingerprint
    assert "cave" in after.vocabulary.decode(after.parts["train"].tolist())


@pytest.mark.parametrize("damage", ["cut", "longer", "one bit", "facts", "facts cut", "facts gone", "note", "empty"])
@pytest.mark.usefixtures("everything_is_large")
def test_damage_is_found_and_repaired(folder: Path, tmp_path: Path, damage: str):
    before = own(folder)
    expected = {split: part.clone() for split, part in before.parts.items()}
    (kept,) = folders(tmp_path)
    tokens, facts = (kept / "tokens"), (kept / "facts")
    content = tokens.read_bytes()
    if damage == "cut":
        os.truncate(tokens, 100)
    elif damage == "longer":
        tokens.write_bytes(content + b"\0")
    elif damage == "one bit":
        tokens.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage == "facts":
        facts.write_bytes(facts.read_bytes().replace(b'"a"', b'"q"'))
    elif damage == "facts cut":
        os.truncate(facts, 100)
    elif damage == "facts gone":
        facts.unlink()
    elif damage == "note":
        for note in kept.parent.iterdir():
            if note.is_file() and note.suffix != ".lock":
                note.write_bytes(b"\xff" + note.read_bytes())
    else:
        tokens.unlink()
        tokens.touch()
    after = own(folder)
    assert all(torch.equal(after.parts[split], expected[split]) for split in expected)
    assert after.vocabulary.tokens == before.vocabulary.tokens


@pytest.mark.usefixtures("everything_is_large")
def test_a_copied_cache_is_read_in_full_and_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    own(folder)
    (kept,) = folders(tmp_path)
    os.utime(kept / "tokens")
    monkeypatch.setattr(large_text, "pieces", None)
    assert own(folder).mapped
    assert not caplog.records


@pytest.mark.usefixtures("everything_is_large")
def test_what_a_killed_process_left_is_removed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = tmp_path / "cache" / "texts"
    real, mkdir = token_cache.sha256_of, []

    def killed(file: Path) -> str | None:
        mkdir.append(file.parent.name)
        (texts / file.parent.name / "rubbish").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(token_cache, "sha256_of", killed)
    with pytest.raises(KeyboardInterrupt):
        own(folder)
    assert not folders(tmp_path)
    monkeypatch.setattr(token_cache, "sha256_of", real)
    (texts / mkdir[0]).mkdir()
    (texts / mkdir[0] / "tokens").write_bytes(b"half")
    own(folder)
    assert not (texts / mkdir[0]).exists()


def _load(path: str, cache: str, queue: multiprocessing.Queue[tuple[str, int]]) -> None:
    os.environ["DLCLI_CACHE"] = cache
    text_file.LARGE = 0
    calls = 0

    def counted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        time.sleep(0.3)  # long enough for the others to come
        return text_reading.pieces(*arguments)  # type: ignore[arg-type]

    large_text.pieces = counted  # type: ignore[assignment]
    data = own(Path(path), tokenization="byte")
    queue.put((hashlib.sha256(data.parts["train"].numpy().tobytes()).hexdigest(), calls))


def test_processes_at_once_tokenise_once(folder: Path, tmp_path: Path):
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    jobs = [
        context.Process(target=_load, args=(str(folder), str(tmp_path / "cache"), queue), daemon=True) for _ in range(4)
    ]
    for job in jobs:
        job.start()
    results = [queue.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
    assert len({digest for digest, _ in results}) == 1
    assert sorted(calls for _, calls in results) == [0, 0, 0, 1]


@pytest.mark.usefixtures("everything_is_large")
def test_the_same_text_in_two_places_at_once_gets_its_tokens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for file in files:
        file.write_text(PLAY)
    load, rename, renamed = token_cache._load, os.rename, []

    def slow(folder: Path) -> Tokenised | None:
        found = load(folder)
        if found is None:
            time.sleep(0.5)  # long enough for the other to look as well
        return found

    monkeypatch.setattr(token_cache, "_load", slow)
    monkeypatch.setattr(token_cache.os, "rename", lambda *names: [renamed.append(names), rename(*names)])
    with ThreadPoolExecutor(2) as pool:
        parts = [data.parts["train"] for data in pool.map(own, files)]
    assert torch.equal(*parts)
    assert len(renamed) == 1


@pytest.mark.usefixtures("everything_is_large")
def test_a_full_disk_is_one_line_and_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large_text, "_write", full)
    with pytest.raises(ResourceError, match=r"plays: the disk is full \([\d,]+ bytes free at .*texts.*DLCLI_CACHE"):
        own(folder)
    assert not [path for path in (tmp_path / "cache" / "texts").iterdir() if path.suffix != ".lock"]


@pytest.mark.usefixtures("everything_is_large")
def test_a_cache_that_cannot_hold_tokens(folder: Path, tmp_path: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "texts").touch()
    with pytest.raises(DataError, match=r"cache/texts: cannot hold the tokens \(.*exists.*\); set DLCLI_CACHE"):
        own(folder)


@pytest.mark.usefixtures("everything_is_large")
def test_a_text_that_grows_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def growing(files: tuple[Path, ...], digest: object = None) -> object:
        yield from text_reading.pieces(files, digest)
        with files[0].open("a") as stream:
            stream.write("more")

    monkeypatch.setattr(large_text, "pieces", growing)
    with pytest.raises(DataError, match="plays: changed while it was read"):
        own(folder, tokenization="byte")


@pytest.mark.usefixtures("everything_is_large")
def test_long_and_many_words_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "endless.txt"
    file.write_text("a few words and " + "x" * 400)
    monkeypatch.setattr(large_text, "MAX_WORD", 100)
    with pytest.raises(DataError, match=r"endless.txt: a word of more than 100 characters; use data.tokenization=char"):
        own(file, tokenization="word")
    assert own(file).mapped
    monkeypatch.setattr(large_text, "MAX_WORD", 1000)
    monkeypatch.setattr(large_text, "MAX_WORDS", 3)
    with pytest.raises(DataError, match=r"endless.txt: more than 3 different words; use data.tokenization=char"):
        own(file, tokenization="word")


@pytest.mark.usefixtures("everything_is_large")
def test_a_given_vocabulary_refuses_other_characters(folder: Path):
    with pytest.raises(ConfigError, match=r"the character 'F' is not in the vocabulary"):
        own(folder, Vocabulary.of("irst", "char"))


@pytest.mark.usefixtures("everything_is_large")
def test_tokens_in_a_file_stay_there_when_data_move(folder: Path):
    data = own(folder)
    before = data.parts["train"]
    data.to(torch.device("meta"))
    assert data.parts["train"] is before
    for order in ("shuffled", "sequential", "stream"):
        assert data.batches("train", order=order)[0].tokens.device.type == "meta"  # type: ignore[arg-type]


def test_pieces_do_not_cut_words():
    parts = ["do", "n'", "t st", "op, wei", "ß’", "s n", "ow ", "", "..."]
    whole = list(whole_words(parts, "label"))
    assert "".join(whole) == "".join(parts)
    assert [word for piece in whole for word in WORD.findall(piece)] == WORD.findall("".join(parts))


def test_long_evaluations_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert own(folder).notes == ()
    monkeypatch.setattr(text, "LONG_EVALUATION", 100)
    assert "trainer.limit_eval_batches" in own(folder).notes[0]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 100, 10_007])
def test_a_large_permutation_is_a_permutation(count: int):
    order = LargePermutation(count, 1, 2)
    assert order[0:count].sort().values.tolist() == list(range(count))


def test_a_large_permutation_is_a_function_of_seed_and_epoch():
    first = LargePermutation(5000, 1, 2)
    torch.manual_seed(0)
    again = LargePermutation(5000, 1, 2)
    assert torch.equal(torch.cat([first[0:1234], first[1234:5000]]), again[0:5000])
    assert not torch.equal(first[0:5000], LargePermutation(5000, 1, 3)[0:5000])
    assert not torch.equal(first[0:5000], LargePermutation(5000, 2, 2)[0:5000])


def test_a_large_permutation_is_uniform():
    """Each of the 24 orders of 4 things comes up about equally often: chi-squared with 23 degrees of freedom."""
    draws = 4800
    orders = Counter(tuple(LargePermutation(4, seed, 0)[0:4].tolist()) for seed in range(draws))
    statistic = sum((orders[order] - draws / 24) ** 2 / (draws / 24) for order in orders)
    assert len(orders) == 24
    assert statistic < 200, statistic


def test_of_very_many_windows_the_order_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text, "LISTED", 10)
    data = own(folder)
    batches = [*data.batches("train", order="shuffled", seed=4, epoch=1)]
    seen = torch.cat([batch.tokens for batch in batches])
    part = data.parts["train"].long()
    count = (len(part) - 8) // 8
    assert seen.shape == (count, 8)
    starts = LargePermutation(count, 4, 1)[0:count] * 8
    offset = next(o for o in range(8) if torch.equal(part[o + starts[0] :][:8], seen[0]))
    assert all(torch.equal(part[offset + start :][:8], row) for start, row in zip(starts, seen, strict=True))
    huge = LargePermutation(6_000_000_000, 0, 0)
    assert len(huge[5_999_999_000:6_000_000_000].unique()) == 1000


def test_reading_in_memory_and_as_a_stream_agree(folder: Path, monkeypatch: pytest.MonkeyPatch):
    files = text_reading.text_files(folder)
    whole = read(files, "own file", "label")
    assert whole.fingerprint == hashlib.sha256(b"\n".join(file.read_bytes() for file in files)).hexdigest()
    assert "\r" not in whole.text
    assert "\ufeff" not in whole.text
    monkeypatch.setattr(text_reading, "PIECE", 3)  # a byte-order mark is looked for in the first
    assert "".join(text_reading.pieces(files)) == whole.text


def test_errors_after_the_first_piece_name_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_reading, "PIECE", 4)
    file = tmp_path / "bad.txt"
    file.write_bytes("é\r\nüü\n".encode() + b"ab\xc3(")
    with pytest.raises(DataError, match=r"bad.txt:3: not UTF-8 at byte 11 \(0xc3\)"):
        list(text_reading.pieces([file]))
    file.write_bytes("é\nüü\nö".encode()[:-1])
    with pytest.raises(DataError, match=r"bad.txt:3: not UTF-8 at byte 8 \(0xc3\)"):
        list(text_reading.pieces([file]))
    file.write_bytes(b"abcdefg\0")
    with pytest.raises(DataError, match="byte 7 is NUL"):
        list(text_reading.pieces([file]))


@pytest.mark.usefixtures("everything_is_large")
def test_a_long_job_is_announced(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(large_text, "ANNOUNCED", 10)
    with caplog.at_level(logging.WARNING, "dlcli"):
        own(folder)
    assert "tokenising" in caplog.text
    assert download.cache_folder().parent == Path(os.environ["DLCLI_CACHE"])
    assert LargeText((), "own file", "x").label == "x"
