"""GPT: the decoder-only transformer.

Letters of shapes: B sequences, T tokens in each, P tokens before them in the cache, V tokens in the vocabulary, C
hidden units, N heads, D = C / N units of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.functional.attention import attention
from dlcli.hyperparameters import Count, Probability
from dlcli.registry import MODELS

State = tuple[Tensor, ...]
TokenStep = Callable[[Tensor], Tensor]


class CausalSelfAttention(nn.Module):
    """Each position looks at itself and at those before it."""

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float, bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size, bias=bias)
        self.projection = nn.Linear(hidden_size, hidden_size, bias=bias)

    def forward(self, hidden: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """hidden (B, T, C), past keys and values (B, N, P, D) -> (B, T, C), keys and values (B, N, P + T, D)."""
        batch_size, length, hidden_size = hidden.shape
        heads = self.query_key_value(hidden).view(batch_size, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, N, T, D)
        mask = None
        if past is not None:
            key = torch.cat([past[0].to(key.dtype), key], dim=2)  # (B, N, P + T, D)
            value = torch.cat([past[1].to(value.dtype), value], dim=2)
            if length > 1:  # query t stands at position P + t; a single one sees all keys
                shape = (length, key.shape[2])
                mask = torch.ones(shape, dtype=torch.bool, device=key.device).tril(shape[1] - length)  # (T, P + T)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(query, key, value, mask=mask, dropout=dropout, causal=past is None)  # (B, N, T, D)
        return self.projection(mixed.transpose(1, 2).reshape(batch_size, length, hidden_size)), key, value


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on the normalised stream and added to it."""

    def __init__(self, *, hidden_size: int, num_heads: int, mlp_ratio: int, dropout: float, bias: bool):
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size, bias=bias)
        self.attention = CausalSelfAttention(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout, bias=bias)
        self.mlp_norm = nn.LayerNorm(hidden_size, bias=bias)
        self.expansion = nn.Linear(hidden_size, mlp_ratio * hidden_size, bias=bias)
        self.contraction = nn.Linear(mlp_ratio * hidden_size, hidden_size, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """hidden (B, T, C), past keys and values (B, N, P, D) -> (B, T, C), keys and values (B, N, P + T, D)."""
        attended, key, value = self.attention(self.attention_norm(hidden), past)
        hidden = hidden + self.dropout(attended)  # (B, T, C)
        expanded = F.gelu(self.expansion(self.mlp_norm(hidden)), approximate="tanh")  # (B, T, mlp_ratio C)
        return hidden + self.dropout(self.contraction(expanded)), key, value


@MODELS.register("gpt")
class GPT(nn.Module):
    """Token and learned position embeddings, ``num_layers`` blocks, a last norm, and the embedding as output layer.

    Source: Radford et al. 2019 (GPT-2), with nanoGPT's option to leave out all biases; d2l 11.7 and 11.9.
    """

    recurrent: ClassVar[bool] = False  # the state is a cache of keys and values, of use in sampling only

    def __init__(
        self,
        *,
        vocab_size: int,
        sequence_length: int,
        num_layers: Count,
        num_heads: Count,
        hidden_size: Count,
        mlp_ratio: Count,
        dropout: Probability,
        bias: bool,
    ):
        """
        Args:
            vocab_size: V, distinct tokens.
            sequence_length: the largest number of positions.
            num_layers: blocks.
            num_heads: N, attention heads of a block.
            hidden_size: C, units at each position.
            mlp_ratio: units of the perceptron's hidden layer as a multiple of C.
            dropout: probability of zeroing an attention weight, a branch's output or an embedding's unit in training.
            bias: whether linear layers and norms have biases.

        Raises:
            ConfigError: the hidden size is no multiple of the number of heads.
        """
        super().__init__()
        if hidden_size % num_heads:
            raise ConfigError(
                f"model.hidden_size={hidden_size} is not a multiple of model.num_heads={num_heads}; "
                f"for example set model.hidden_size={-(-hidden_size // num_heads) * num_heads}"
            )
        self.num_heads = num_heads
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.position_embedding = nn.Embedding(sequence_length, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(hidden_size=hidden_size, num_heads=num_heads, mlp_ratio=mlp_ratio, dropout=dropout, bias=bias)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, bias=bias)
        self._initialise()

    @property
    def context(self) -> int:
        """The largest number of positions that the model can see."""
        return self.position_embedding.num_embeddings

    @torch.no_grad()
    def _initialise(self) -> None:
        """
        ================================================ ==========================
        parameter                                        initial value
        ================================================ ==========================
        embeddings (tokens, positions)                   N(0, 0.02²)
        linear layers                                    N(0, 0.02²)
        the two linear layers that end a block's branch  N(0, 0.02² / (2 layers))
        biases                                           0
        norms                                            1
        ================================================ ==========================

        The 2 layers branches that are added to the stream then add up to a variance that is independent of the depth.
        """
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                module.weight.normal_(std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attention.projection, block.contraction):
                layer.weight.normal_(std=0.02 / (2 * len(self.blocks)) ** 0.5)

    def initial_state(self, batch_size: int) -> State:
        """An empty cache: keys, then values, of each block in turn, each (batch_size, N, 0, D)."""
        weight = self.embedding.weight
        shape = (batch_size, self.num_heads, 0, weight.shape[1] // self.num_heads)
        return tuple(weight.new_empty(shape) for _ in range(2 * len(self.blocks)))

    @torch.no_grad()
    def token_step(self, state: State) -> TokenStep:
        """A function that reads single tokens after ``state``: tokens (B,) int64 -> logits (B, V).

        It computes what ``forward`` does in evaluation mode, in less time: keys and values are written once, into room
        for ``context`` of them. The weights must not change while it is in use.

        Raises (the function): ValueError: no room for another token.
        """
        batch_size, _, start, _ = state[0].shape
        room = [tensor.new_empty(batch_size, self.num_heads, self.context, tensor.shape[3]) for tensor in state]
        for cache, past in zip(room, state, strict=True):
            cache[:, :, :start] = past
        position = start

        def step(tokens: Tensor) -> Tensor:
            nonlocal position
            self._check_room(position + 1)
            hidden = self.embedding.weight[tokens] + self.position_embedding.weight[position]  # (B, C)
            for block, keys, values in zip(self.blocks, room[::2], room[1::2], strict=True):
                layer: Any = block.attention
                heads = _linear(_norm(hidden, block.attention_norm), layer.query_key_value)  # (B, 3 C)
                query, key, value = heads.view(batch_size, 3, self.num_heads, 1, -1).unbind(1)  # each (B, N, 1, D)
                keys[:, :, position : position + 1] = key
                values[:, :, position : position + 1] = value
                seen = slice(0, position + 1)
                mixed = attention(query, keys[:, :, seen], values[:, :, seen])  # (B, N, 1, D)
                hidden = hidden + _linear(mixed.flatten(1), layer.projection)
                expanded = F.gelu(_linear(_norm(hidden, block.mlp_norm), block.expansion), approximate="tanh")
                hidden = hidden + _linear(expanded, block.contraction)
            position += 1
            return F.linear(_norm(hidden, self.norm), self.embedding.weight)  # (B, V)

        return step

    def _check_room(self, positions: int) -> None:
        if positions > self.context:
            raise ValueError(
                f"the model sees at most {self.context} positions, got {positions}; begin again with fewer"
            )

    @overload
    def forward(self, tokens: Tensor) -> Tensor: ...
    @overload
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]: ...
    def forward(self, tokens: Tensor, state: State | None = None) -> Tensor | tuple[Tensor, State]:
        """Scores of the next token after each token.

        Args:
            tokens: (B, T) int64 in 0 … V - 1.
            state: keys and values of the P tokens before them, from ``initial_state`` or an earlier call.

        Returns:
            logits (B, T, V); with a state given, also the state after the last token.

        Raises:
            ValueError: P + T is more than ``context``.
        """
        start = 0 if state is None else state[0].shape[2]
        stop = start + tokens.shape[1]
        self._check_room(stop)
        positions = self.position_embedding.weight[start:stop]  # (T, C)
        hidden = self.dropout(self.embedding(tokens) + positions)  # (B, T, C)
        after: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            past = None if state is None else (state[2 * index], state[2 * index + 1])
            hidden, key, value = block(hidden, past)
            after += [key, value]
        logits = F.linear(self.norm(hidden), self.embedding.weight)  # (B, T, V)
        return logits if state is None else (logits, tuple(after))


def _linear(inputs: Tensor, layer: Any) -> Tensor:
    """A linear layer without the cost of calling a module, which counts when there is one token."""
    return F.linear(inputs, layer.weight, layer.bias)


def _norm(inputs: Tensor, layer: Any) -> Tensor:
    return F.layer_norm(inputs, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
