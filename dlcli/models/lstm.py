"""The language model on long short-term memory."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dlcli.layers.recurrent_language_model import RecurrentLanguageModel
from dlcli.registry import MODELS


@MODELS.register("lstm")
class LSTM(RecurrentLanguageModel):
    """An input gate i, a forget gate f and an output gate o around a memory cell c; the state is (h, c).

    ``c = f * c + i * tanh(W x + U h + b)``, ``h = o * tanh(c)``.

    Source: Hochreiter & Schmidhuber 1997, Gers et al. 2000; d2l 10.1; DLFS chapter 6; GDL chapter 14.
    """

    recurrence_class: ClassVar[type[nn.RNNBase]] = nn.LSTM
    num_states: ClassVar[int] = 2

    @staticmethod
    def cell(from_input: Tensor, from_hidden: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        i, f, g, o = (from_input + from_hidden).chunk(4, -1)
        c = torch.addcmul(f.sigmoid() * state[1], i.sigmoid(), g.tanh())  # f * c + i * g
        return o.sigmoid() * c.tanh(), c
