"""The language model on gated recurrent units."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

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
