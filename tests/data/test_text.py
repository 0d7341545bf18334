"""Vocabularies and the windows of a text."""

from __future__ import annotations

import pytest
import torch

from dlcli.data.corpus import Corpus, fingerprint_of
from dlcli.data.text import TextData
from dlcli.data.text_file import TextFile
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import ConfigError, DataError

OPTIONS = {
    "sequence_length": 8,
    "batch_size": 4,
    "val_fraction": 0.2,
    "test_fraction": 0.0,
    "tokenization": "char",
    "min_frequency": 1,
}


def counting(count=1000, **options):
    """Token i of the text is the i-th character: every token is distinct, so positions can be read off batches."""
    text = "".join(chr(0x10000 + index) for index in range(count))
    return TextData(Corpus(text, fingerprint_of(text.encode()), "own file", "counting"), **{**OPTIONS, **options})


def collect(batches):
    return [batches[index] for index in range(len(batches))]


def test_vocabulary_of_characters():
    vocabulary = Vocabulary.of("hello world", "char")
    assert list(vocabulary) == sorted(set("hello world"))
    assert vocabulary.decode(vocabulary.encode("hold")) == "hold"
    assert vocabulary.encode("") == []
    assert len(vocabulary) == 8
    assert vocabulary[0] == " "


def test_vocabulary_of_characters_beyond_16_bits():
    vocabulary = Vocabulary.of("naïve 🙂 café", "char")
    assert vocabulary.decode(vocabulary.encode("🙂 é")) == "🙂 é"


@pytest.mark.parametrize("unknown", ["x", "~", "é", "🙂"])
def test_an_unknown_character_is_named(unknown):
    vocabulary = Vocabulary.of("hello", "char")
    with pytest.raises(ConfigError, match=f"character '{unknown}' is not in the vocabulary.*known: 'ehlo'"):
        vocabulary.encode("he" + unknown)


def test_vocabulary_of_bytes():
    vocabulary = Vocabulary.of("abc", "byte")
    assert len(vocabulary) == 256
    assert vocabulary.encode("é") == [0xC3, 0xA9]
    assert vocabulary.decode([0xC3, 0xA9, 0x21]) == "é!"
    assert vocabulary.decode([0xFF]) == "\ufffd"


def test_vocabulary_of_words():
    vocabulary = Vocabulary.of("to be, or not to be: don't be rare", "word", min_frequency=2)
    assert vocabulary.tokens == ["<unk>", "be", "to"]
    assert vocabulary.encode("to be or be") == [2, 1, 0, 1]
    every = Vocabulary.of("to be, or not to be: don't", "word")
    ids = every.encode("to be, don't")
    assert every.decode(ids) == " to be, don't"
    assert "".join(every.decode([token]) for token in ids) == every.decode(ids)


@pytest.mark.parametrize("kind", ["char", "word", "byte"])
def test_a_vocabulary_survives_json(kind):
    vocabulary = Vocabulary.of("to be or not", kind)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert (again.tokens, again.kind) == (vocabulary.tokens, vocabulary.kind)
    assert again.encode("be or") == vocabulary.encode("be or")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "not a vocabulary; expected a kind"),
        ({"kind": "syllable", "tokens": ["a"]}, "not a vocabulary; expected a kind"),
        ({"kind": "char", "tokens": []}, "not a vocabulary; expected a kind"),
        ({"kind": "char", "tokens": ["a", "a"]}, "list of distinct tokens"),
        ({"kind": "char", "tokens": ["a", 3]}, "list of distinct tokens"),
        ({"kind": "char", "tokens": ["ab"]}, "not a vocabulary of kind char"),
        ({"kind": "byte", "tokens": ["a"]}, "not a vocabulary of kind byte"),
    ],
)
def test_what_is_no_vocabulary_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        Vocabulary.from_json(values)


def test_splits_are_consecutive_parts():
    data = counting(1000, val_fraction=0.2, test_fraction=0.1)
    assert data.splits == ("train", "val", "test")
    assert [len(part) for part in data.parts.values()] == [700, 200, 100]
    assert torch.equal(torch.cat(list(data.parts.values())), torch.arange(1000, dtype=torch.int16))
    assert counting(1000).splits == ("train", "val")
    assert sum(len(part) for part in counting(997, val_fraction=0.13).parts.values()) == 997


def test_tokens_are_kept_in_the_smallest_type():
    assert counting(1000).parts["train"].dtype == torch.int16
    assert counting(256).parts["train"].dtype == torch.uint8
    assert counting(40_000).parts["train"].dtype == torch.int32
    batch = counting(256).batches("train", order="shuffled")[0]
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64
    assert batch.tokens.is_contiguous()
    assert batch.targets.is_contiguous()


