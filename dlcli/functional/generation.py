"""Next-token logits of a language model that is fed token by token, whatever the model offers for that.

Letters: B samples, N tokens fed at once, V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcli.functional.inference import device_of


class TokenReader:
    """Feeds tokens to a language model and returns the logits of the token after them.

    A model with ``initial_state(B)`` and ``model(tokens, state) -> (logits, state)`` reads each token once (a recurrent
    network's state, a transformer's cache). When the model has a ``context`` and it is full, reading starts again from
    the last half of it. Any other model, ``model(tokens) -> logits``, reads the last ``context`` tokens (all, without
    one) again for every token.
    """

    def __init__(self, model: nn.Module, batch_size: int):
        self.model: Any = model
        self.batch_size = batch_size
        self.device = device_of(model)
        self.context: int | None = getattr(model, "context", None)
        self.stateful = hasattr(model, "initial_state")
        self.state: tuple[Tensor, ...] | None = None
        self.read = 0  # tokens that the state has seen
        self.history = torch.empty(batch_size, 0, dtype=torch.int64)  # (B, at most context tokens)

    @torch.no_grad()
    def feed(self, tokens: Tensor) -> Tensor:
        """tokens (B, N) int64 on the CPU -> logits (B, V) of the next token, on the CPU."""
        if self.context is None and self.stateful:
            return self._step(tokens)
        self.history = torch.cat([self.history, tokens], 1)
        if self.context is not None:
            self.history = self.history[:, -self.context :]
        if not self.stateful:
            logits: Tensor = self.model(self.history.to(self.device))  # (B, N, V)
            return logits[:, -1].cpu()
        assert self.context is not None
        if self.read + tokens.shape[1] > self.context:
            self.state, self.read = None, 0
            tokens = self.history[:, -max(1, self.context // 2) :]
        return self._step(tokens)

    def _step(self, tokens: Tensor) -> Tensor:
        if self.state is None:
            self.state = self.model.initial_state(self.batch_size)
        logits, self.state = self.model(tokens.to(self.device), self.state)  # (B, N, V)
        self.read += tokens.shape[1]
        last: Tensor = logits[:, -1].cpu()
        return last
