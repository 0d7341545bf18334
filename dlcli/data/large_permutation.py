"""A random order of so many things that a list of their numbers would fill the memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dlcli.data.base import generator

ROUNDS = 4  # from so many on, it cannot be told from a random permutation (Luby and Rackoff 1988)


class LargePermutation:
    """A permutation of ``range(count)`` whose parts are computed when they are asked for: ``order[start:stop]``.

    A number below a² is two digits to the base a. Each round adds to one digit a random number that belongs to the
    other (a Feistel network), which can be undone, so no two numbers meet. What comes out at ``count`` or above goes
    through again. Memory: 4 tables of about √count numbers. A pure function of count, seed and epoch.
    """

    def __init__(self, count: int, seed: int, epoch: int):
        self.count = count
        self.base = math.isqrt(count - 1) + 1
        drawn = torch.randint(self.base, (ROUNDS, self.base), generator=generator(seed, epoch))
        self.tables = list(drawn.numpy())

    def __getitem__(self, part: slice) -> Tensor:
        """The numbers at these places of the order, (stop - start,) int64."""
        numbers = self._mixed(np.arange(part.start, part.stop, dtype=np.int64))
        while (outside := numbers >= self.count).any():
            numbers[outside] = self._mixed(numbers[outside])
        return torch.from_numpy(numbers)

    def _mixed(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        high, low = np.divmod(numbers, self.base)
        for table in self.tables:
            high, low = low, (high + table[low]) % self.base
        return high * self.base + low
