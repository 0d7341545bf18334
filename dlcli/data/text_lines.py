"""Lines of a text for a trained language model: how surprising is each?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dlcli.data.base import PredictionInputs, TokenBatch
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import ConfigError, DataError

MAX_LINE = 1 << 20  # characters
BATCH_TOKENS = 1 << 14
IGNORED = -100  # the target in the padding after a shorter line


class TextLines(PredictionInputs):
    """Iterates over (line numbers from 1, TokenBatch) for the lines that are not blank.

    A line is read after a line break (or the vocabulary's first token), so that each of its tokens is a target. Shorter
    lines are padded with targets of -100. Characters that the vocabulary lacks are left out and counted in ``notes``.
    """

    identity = "line"

    def __init__(self, path: Path, preprocessing: Mapping[str, Any]):
        if preprocessing["vocabulary"] is None:
            raise ConfigError("the run has no vocabulary to read a text with")
        if path.is_dir():
            raise DataError(f"{path}: a folder; give --input one text file")
        self.path = path
        self.vocabulary = Vocabulary.from_json(preprocessing["vocabulary"])
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[list[str], TokenBatch]]:
        waiting: list[tuple[str, list[int]]] = []
        longest = 0
        for number, tokens in self._lines():
            longest = max(longest, len(tokens))
            if waiting and longest * (len(waiting) + 1) > BATCH_TOKENS:
                yield self._batch(waiting)
                waiting, longest = [], len(tokens)
            waiting.append((number, tokens))
        if waiting:
            yield self._batch(waiting)

    @property
    def notes(self) -> dict[str, str]:
        """What people should know about the lines that have been read."""
        if not self.left_out:
            return {}
        return {"characters": f"{self.left_out:,} characters that the run does not know were left out"}

    def _lines(self) -> Iterator[tuple[str, list[int]]]:
        known = set(self.vocabulary.tokens) if self.vocabulary.kind == "char" else None
        number = 0
        try:
            with self.path.open(encoding="utf-8-sig") as stream:
                while line := stream.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE:
                        raise DataError(f"{self.path}:{number}: a line of more than {MAX_LINE:,} characters")
                    line = line.rstrip("\n")
                    text = line if known is None else "".join(filter(known.__contains__, line))
                    self.left_out += len(line) - len(text)
                    tokens = self.vocabulary.encode(text)
                    if tokens:
                        yield str(number), tokens
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: not UTF-8 after line {number} ({error.reason}); save it as UTF-8") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _batch(self, lines: list[tuple[str, list[int]]]) -> tuple[list[str], TokenBatch]:
        start = 10 if self.vocabulary.kind == "byte" else self._start()
        longest = max(len(tokens) for _, tokens in lines)
        inputs = torch.zeros(len(lines), longest, dtype=torch.int64)  # (B, T)
        targets = torch.full_like(inputs, IGNORED)
        for row, (_, tokens) in enumerate(lines):
            inputs[row, : len(tokens)] = torch.tensor([start, *tokens[:-1]])
            targets[row, : len(tokens)] = torch.tensor(tokens)
        return [number for number, _ in lines], TokenBatch(inputs, targets)

    def _start(self) -> int:
        tokens = self.vocabulary.tokens
        return next((tokens.index(text) for text in ("\n", " ", ".") if text in tokens), 0)
