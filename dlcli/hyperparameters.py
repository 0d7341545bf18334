"""Types of hyper-parameters, and the check of a value against one. Imports neither torch nor Hydra.

Constructors annotate their keyword-only parameters with plain types (``int``, ``float | None``, ``list[int]``,
``Literal["relu", "tanh"]``), with ``Annotated[int, Ge(1)]``, or with one of the names below. ``registry`` reads these
annotations from the source, and ``problem`` checks a configured value against them before torch is imported.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Ge:
    """Marks a number that is at least ``ge``. (annotated_types has the same marks, but imports for 40 ms.)"""

    ge: float


@dataclass(frozen=True)
class Gt:
    """Marks a number that is greater than ``gt``."""

    gt: float


@dataclass(frozen=True)
class Le:
    """Marks a number that is at most ``le``."""

    le: float


@dataclass(frozen=True)
class Lt:
    """Marks a number that is less than ``lt``."""

    lt: float


@dataclass(frozen=True)
class MinLen:
    """Marks a list of at least ``min_length`` elements."""

    min_length: int


@dataclass(frozen=True)
class Keys:
    """Marks a mapping whose keys are among these, each with a value of its type or null."""

    types: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class DurationText:
    """Marks a duration: a whole number of steps, or text such as "2 epochs" or "0.5 epoch"."""


@dataclass(frozen=True)
class PathText:
    """Marks text that is the path of a file or folder."""


@dataclass(frozen=True)
class RunText:
    """Marks text that names a run: its name, the beginning of it, its folder, or "latest"."""


PUBLISHED = "published:"
"""Begins a path of a data set in place of people's own: ``published:NAME`` for its folder, or with ``/FILE``."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(step|epoch)s?")

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Drawn = Annotated[int, Ge(1), Le(10_000)]  # pictures or curves in one drawing
Seed = Annotated[int, Ge(0), Lt(2**32)]
FilePath = Annotated[str, MinLen(1), PathText()]
RunReference = Annotated[str, MinLen(1), RunText()]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Lt(1)]  # of dropping, smoothing, averaging: 1 would leave nothing
Fraction = Annotated[float, Gt(0), Le(1)]
Folds = Annotated[int, Ge(2)]  # parts of a cross-validation
Duration = Annotated[int | str, DurationText()]
Activation = Literal["identity", "relu", "relu_straight_through", "tanh", "sigmoid", "gelu", "silu", "prelu"]
"""The functions of ``dlcli.layers.activations``."""
Init = Literal["default", "zeros", "normal", "standard_normal", "xavier", "xavier_normal", "he", "orthogonal"]
"""The rules of ``dlcli.layers.initialisation``."""
Chance = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
Normalize = bool | Literal["symmetric", "per_channel", "imagenet"]
"""What ``dlcli.data.images.normalisation`` does with pixels."""
AUGMENTATIONS: dict[str, Any] = {
    "horizontal_flip": Chance,  # of mirroring left to right
    "vertical_flip": Chance,  # of mirroring upside down
    "crop_padding": Count,  # pixels of black edge, out of which a picture of the old size is cut
    "resized_crop": tuple[Share, Share, PositiveFloat, PositiveFloat],  # area from, to; width / height from, to
    "rotation": Annotated[float, Gt(0), Le(180)],  # degrees at most, either way
    "translation": Share,  # of the side at most, in all directions
    "scale": tuple[PositiveFloat, PositiveFloat],  # factor from, to
    "shear": Annotated[float, Gt(0), Lt(90)],  # degrees at most, either way
    "brightness": PositiveFloat,  # a factor between 1 - this and 1 + this; so are the next two
    "contrast": PositiveFloat,
    "saturation": PositiveFloat,
    "hue": Annotated[float, Gt(0), Le(0.5)],  # share of the colour circle at most, either way
    "erasing": Chance,  # of painting a rectangle over
    "mixup": PositiveFloat,  # alpha of the Beta distribution of the share that another picture gets
    "cutmix": PositiveFloat,  # the same, for a rectangle of another picture
}
"""The random changes of training pictures, which ``dlcli.data.augmentation`` makes."""
MIXING = ("mixup", "cutmix")
"""Those that put other pictures of the batch into a picture."""
Augmentations = Annotated[dict[str, Any], Keys(tuple(AUGMENTATIONS.items()))]

