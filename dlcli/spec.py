"""DataSpec: the glossary of sizes that data define and models, tasks and trainers may ask for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """All that a model may know about data. A size that the data do not define is None.

    A constructor parameter of one of these names receives the data's value; a configuration cannot set it.
    """

    input_shape: tuple[int, ...] | None = None  # one example without the batch axis: (C, H, W) or (features,)
    num_outputs: int | None = None  # classes of a classification, or targets of a regression
    num_classes: int | None = None  # classes of a classification
    num_targets: int | None = None  # numbers to predict in a regression
    vocab_size: int | None = None  # distinct tokens of a text
    sequence_length: int | None = None  # tokens in one training window
    num_states: int | None = None  # of an environment that has finitely many
    num_actions: int | None = None  # that an environment lets choose from

    def defined(self) -> dict[str, Any]:
        """The sizes that the data do define, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


SIZES = tuple(field.name for field in fields(DataSpec))
