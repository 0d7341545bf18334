"""N-grams: a language model of counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, PositiveFloat
from dlcli.layers.fitted import FittedModel
from dlcli.registry import MODELS


@MODELS.register("ngram")
class NGram(FittedModel):
    """P(next token w | the last order - 1 tokens h), from how often h w and h stand in the training text.

    With n(h) the number of tokens that follow h, n(h, w) those of them that are w, V tokens and the strength s:
    laplace: (n(h, w) + s) / (n(h) + s V), with as long an h as the text so far allows.
    interpolated: (n(h, w) + s P(w | h')) / (n(h) + s), where h' is h without its first token, down to P = 1 / V: counts
    of longer histories correct those of shorter ones, the more the oftener they were seen.

    The n-grams of each length are kept as sorted whole numbers (the tokens are their digits in the base V) and counts.

    Source: d2l 9.3.1 "Learning Language Models" (Laplace smoothing; its estimates are interpolated ones that go back to
    single words at once); interpolation: MacKay, Peto 1995, "A Hierarchical Dirichlet Language Model".
    """

    keys_1: Tensor

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"trainer": ("fit",), "task": ("language_modeling",)}
    recurrent: ClassVar[bool] = True  # the last tokens of a window are the history of the next

    def __init__(
        self, *, vocab_size: int, order: Count, smoothing: Literal["laplace", "interpolated"], strength: PositiveFloat
    ):
        """
        Args:
            vocab_size: V, distinct tokens.
            order: tokens of an n-gram, the predicted one included: 1 counts single tokens, 2 pairs.
            smoothing: what unseen n-grams get.
            strength: s, in counts.

        Raises:
            ConfigError: the n-grams are too many to be numbered.
        """
        super().__init__()
        if vocab_size**order >= 2**63:
            most = next(n for n in range(order, 0, -1) if vocab_size**n < 2**63)
            raise ConfigError(f"model.order={order}: with {vocab_size:,} different tokens at most {most}")
        self.vocab_size = vocab_size
        self.order = order
        self.smoothing = smoothing
        self.strength = strength
        for length in range(1, order + 1):
            self.register_buffer(f"keys_{length}", torch.zeros(0, dtype=torch.int64))
            self.register_buffer(f"counts_{length}", torch.zeros(0, dtype=torch.int64))

    def fit(self, batches: Iterable[Any]) -> dict[str, float]:
        """Count the n-grams of batches (tokens (B, T), targets (B, T), …), whose rows follow each other in the text.

        Raises:
            ConfigError: the text is shorter than an n-gram.
        """
        parts, last = [], torch.zeros(0, dtype=torch.int64)
        for batch in batches:
            parts.append(batch[0].flatten())
            last = batch[1].flatten()[-1:]
        text = torch.cat([*parts, last])
        if len(text) < self.order:
            raise ConfigError(
                f"model.order={self.order}: the training text has {len(text):,} tokens; use a smaller one"
            )
        facts = {"tokens": float(len(text))}
        for length in range(1, self.order + 1):
            keys, counts = torch.unique(self._keys(text.unfold(0, length, 1)), return_counts=True)  # ascending
            setattr(self, f"keys_{length}", keys)
            setattr(self, f"counts_{length}", counts)
            facts[f"distinct_{length}"] = float(len(keys))
        return facts

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """Tokens before the text: none, (1, B, order - 2) of -1."""
        return (torch.full((1, batch_size, max(0, self.order - 2)), -1, device=self.keys_1.device),)

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...] | None = None) -> Any:
        """tokens (B, T) int64 -> log P of the next token (B, T, V) float32, and with a ``state`` the next one."""
        before = (self.initial_state(len(tokens)) if state is None else state)[0][0]  # (B, order - 2)
        known = torch.cat([before, tokens], 1)
        probabilities = torch.full((tokens.numel(), self.vocab_size), 1 / self.vocab_size, dtype=torch.float64)
        probabilities = probabilities.to(tokens.device)  # (B T, V)
        for length in range(1, self.order + 1):
            histories = known.unfold(1, length - 1, 1)[:, -tokens.shape[1] :]  # (B, T, length - 1)
            self._correct(probabilities, histories.flatten(0, 1), length)
        logits = probabilities.log().float().view(*tokens.shape, self.vocab_size)
        if state is None:
            return logits
        return logits, (known[:, known.shape[1] - before.shape[1] :].unsqueeze(0),)

    def frequencies(self) -> dict[str, Tensor]:
        """How often the n-grams of each length occur, in descending order, by name."""
        counts = {length: getattr(self, f"counts_{length}") for length in range(1, self.order + 1)}
        return {f"{length}-grams": values.sort(descending=True).values for length, values in counts.items()}

    def _correct(self, probabilities: Tensor, histories: Tensor, length: int) -> None:
        """Put what the n-grams of one length say into probabilities (R, V), for histories (R, length - 1)."""
        complete = (histories >= 0).all(1)
        first = self._keys(histories) * self.vocab_size  # of the n-grams that begin so
        keys, counts = getattr(self, f"keys_{length}"), getattr(self, f"counts_{length}")
        start, stop = torch.searchsorted(keys, first), torch.searchsorted(keys, first + self.vocab_size)
        numbers = torch.where(complete, stop - start, 0)
        rows = torch.arange(len(histories), device=keys.device).repeat_interleave(numbers)
        offsets = (start - numbers.cumsum(0) + numbers).repeat_interleave(numbers)
        found = torch.arange(len(rows), device=keys.device) + offsets
        seen, words = counts[found].double(), keys[found] % self.vocab_size
        total = torch.zeros(len(histories), dtype=torch.float64, device=keys.device).index_add_(0, rows, seen)
        if self.smoothing == "laplace":
            total += self.strength * self.vocab_size
            probabilities[complete] = (self.strength / total[complete]).unsqueeze(1).expand(-1, self.vocab_size)
        else:
            total += self.strength
            probabilities *= (self.strength / total).unsqueeze(1)
        probabilities.index_put_((rows, words), seen / total[rows], accumulate=True)

    def _keys(self, tokens: Tensor) -> Tensor:
        """N-grams (…, n) as numbers whose digits they are, (…)."""
        number = tokens.new_zeros(tokens.shape[:-1])
        for digit in tokens.unbind(-1):
            number = number * self.vocab_size + digit
        return number
