"""Texts as data: consecutive parts of one tensor of token numbers, and the windows of them that a model reads.

Letters in shape comments: B sequences in a batch, T tokens in a sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import torch

from dlcli.data.base import Batches, DataModule, Order, PredictionInputs, generator, permutation
from dlcli.data.corpus import Corpus
from dlcli.data.large_permutation import LargePermutation
from dlcli.data.large_text import LargeText
from dlcli.data.token_windows import StreamBatches, WindowBatches
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import ConfigError, DataError, counted
from dlcli.hyperparameters import Count, Gt, Lt, Probability
from dlcli.spec import DataSpec

EVALUATION_TOKENS = 16_384  # in one batch of windows
STREAM_WINDOW = 2048  # tokens of an evaluation's single stream that are read at once
EVALUATION_LOGITS = 1 << 25  # numbers that a batch of an evaluation may lead to
LONG_EVALUATION = 50_000_000  # tokens, which take every model minutes
LISTED = 1 << 24  # windows whose random order is a list of their numbers (128 MB); of more it is computed


class TextData(DataModule):
    """A text as one tensor of token numbers; its splits are consecutive parts: train, val and, if asked for, test.

    Args:
        corpus: the text.
        vocabulary: that of a trained model; None takes it from the text.
        sequence_length: T, tokens in a training window.
        batch_size: B, windows or streams in a training batch.
        val_fraction, test_fraction: shares of the tokens at the end of the text.
        tokenization: what a token is.
        min_frequency: words that the training part has less often become ``<unk>``.

    Raises:
        DataError: a part is too short.
        ConfigError: nothing is left to train on.
    """

    provides: ClassVar[tuple[str, ...]] = ("vocab_size", "sequence_length")
    splits: tuple[str, ...] = ("train", "val")
    unit: ClassVar[str] = "tokens"

    def __init__(
        self,
        corpus: Corpus | LargeText,
        vocabulary: Vocabulary | None = None,
        *,
        sequence_length: Count,
        batch_size: Count,
        val_fraction: Annotated[float, Gt(0), Lt(1)],
        test_fraction: Probability,
        tokenization: Literal["char", "word", "byte"],
        min_frequency: Count,
    ):
        if val_fraction + test_fraction >= 1:
            raise ConfigError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}: expected a sum below 1"
            )
        self.batch_size = batch_size
        self.source, self.label = corpus.source, corpus.label
        shares = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
        self.vocabulary: Vocabulary
        self.vocabulary, tokens, self.fingerprint, self.mapped = corpus.tokenised(
            vocabulary, tokenization, min_frequency, shares["train"]
        )
        self.device = torch.device("cpu")  # of batches
        trained = int(len(tokens) * shares["train"])
        ends = [trained, len(tokens) - int(len(tokens) * test_fraction)]
        parts = dict(zip(shares, tokens.tensor_split(ends), strict=True))
        self.parts = {split: part for split, part in parts.items() if shares[split] > 0}
        self.splits = tuple(self.parts)  # a test part only if it was asked for
        self.spec = DataSpec(vocab_size=len(self.vocabulary), sequence_length=sequence_length)
        self._check_lengths(sequence_length)
        if (count := len(self.parts["val"])) > LONG_EVALUATION:
            remedy = "trainer.limit_eval_batches or a smaller data.val_fraction makes evaluations shorter"
            self.notes = (f"the validation part has {count:,} tokens; {remedy}",)

    def _check_lengths(self, sequence_length: int) -> None:
        for split, part in self.parts.items():
            needed = 2 * sequence_length if split == "train" else 2  # a window at every offset, and its last target
            if len(part) < needed:
                remedy = "smaller data.sequence_length" if split == "train" else f"larger data.{split}_fraction"
                raise DataError(
                    f"{self.label}: too short: its {split} part has {counted(len(part), 'token')} and needs "
                    f"at least {needed:,} for data.sequence_length={sequence_length}; give a longer text or a {remedy}"
                )

    def batches(self, split: str, *, order: Order, seed: int = 0, epoch: int = 0) -> Batches:
        """The batches of one pass. Each is a TokenBatch of (B, T) int64.

        "stream", train: ``batch_size`` parallel streams, read in consecutive windows from an offset below T.
        "stream", other splits: one stream in long windows, every target once; the last window is shorter.
        "shuffled": a permutation of windows that do not overlap, from an offset below T.
        "sequential": windows in the order of the text, every target once; the last batch is the shorter last window.
        Offset and permutation are functions of seed and epoch alone.

        Raises:
            DataError: the text is too short for ``batch_size`` streams.
        """
        part, length = self.parts[split], cast(int, self.spec.sequence_length)
        if order == "stream" and split == "train":
            streams = (len(part) - length) // self.batch_size  # tokens in each, the same at every offset
            if streams < length:
                raise DataError(
                    f"{self.label}: too short: {self.batch_size} streams of {length} tokens need "
                    f"{length * (self.batch_size + 1):,} tokens, the train part has {len(part):,}; "
                    "give a longer text, or a smaller data.batch_size or data.sequence_length"
                )
            return StreamBatches(part[_offset(length, seed, epoch) :], self.batch_size, streams, length, self.device)
        if order == "stream":
            window = self._evaluation_tokens(STREAM_WINDOW)
            return StreamBatches(part, 1, len(part) - 1, window, self.device, partial=True)
        size = self.batch_size if split == "train" else max(1, self._evaluation_tokens(EVALUATION_TOKENS) // length)
        if order == "sequential":
            return WindowBatches(part, None, size, length, (len(part) - 1) // length, self.device)
        count = (len(part) - length) // length  # the same at every offset
        if count < 1:
            raise DataError(
                f"{self.label}: too short: its {split} part of {counted(len(part), 'token')} has no whole window"
            )
        shuffled = permutation if count <= LISTED else LargePermutation
        part, indices = part[_offset(length, seed, epoch) :], shuffled(count, seed, epoch)
        return WindowBatches(part, indices, size, length, count, self.device)

    def _evaluation_tokens(self, most: int) -> int:
        return max(1, min(most, EVALUATION_LOGITS // len(self.vocabulary)))

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PredictionInputs:
        """The lines of a text file, each a sequence of its own."""
        from dlcli.data.text_lines import TextLines

        return TextLines(path, preprocessing)

    def to(self, device: torch.device) -> None:
        self.device = device
        if not self.mapped:  # else they stay in their file, and each batch is moved
            self.parts = {split: part.to(device) for split, part in self.parts.items()}

    def describe(self) -> dict[str, str]:
        rows = {split: counted(len(part), "token") for split, part in self.parts.items()}
        kinds = {"char": "characters", "word": "words", "byte": "bytes"}
        tokens = f"{len(self.vocabulary):,} {kinds[self.vocabulary.kind]}"
        return {**rows, "vocabulary": tokens, "source": self.source}


def _offset(length: int, seed: int, epoch: int) -> int:
    """Where the first window starts: below ``length``, a function of seed and epoch."""
    return int(torch.randint(length, (), generator=generator(seed, epoch, 1)))