@pytest.mark.parametrize("epoch", range(6))
def test_training_streams_are_consecutive(epoch):
    data = counting()
    batches = data.batches("train", order="stream", seed=3, epoch=epoch)
    tokens = torch.cat([batch.tokens for batch in collect(batches)], 1)
    targets = torch.cat([batch.targets for batch in collect(batches)], 1)
    assert batches[0].tokens.shape == (4, 8)
    assert torch.equal(targets, tokens + 1)
    assert torch.equal(tokens, tokens[:, :1] + torch.arange(tokens.shape[1]))
    assert 0 <= tokens[0, 0] < 8
    assert tokens.unique().numel() == tokens.numel() > 800 - 8 * (4 + 1)
    assert len(batches) == len(data.batches("train", order="stream", seed=0, epoch=0))


@pytest.mark.parametrize("length", [800, 801, 805, 40, 41, 47])
def test_training_streams_of_any_length_stay_inside_the_text(length):
    data = counting(length + 20, val_fraction=20 / (length + 20))
    seen = set()
    for epoch in range(40):
        batches = data.batches("train", order="stream", seed=1, epoch=epoch)
        seen.add((len(batches), int(batches[0].tokens[0, 0])))
        assert max(int(batch.targets.max()) for batch in collect(batches)) < len(data.parts["train"])
    assert len({count for count, _ in seen}) == 1
    assert {offset for _, offset in seen} == set(range(8))


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("count", [300, 50_000])
def test_an_evaluation_stream_covers_every_target_once(split, count):
    data = counting(count, val_fraction=0.3, test_fraction=0.3)
    batches = collect(data.batches(split, order="stream", seed=7, epoch=7))
    tokens, targets = (torch.cat([batch[column] for batch in batches], 1) for column in (0, 1))
    part = data.parts[split].long()
    assert torch.equal(tokens[0], part[:-1])
    assert torch.equal(targets[0], part[1:])
    assert all(batch.tokens.shape == batches[0].tokens.shape for batch in batches[:-1])


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("count", [1000, 1005, 1040, 1045, 300_000])
def test_sequential_windows_cover_every_target_once(split, count):
    data = counting(count)
    batches = collect(data.batches(split, order="sequential"))
    part = data.parts[split].long()
    assert torch.equal(torch.cat([batch.tokens.flatten() for batch in batches]), part[:-1])
    assert torch.equal(torch.cat([batch.targets.flatten() for batch in batches]), part[1:])
    assert all(batch.tokens.shape[1] == 8 for batch in batches[:-1])


