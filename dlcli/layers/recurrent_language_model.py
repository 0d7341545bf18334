"""What the recurrent language models share: tokens in, a fused recurrence, logits of the next token out.

Letters of shapes: B sequences, T tokens in each, V tokens in the vocabulary, E units of the embedding, H hidden units,
L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, Probability

State = tuple[Tensor, ...]
TokenStep = Callable[[Tensor], Tensor]


class RecurrentLanguageModel(nn.Module):
    """Embedding (or one-hot) -> recurrence of ``num_layers`` -> linear layer to the vocabulary.

    Dropout acts on the connections that are not recurrent: after a learned embedding, between the layers and before
    the output (Zaremba et al. 2014). Subclasses say which recurrence, and write its ``cell`` out for steps one by one.

    Class attributes:
        recurrent: the state after one window is worth carrying to the next.
        recurrence_class: torch's fused layer.
        num_states: tensors in its state.
    """

    recurrent: ClassVar[bool] = True
    recurrence_class: ClassVar[type[nn.RNNBase]]
    num_states: ClassVar[int] = 1

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: Count | None,
        hidden_size: Count,
        num_layers: Count,
        dropout: Probability,
        tie_embedding: bool,
        bidirectional: bool,
    ):
        """
        Args:
            vocab_size: V, distinct tokens.
            embedding_size: E, or None for one-hot vectors of V numbers.
            hidden_size: H, units of each layer.
            num_layers: L.
            dropout: probability of zeroing a unit while training.
            tie_embedding: use the embedding's matrix as the output layer's too (Press & Wolf 2017); needs E = H.
            bidirectional: only False makes sense here.

        Raises:
            ConfigError: a tied embedding of another size than the hidden layer, or a bidirectional recurrence.
        """
        super().__init__()
        if bidirectional:
            raise ConfigError(
                "model.bidirectional=true: read backwards, a language model sees the tokens that it is to predict; "
                "set model.bidirectional=false"
            )
        if tie_embedding and embedding_size != hidden_size:
            size = "null" if embedding_size is None else embedding_size
            raise ConfigError(
                f"model.tie_embedding=true: model.embedding_size={size} must equal model.hidden_size={hidden_size}; "
                f"set model.embedding_size={hidden_size} or model.tie_embedding=false"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding = None if embedding_size is None else nn.Embedding(vocab_size, embedding_size)
        self.recurrence = self.recurrence_class(  # type: ignore[call-arg]  # RNNBase itself also takes the mode
            input_size=embedding_size or vocab_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=dropout if num_layers > 1 else 0.0,  # torch warns about dropout between the layers of one
            batch_first=True,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocab_size)
        self._initialise(tie_embedding)

    @torch.no_grad()
    def _initialise(self, tie_embedding: bool) -> None:
        """
        =============================== ==============================================================
        parameter                       initial value
        =============================== ==============================================================
        embedding                       N(0, 1)
        embedding, tied to the output   N(0, 1/E), so that the first logits are small
        recurrence, weights and biases  uniform in ±1/√H
        output, weights and biases      uniform in ±1/√H; tied weights are the embedding's
        =============================== ==============================================================

        These are torch's own but for the tied embedding. The scale of the embedding matters: on characters an LSTM
        learned clearly faster from N(0, 1) than from N(0, 1/E) or from one-hot vectors.
        """
        if tie_embedding and self.embedding is not None:
            self.embedding.weight.normal_(std=self.embedding.embedding_dim**-0.5)
            self.output.weight = self.embedding.weight

    def initial_state(self, batch_size: int) -> State:
        """Zeros, each (L, batch_size, H), with the parameters' dtype and device."""
        weight = self.output.weight
        return tuple(weight.new_zeros(self.num_layers, batch_size, self.hidden_size) for _ in range(self.num_states))

    @staticmethod
    def cell(from_input: Tensor, from_hidden: Tensor, *state: Tensor) -> State:
        """The recurrence of one layer at one step, as its paper writes it.

        Args:
            from_input: W x + b, (B, gates H).
            from_hidden: U h + c, (B, gates H).
            state: before the step, each (B, H).

        Returns:
            The state after the step; its first tensor is h.
        """
        raise NotImplementedError

    @torch.no_grad()
    def token_step(self, state: State) -> TokenStep:
        """A function that reads single tokens after ``state``: tokens (B,) int64 -> logits (B, V).

        It computes what ``forward`` does in evaluation mode, in less time, and keeps the state to itself. The weights
        must not change while it is in use, and the logits hold until the next call.

        Two things make it quick. The input of the first layer is one of V vectors: all V products with W are taken
        once, and a step looks one up. And whatever reads the new h of a layer, its own next step and the layer above
        (or the output), stands in one matrix: one product for each layer.
        """
        weights = dict(self.recurrence.named_parameters())
        inputs = [(weights[f"weight_ih_l{i}"], weights[f"bias_ih_l{i}"]) for i in range(self.num_layers)]
        own = [(weights[f"weight_hh_l{i}"], weights[f"bias_hh_l{i}"]) for i in range(self.num_layers)]
        vectors = self.embedding.weight if self.embedding is not None else inputs[0][0].new_ones(self.vocab_size).diag()
        table = F.linear(vectors, *inputs[0])  # (V, gates H)
        above = [*inputs[1:], (self.output.weight, self.output.bias)]
        matrices = [torch.cat([o, up]).t().contiguous() for (o, _), (up, _) in zip(own, above, strict=True)]
        biases = [torch.cat([o, up]) for (_, o), (_, up) in zip(own, above, strict=True)]
        layers = [tuple(tensor[i] for tensor in state) for i in range(self.num_layers)]
        products = [torch.addmm(b, layer[0], m) for b, layer, m in zip(biases, layers, matrices, strict=True)]
        from_hidden = [product[:, : table.shape[1]] for product in products]  # views of what a step computes
        from_below = [product[:, table.shape[1] :] for product in products]

        def step(tokens: Tensor) -> Tensor:
            found = table.index_select(0, tokens)
            for i in range(len(layers)):
                layers[i] = self.cell(found, from_hidden[i], *layers[i])
                torch.addmm(biases[i], layers[i][0], matrices[i], out=products[i])
                found = from_below[i]
            return found

        return step

    @overload
    def forward(self, tokens: Tensor) -> Tensor: ...
    @overload
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]: ...
    def forward(self, tokens: Tensor, state: State | None = None) -> Tensor | tuple[Tensor, State]:
        """Scores of the next token after each token.

        Args:
            tokens: (B, T) int64 in 0 … V - 1.
            state: what came before, from ``initial_state`` or an earlier call; each tensor (L, B, H).

        Returns:
            logits (B, T, V); with a state given, also the state after the last token, not detached.
        """
        dtype = self.output.weight.dtype
        if self.embedding is None:
            inputs = F.one_hot(tokens, self.vocab_size).to(dtype)  # (B, T, V)
        else:
            inputs = self.dropout(self.embedding(tokens))  # (B, T, E)
        before: Any = self.initial_state(tokens.shape[0]) if state is None else state
        hidden, after = self.recurrence(inputs, before if self.num_states > 1 else before[0])  # (B, T, H), (L, B, H)
        logits: Tensor = self.output(self.dropout(hidden))  # (B, T, V)
        if state is None:
            return logits
        after = after if self.num_states > 1 else (after,)
        return logits, tuple(tensor.to(dtype) for tensor in after)
