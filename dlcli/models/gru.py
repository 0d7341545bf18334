"""The language model on gated recurrent units."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dlcli.layers.recurrent_language_model import RecurrentLanguageModel
from dlcli.registry import MODELS


@MODELS.register("gru")
class GRU(RecurrentLanguageModel):
    """A reset gate r and an update gate z; the state is (h,).

    ``n = tanh(W x + b + r * (U h + c))``, ``h = (1 - z) * n + z * h``. The reset gate acts after the product with U, as
    in torch and cuDNN; d2l and DLFS write it before.

    Source: Cho et al. 2014; d2l 10.2; DLFS chapter 6.
    """

    recurrence_class: ClassVar[type[nn.RNNBase]] = nn.GRU

    @staticmethod
    def cell(from_input: Tensor, from_hidden: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (r, z, n), (r_hidden, z_hidden, n_hidden) = from_input.chunk(3, -1), from_hidden.chunk(3, -1)
        n = torch.tanh(n + (r + r_hidden).sigmoid() * n_hidden)
        z = (z + z_hidden).sigmoid()
        return ((1 - z) * n + z * state[0],)
