"""Texts as sets of words, each text with a class.

Source: GDL chapters 11 (sentiment) and 15 (spam): which words occur, not how often or in which order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlcli.data.base import PredictionInputs, TensorData
from dlcli.data.vocabulary import WORD, Vocabulary
from dlcli.errors import ConfigError, DataError
from dlcli.spec import DataSpec

PREDICTED = 512  # texts in a batch


class WordSetBatch(NamedTuple):
    """words (B, W) int64: the different words of each text, 0 after the last; labels (B,) int64, if there are any.

    Padding is the number of ``<unk>``: words that the vocabulary lacks are left out.
    """

    words: Tensor
    labels: Tensor | None = None


class LabelledText(NamedTuple):
    """The different words of a text, in the order of their first occurrence, and its class."""

    words: tuple[str, ...]
    label: int


class WordSets(TensorData):
    """Labelled texts: per split, words (N, W) int32 and labels (N,) int64."""

    provides: ClassVar[tuple[str, ...]] = ("vocab_size", "num_outputs", "num_classes")

    def __init__(
        self,
        splits: Mapping[str, Sequence[LabelledText]],
        vocabulary: Vocabulary | None,
        label_names: list[str],
        *,
        batch_size: int,
        min_frequency: int,
    ):
        """
        Args:
            splits: the texts of each.
            vocabulary: that of a trained model; None takes it from the training texts.
            label_names: of the classes.
            batch_size: of training.
            min_frequency: words that fewer different training texts have are left out.
        """
        super().__init__(batch_size=batch_size)
        counts = Counter(word for text in dict.fromkeys(splits["train"]) for word in text.words)
        self.vocabulary: Vocabulary = vocabulary or Vocabulary.of_counts(counts, min_frequency)
        self.label_names = label_names
        self.splits = tuple(splits)
        for name, texts in splits.items():
            labels = torch.tensor([text.label for text in texts])
            self.tensors[name] = padded([text.words for text in texts], self.vocabulary), labels
        self.spec = DataSpec(
            vocab_size=len(self.vocabulary), num_outputs=len(label_names), num_classes=len(label_names)
        )

    def collate(self, *tensors: Tensor) -> WordSetBatch:
        words, labels = tensors
        return WordSetBatch(words.long(), labels)

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> WordSetLines:
        return WordSetLines(path, preprocessing)


class WordSetLines(PredictionInputs):
    """Iterates over (line numbers from 1, WordSetBatch) for the lines of a text file, each a text of its own.

    Blank lines are left out.
    """

    identity = "line"

    def __init__(self, path: Path, preprocessing: Mapping[str, Any]):
        """
        Raises:
            DataError: the file cannot be read. ConfigError: the run has no vocabulary.
        """
        if preprocessing["vocabulary"] is None:
            raise ConfigError("the run has no vocabulary to read a text with")
        self.vocabulary = Vocabulary.from_json(preprocessing["vocabulary"])
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); give --input one text file") from None
        self.texts = [(str(number), words_of(line)) for number, line in enumerate(lines, start=1) if line.strip()]

    def __iter__(self) -> Iterator[tuple[list[str], WordSetBatch]]:
        for start in range(0, len(self.texts), PREDICTED):
            numbers, texts = zip(*self.texts[start : start + PREDICTED], strict=True)
            yield list(numbers), WordSetBatch(padded(texts, self.vocabulary).long())


def words_of(text: str) -> tuple[str, ...]:
    """The different words and punctuation marks of a text, in the order of their first occurrence."""
    return tuple(dict.fromkeys(WORD.findall(text)))


def padded(texts: Sequence[tuple[str, ...]], vocabulary: Vocabulary) -> Tensor:
    """The numbers of the words that the vocabulary has, (texts, longest text) int32, with 0 after the last."""
    known = {words: [number for word in words if (number := vocabulary.id_of(word))] for words in dict.fromkeys(texts)}
    result = np.zeros((len(texts), max(map(len, known.values()), default=0) or 1), dtype=np.int32)
    for row, words in zip(result, texts, strict=True):
        row[: len(known[words])] = known[words]
    return torch.from_numpy(result)
