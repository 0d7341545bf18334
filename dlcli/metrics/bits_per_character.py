"""Bits per character: the loss of a language model in a unit that does not depend on the tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcli.metrics.base import Metric


class BitsPerCharacter(Metric):
    """The nats of all tokens / ln 2 / the characters of all tokens. State: nats, characters."""

    def __init__(self) -> None:
        self.state = torch.zeros(2, dtype=torch.float64)

    def update(self, nats: Tensor, characters: Tensor) -> None:  # type: ignore[override]
        """nats: scalar, summed over the batch's tokens; characters: scalar, of the same tokens."""
        self.state = self.state.to(nats.device) + torch.stack([nats.detach().double(), characters.double()])

    def compute(self) -> float:
        return float(self.state[0] / self.state[1]) / math.log(2)
