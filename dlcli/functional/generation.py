"""Texts of a language model, token by token: reading what is there, and drawing what comes next.

Letters: B samples, N tokens fed at once, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.errors import NonFiniteError
from dlcli.functional.inference import device_of
from dlcli.functional.sampling import draw, gumbel_noise, keep

MAX_CHUNK = 32  # tokens that are drawn before any of them is looked at


class TokenReader:
    """Feeds tokens to a language model and returns the logits of the token after them. To be used without gradients.

    A model with ``initial_state(B)`` and ``model(tokens, state) -> (logits, state)`` reads each token once (a recurrent
    network's state, a transformer's cache). If it also has ``token_step(state) -> function``, that function reads the
    single tokens that follow: ``function(tokens (B,)) -> logits (B, V)``, the same logits in less time, from weights
    that must not change meanwhile. When the model has a ``context`` and it is full, reading starts again from the last
    half of it. Any other model, ``model(tokens) -> logits``, reads the last ``context`` tokens (all, without one) again
    for every token.
    """

    def __init__(self, model: nn.Module, batch_size: int):
        self.model: Any = model
        self.batch_size = batch_size
        self.device = device_of(model)
        self.context: int | None = getattr(model, "context", None)
        self.stateful = hasattr(model, "initial_state")
        self.state: tuple[Tensor, ...] | None = None
        self.step: Any = None  # the model's token_step, once it has a state
        self.read = 0  # tokens that the state has seen
        self.history: list[Tensor] = []  # what may have to be read again, each (B, N)

    def next(self, tokens: Tensor) -> Tensor:
        """One token of each sample, (B,) int64 on the model's device -> logits (B, V) of the token after it."""
        if self.step is not None and self.context is None:
            logits: Tensor = self.step(tokens)
            return logits
        return self.feed(tokens[:, None])

    def feed(self, tokens: Tensor) -> Tensor:
        """tokens (B, N) int64 -> logits (B, V) of the next token, on the model's device."""
        tokens = tokens.to(self.device)
        if self.context is not None or not self.stateful:
            self.history.append(tokens)
        if not self.stateful:
            self.history = [torch.cat(self.history, 1)[:, -(self.context or 0) :]]
            logits: Tensor = self.model(self.history[0])  # (B, N, V)
            return logits[:, -1]
        if self.context is not None and self.read + tokens.shape[1] > self.context:
            tokens = torch.cat(self.history, 1)[:, -max(1, self.context // 2) :]
            self.history, self.state, self.step, self.read = [tokens], None, None, 0
        self.read += tokens.shape[1]
        if self.step is not None:
            for column in tokens.unbind(1):
                logits = self.step(column)
            return logits
        state = self.model.initial_state(self.batch_size) if self.state is None else self.state
        logits, self.state = self.model(tokens, state)  # (B, N, V)
        if hasattr(self.model, "token_step"):
            self.step = self.model.token_step(self.state)
        return logits[:, -1]


def generate(
    model: nn.Module,
    start: Tensor,
    length: int,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generators: Sequence[torch.Generator],
) -> Iterator[list[list[int]]]:
    """``length`` tokens of each sample, drawn after ``start`` (B, N) and all before them, a few at a time.

    Yields a list of new tokens for each sample: first one token, then twice as many each time up to ``MAX_CHUNK``, so
    that the first appears at once and looking at tokens, which waits for the device, is rare. Sample b takes its
    randomness from ``generators[b]`` alone; but for the rounding of the model's arithmetic, which may depend on the
    number of samples, it is the same text alone and among others.

    Raises:
        NonFiniteError: a logit is NaN or infinite; the tokens drawn from it are not yielded.
    """
    reader = TokenReader(model, len(start))
    temperature = min(temperature, 1e30)  # logits vanish long before, and more would overflow float32
    tokens = start
    size, drawn = 1, 0
    while drawn < length:
        wanted = min(size, length - drawn)
        tokens = _chunk(reader, tokens, size, wanted, temperature, top_k, top_p, generators)
        yield tokens.tolist()
        tokens = tokens[:, -1]
        drawn += wanted
        size = min(2 * size, MAX_CHUNK)


@torch.no_grad()
def _chunk(
    reader: TokenReader,
    tokens: Tensor,
    size: int,
    wanted: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """The first ``wanted`` tokens (B, wanted) of a chunk of ``size`` after ``tokens``, (B, N) or one each, (B,)."""
    logits = reader.feed(tokens) if tokens.ndim == 2 else reader.next(tokens)  # (B, V)
    # Noise for all of the chunk, so that the same seed gives the same text at any length.
    noise = temperature * gumbel_noise(generators, size, logits.shape[1])  # (size, B, V)
    noise = noise.to(logits.device, torch.float32)
    columns: list[Tensor] = []
    sums: list[Tensor] = []
    for row in noise[:wanted].unbind():
        if columns:
            logits = reader.next(columns[-1])
        column, sum_ = draw(keep(logits.float(), temperature, top_k, top_p), row)
        columns.append(column)
        sums.append(sum_)
    if not torch.stack(sums).isfinite().all():
        raise NonFiniteError("no sample: the model's outputs are not finite; take an earlier checkpoint")
    return torch.stack(columns, 1)
