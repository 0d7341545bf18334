"""Numbers as integers, so that their sums are exact in modular arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcli.errors import NonFiniteError

FRACTION_BITS = 32
SCALE = 2.0**FRACTION_BITS

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


def encode(values: Floats, bits: int, addends: int) -> Integers:
    """Multiples of 2^-32, the nearest ones.

    Args:
        values: float64.
        bits: of the signed integer that the sum must fit into.
        addends: at most so many of such vectors are added up.

    Raises:
        NonFiniteError: a value is not finite, or so large that the sum might not fit.
    """
    limit = 2.0 ** (bits - 1 - FRACTION_BITS) / addends
    largest = float(np.abs(values).max(initial=0.0))
    if not largest < limit:  # also for NaN
        raise NonFiniteError(
            f"a client's update has an element of size {largest:.3g}; sums of {addends} in {bits} bits hold less than "
            f"{limit:.3g} each; lower optimizer.lr or set trainer.clip_norm"
        )
    return np.rint(values * SCALE).astype(np.int64)


def decode(integers: Integers) -> Floats:
    """The values of multiples of 2^-32."""
    decoded: Floats = integers.astype(np.float64) / SCALE
    return decoded