def test_shuffled_windows_are_a_permutation():
    data = counting()
    batches = collect(data.batches("train", order="shuffled", seed=1, epoch=2))
    tokens = torch.cat([batch.tokens for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    starts = tokens[:, 0]
    assert torch.equal(targets, tokens + 1)
    assert torch.equal(tokens, starts[:, None] + torch.arange(8))
    assert torch.equal(starts.sort().values, starts.min() + 8 * torch.arange(len(starts)))
    assert not torch.equal(starts, starts.sort().values)
    assert len(starts) == (800 - 8) // 8
    assert [len(batch.tokens) for batch in batches] == [4] * 24 + [3]


@pytest.mark.parametrize("order", ["stream", "shuffled"])
def test_batches_are_functions_of_seed_and_epoch(order):
    first, second = counting(), counting()

    def tokens(data, seed, epoch):
        return torch.cat(
            [batch.tokens.flatten() for batch in collect(data.batches("train", order=order, seed=seed, epoch=epoch))]
        )

    expected = tokens(first, 5, 2)
    torch.manual_seed(99)
    tokens(second, 1, 0)
    assert torch.equal(tokens(second, 5, 2), expected)
    assert any(not torch.equal(tokens(first, 5, epoch), expected) for epoch in (3, 4, 5))
    assert any(not torch.equal(tokens(first, seed, 2), expected) for seed in (6, 7, 8))


@pytest.mark.parametrize("order", ["stream", "shuffled", "sequential"])
@pytest.mark.parametrize("index", [-1, 10_000])
def test_batches_end(order, index):
    with pytest.raises(IndexError):
        counting().batches("train", order=order)[index]


def test_iterating_stops():
    assert len(list(counting().batches("val", order="sequential"))) == 2


def test_moving_keeps_the_batches():
    data = counting()
    before = data.batches("train", order="stream", seed=1)[3]
    data.to(torch.device("cpu"))
    assert torch.equal(data.batches("train", order="stream", seed=1)[3].tokens, before.tokens)


def test_sizes_and_description():
    data = counting()
    assert data.spec.defined() == {"vocab_size": 1000, "sequence_length": 8}
    assert data.describe() == {
        "train": "800 tokens",
        "val": "200 tokens",
        "vocabulary": "1,000 characters",
        "source": "own file",
    }


def test_words_are_counted_in_the_training_part_only():
    text = "one two three four five six seven eight nine ten " * 4 + "only late words here " * 3
    corpus = Corpus(text, "", "own file", "words")
    data = TextData(corpus, **{**OPTIONS, "tokenization": "word", "val_fraction": 0.25})
    assert "one" in data.vocabulary
    assert "late" not in data.vocabulary
    assert (data.parts["val"] == 0).any()
    assert not (data.parts["train"] == 0).any()


def test_too_short_a_text_names_lengths_and_remedy():
    with pytest.raises(
        DataError, match=r"train part has 8 tokens and needs at least 16 .*smaller data.sequence_length"
    ):
        counting(10)
    with pytest.raises(DataError, match=r"val part has 1 token and needs at least 2 .*larger data.val_fraction"):
        counting(100, val_fraction=0.01)


def test_too_many_streams_name_lengths_and_remedy():
    data = counting(100, batch_size=50)
    with pytest.raises(DataError, match=r"50 streams of 8 tokens need 408 tokens, the train part has 80; .*batch_size"):
        data.batches("train", order="stream")
    assert len(data.batches("train", order="shuffled")) == 1


def test_shuffling_a_part_without_a_whole_window_is_refused():
    with pytest.raises(DataError, match="its val part of 5 tokens has no whole window"):
        counting(100, val_fraction=0.05).batches("val", order="shuffled")


def test_fractions_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"val_fraction=0.5 and data.test_fraction=0.5: expected a sum below 1"):
        counting(val_fraction=0.5, test_fraction=0.5)


def own(path, **options):
    return TextFile(path=str(path), **{**OPTIONS, **options})


@pytest.mark.parametrize("tokenization", ["char", "word", "byte"])
def test_own_file(tmp_path, tokenization):
    file = tmp_path / "mein Büch.txt"
    raw = ("Der Fluß fließt, und die Zeit mit ihm.\n" * 40).encode()
    file.write_bytes(raw)
    data = own(file, tokenization=tokenization)
    assert data.source == "own file"
    assert data.fingerprint == fingerprint_of(raw)
    shown = data.vocabulary.decode(data.parts["train"].tolist()[:40])
    assert shown.strip().startswith("Der Fluß fließt, und")


def test_own_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("b" * 100)
    (tmp_path / "a.txt").write_text("a" * 100)
    (tmp_path / "sub" / "c.txt").write_text("c" * 100)
    (tmp_path / "notes.md").write_text("never read")
    data = own(tmp_path)
    text = data.vocabulary.decode(torch.cat(list(data.parts.values())).tolist())
    assert text == "a" * 100 + "\n" + "b" * 100 + "\n" + "c" * 100


def test_byte_order_mark_and_line_ends_are_normalised(tmp_path):
    file = tmp_path / "windows.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\r\n" * 20)
    assert own(file).vocabulary.tokens == sorted(set("\nonetw"))


def test_a_byte_order_mark_may_say_utf_16(tmp_path):
    file = tmp_path / "windows.txt"
    file.write_bytes("Zeit für 🙂\r\n".encode("utf-16") + "mehr Zeit\r\n".encode("utf-16-le") * 20)
    data = own(file)
    shown = data.vocabulary.decode(torch.cat(list(data.parts.values())).tolist())
    assert shown == "Zeit für 🙂\n" + "mehr Zeit\n" * 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the text is empty"),
        (b" \n\n ", "the text is empty"),
        (b"abc\0def" * 10, "not a text: byte 3 is NUL"),
        (b"line one\nline \xe9\n", r":2: not UTF-8 at byte 14 \(0xe9\); save the text as UTF-8"),
        ("abc".encode("utf-16-le"), "is NUL"),
        ("abc".encode("utf-16") + b"\n", ":1: not UTF-16-LE at byte 8"),
        (b"one line", "too short: its train part has 6 tokens"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        own(file)
    assert "bad.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.txt: no such file; give data.path"):
        own(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"the folder holds no \.txt file"):
        own(tmp_path)
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"dangling.txt: no such file"):
        own(tmp_path)
    (tmp_path / "dangling.txt").unlink()
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DataError, match=r"folder.txt: not a regular file; give data.path a text file"):
        own(tmp_path)
