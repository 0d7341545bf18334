"""A sum of sines of one number plus noise, for models that say how sure they are.

Source: d2l 18.3 "Gaussian Process Inference" (sin x + sin(4x)/2, noise 0.25, 50 points between 0 and 5).
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import torch

from dlcli.data.base import generator
from dlcli.data.tables import Columns, TableData
from dlcli.errors import ConfigError
from dlcli.hyperparameters import Count, MinLen, Natural, NonNegativeFloat
from dlcli.registry import DATA


@DATA.register("sines")
class Sines(TableData):
    """targets = Σ_i amplitudes[i] sin(frequencies[i] x) + noise at equally spaced x, the ends included.

    Every split covers the whole range with noise of its own.
    """

    def __init__(
        self,
        *,
        batch_size: Count,
        amplitudes: Annotated[list[float], MinLen(1)],
        frequencies: Annotated[list[float], MinLen(1)],
        noise: NonNegativeFloat,
        low: float,
        high: float,
        train_size: Count,
        val_size: Count,
        test_size: Count,
        data_seed: Natural,
    ):
        """
        Raises:
            ConfigError: not as many amplitudes as frequencies, or an empty range.
        """
        if len(amplitudes) != len(frequencies):
            raise ConfigError(
                f"data.amplitudes has {len(amplitudes)} numbers and data.frequencies {len(frequencies)}; give as many"
            )
        if low >= high:
            raise ConfigError(f"data.low={low}: expected less than data.high={high}")
        random = generator(data_seed)

        def observed(size: int) -> Columns:
            inputs = torch.linspace(low, high, size, dtype=torch.float64).unsqueeze(1)  # (N, 1)
            waves = (
                torch.tensor(amplitudes, dtype=torch.float64)
                * (inputs * torch.tensor(frequencies, dtype=torch.float64)).sin()
            )
            return inputs, waves.sum(1, keepdim=True) + noise * torch.randn(
                size, 1, generator=random, dtype=torch.float64
            )

        sizes = {"train": train_size, "val": val_size, "test": test_size}
        facts = (amplitudes, frequencies, noise, low, high, sizes, data_seed)
        self.source = "generated"
        self.fingerprint = hashlib.sha256(repr(facts).encode()).hexdigest()
        super().__init__(
            {split: observed(size) for split, size in sizes.items()},
            batch_size=batch_size,
            standardize_features=False,
            standardize_targets=False,
        )
