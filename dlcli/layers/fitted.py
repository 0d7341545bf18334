"""The base of models that are fitted: tensors that the training data fill, and that may take their sizes from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class FittedModel(nn.Module):
    """A model with ``fit``. What is fitted are mostly buffers, empty before where the data decide their size."""

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"trainer": ("fit",)}

    def fit(self, batches: Iterable[Any]) -> Mapping[str, float]:
        """Fill the buffers from batches (inputs, targets), which may be read several times.

        Returns:
            facts to record with the run, by name.
        """
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Give every buffer the type and the size that it was saved with, as far as the data decide the size.

        What does not fit stays as it is, and is refused like any other tensor of another size.
        """
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and may_become(tuple(buffer.shape), tuple(saved.shape)):
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def may_become(present: tuple[int, ...], saved: tuple[int, ...]) -> bool:
    """Whether the data could have made one size of the other: they decide axes of length 0, and nothing else."""
    if 0 in present and len(present) != len(saved):  # such as labels (N,) instead of numbers (N, outputs)
        return True
    return len(present) == len(saved) and all(a in (0, b) for a, b in zip(present, saved, strict=True))


def target_columns(targets: Tensor, num_outputs: int) -> Tensor:
    """Labels (B,) int64 as one-hot rows, or numbers to predict as they are: (B, num_outputs) float64."""
    if targets.ndim == 1 and not targets.is_floating_point():
        return nn.functional.one_hot(targets, num_outputs).double()
    return targets.double()


def log_shares(counts: Tensor, smoothing: float) -> Tensor:
    """Counts of classes (…, C) -> logarithms of their shares, with ``smoothing`` added to every count."""
    counts = counts + smoothing
    return (counts / counts.sum(-1, keepdim=True)).log()