NAMES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, dict, tuple, Ge, Gt, Le, Lt, MinLen)},
    "None": None,
    "Any": Any,
    "Annotated": Annotated,
    "Literal": Literal,
    "Count": Count,
    "Natural": Natural,
    "Drawn": Drawn,
    "Seed": Seed,
    "FilePath": FilePath,
    "RunReference": RunReference,
    "PositiveFloat": PositiveFloat,
    "NonNegativeFloat": NonNegativeFloat,
    "Probability": Probability,
    "Fraction": Fraction,
    "Chance": Chance,
    "Folds": Folds,
    "Duration": Duration,
    "Activation": Activation,
    "Init": Init,
    "Normalize": Normalize,
    "Augmentations": Augmentations,
}
"""Every name that an annotation of a registered constructor may use."""

_BOUNDS: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Ge: ("at least", lambda value, bound: value >= bound.ge),
    Gt: ("greater than", lambda value, bound: value > bound.gt),
    Le: ("at most", lambda value, bound: value <= bound.le),
    Lt: ("less than", lambda value, bound: value < bound.lt),
}
_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def steps_of(duration: int | str, steps_per_epoch: int) -> int:
    """A duration in steps, at least 1. ``"2 epochs"`` is ``2 * steps_per_epoch``.

    Raises:
        ValueError: the text is not a duration.
    """
    if isinstance(duration, int):
        return max(1, duration)
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{duration!r} is not a duration: write a number of steps or, for example, '1 epoch'")
    number, unit = float(match[1]), match[2]
    return max(1, round(number * steps_per_epoch)) if unit == "epoch" else max(1, round(number))


def keys_of(annotation: Any) -> dict[str, Any] | None:
    """The types of the keys of a mapping that is marked with ``Keys`` (or null); None for anything else."""
    for member in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(member) is Annotated:
            for mark in typing.get_args(member)[1:]:
                if isinstance(mark, Keys):
                    return dict(mark.types)
    return None


def is_path(value: Any, annotation: Any) -> bool:
    """Whether a value that fits the annotation is the path of a file or folder on this machine."""
    return not (isinstance(value, str) and value.startswith(PUBLISHED)) and _is_marked(value, annotation, PathText)


def names_run(value: Any, annotation: Any) -> bool:
    """Whether a value that fits the annotation names a run."""
    return _is_marked(value, annotation, RunText)


def describe(annotation: Any) -> str:
    """What a person may write for this annotation, in words."""
    if annotation is Any:
        return "anything"
    if annotation is None or annotation in _PLAIN:
        return _PLAIN[type(None) if annotation is None else annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        if any(isinstance(mark, DurationText) for mark in arguments[1:]):
            return "a number of steps (at least 1) or a text such as '1 epoch'"
        limits = [
            f"{_BOUNDS[type(mark)][0]} {getattr(mark, type(mark).__name__.lower())}"
            for mark in arguments[1:]
            if type(mark) in _BOUNDS
        ]
        known = keys_of(annotation)
        if known is not None:
            return f"a mapping of {', '.join(known)}"
        lengths = [f"of at least {m.min_length}" for m in arguments[1:] if isinstance(m, MinLen)]
        return " ".join([describe(arguments[0]), " and ".join(limits), *lengths]).replace("  ", " ").strip()
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if _is_union(annotation):
        return " or ".join(describe(member) for member in arguments)
    if origin is dict:
        return f"a mapping from {describe(arguments[0])} to {describe(arguments[1])}"
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    return f"a list, each {describe(arguments[0])}" if arguments else "a list"


def accepts(value: Any, annotation: Any) -> bool:
    """Whether a plain YAML value (number, text, boolean, null, list, mapping) fits the annotation."""
    if annotation is Any:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return accepts(value, arguments[0]) and all(_meets(value, mark) for mark in arguments[1:])
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if _is_union(annotation):
        return any(accepts(value, member) for member in arguments)
    if origin is dict:
        return isinstance(value, dict) and all(
            accepts(key, arguments[0]) and accepts(item, arguments[1]) for key, item in value.items()
        )
    if not isinstance(value, list | tuple):
        return False
    if origin is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, value, arguments))
    return all(accepts(item, arguments[0]) for item in value)


def _is_marked(value: Any, annotation: Any, kind: type) -> bool:
    """Whether the member of the annotation that the value fits has a mark of this kind."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    fitting = next((member for member in members if accepts(value, member)), None)
    return any(isinstance(mark, kind) for mark in typing.get_args(fitting)[1:])


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _meets(value: Any, mark: Any) -> bool:
    if isinstance(mark, DurationText):
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip())
            return match is not None and float(match[1]) > 0
        return bool(value >= 1)
    if isinstance(mark, Keys):
        types = dict(mark.types)
        return all(key in types and (item is None or accepts(item, types[key])) for key, item in value.items())
    if isinstance(mark, MinLen):
        return len(value) >= mark.min_length
    return bool(_BOUNDS[type(mark)][1](value, mark)) if type(mark) in _BOUNDS else True
