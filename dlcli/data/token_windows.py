"""Windows of a text as batches: of parallel streams, in random order, or as they stand.

Letters in shape comments: B sequences in a batch, T tokens in a sequence, S streams, L tokens of a stream.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlcli.data.base import TokenBatch
from dlcli.data.large_permutation import LargePermutation


class StreamBatches:
    """Consecutive windows of S parallel streams of L tokens: batch i holds tokens i*T to (i+1)*T of every stream."""

    def __init__(
        self,
        tokens: Tensor,
        streams: int,
        length: int,
        window: int,
        device: torch.device,
        *,
        partial: bool = False,
    ):
        self.device = device
        # tokens and their successors, (2, S, L), without a copy
        self.pairs = tokens.as_strided((2, streams, length), (1, length, 1), tokens.storage_offset())
        self.window = window
        self.length = length if partial else length // window * window

    def __len__(self) -> int:
        return -(-self.length // self.window)

    def __getitem__(self, index: int) -> TokenBatch:
        start = index * self.window
        size = min(self.window, self.length - start)
        if index < 0 or size <= 0:
            raise IndexError(index)
        return _token_batch(self.pairs.narrow(2, start, size), self.device)


class WindowBatches:
    """Windows of T tokens that do not overlap, gathered in the order of ``indices`` or as they stand in the text."""

    def __init__(
        self,
        tokens: Tensor,
        indices: Tensor | LargePermutation | None,
        batch_size: int,
        window: int,
        count: int,
        device: torch.device,
    ):
        self.tokens = tokens
        self.indices = indices.to(tokens.device) if isinstance(indices, Tensor) else indices
        self.device = device
        self.batch_size = batch_size
        self.window = window
        self.count = count
        # a window and the token after it, (count, T + 1), without a copy
        self.windows = tokens.as_strided((count, window + 1), (window, 1), tokens.storage_offset())
        self.rest = 0 if indices is not None else len(tokens) - 1 - count * window  # targets after the last window

    def __len__(self) -> int:
        return -(-self.count // self.batch_size) + (self.rest > 0)

    def __getitem__(self, index: int) -> TokenBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.batch_size
        if start >= self.count:
            last = self.tokens[self.count * self.window :]
            return _token_batch(last.unfold(0, self.rest, 1).unsqueeze(1), self.device)
        size = min(self.batch_size, self.count - start)
        if self.indices is None:
            chosen = self.windows.narrow(0, start, size)
        else:
            chosen = self.windows.index_select(0, self.indices[start : start + size])
        return _token_batch(chosen.unfold(1, self.window, 1).permute(1, 0, 2), self.device)


def _token_batch(pairs: Tensor, device: torch.device) -> TokenBatch:
    """A batch on ``device`` from tokens and their successors, (2, B, T) of any integer type and any strides."""
    tokens, targets = pairs.to(device, torch.int64, memory_format=torch.contiguous_format).unbind(0)
    return TokenBatch(tokens, targets)
