"""The language model on a plain recurrent network."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dlcli.layers.recurrent_language_model import RecurrentLanguageModel
from dlcli.registry import MODELS


@MODELS.register("rnn")
class RNN(RecurrentLanguageModel):
    """``h = tanh(W x + U h + b)`` in each layer; the state is (h,).

    Source: Elman 1990; d2l 9.5 and 9.6; DLFS chapter 6; GDL chapter 12.
    """

    recurrence_class: ClassVar[type[nn.RNNBase]] = nn.RNN

    @staticmethod
    def cell(from_input: Tensor, from_hidden: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(from_input + from_hidden),)
