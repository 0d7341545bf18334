"""Parameters chosen by patterns of their names: begun by a rule, frozen, or learning at a rate of their own.

Source: d2l 6.3 (initialisation) and 14.2 (fine-tuning).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from dlcli.errors import ConfigError, listing
from dlcli.layers.initialisation import FOR_MATRICES, RULES


def begin_by_rules(model: nn.Module, rules: Mapping[str, str]) -> None:
    """Initial values of the parameters whose names fit a pattern, such as ``head.weight: xavier``.

    Args:
        model: its other parameters stay as they are.
        rules: a rule of ``dlcli.layers.initialisation`` by pattern; the last that fits a name counts, and "default"
            leaves what the model has begun with.

    Raises:
        ConfigError: a pattern that fits no parameter, or a rule for matrices where one fits a vector.
    """
    named = dict(model.named_parameters())
    chosen: dict[str, str] = {}
    for pattern, rule in rules.items():
        chosen.update(dict.fromkeys(fitting(pattern, named, "init"), rule))
    for name, rule in chosen.items():
        if rule == "default":
            continue
        if named[name].ndim < 2 and rule in FOR_MATRICES:
            raise ConfigError(
                f"init: {rule} is a rule for weights of two axes and more, and '{name}' has {named[name].ndim}; use "
                "another rule, or a pattern that leaves it out, such as *.weight"
            )
        with torch.no_grad():
            RULES[rule](named[name])


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let no parameter learn whose name fits one of the patterns, such as ``stem.*``.

    Batch norms go on tracking the statistics of their inputs; only what is learned by gradient stays.

    Raises:
        ConfigError: a pattern that fits no parameter, or nothing left to learn.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        for name in fitting(pattern, named, "freeze"):
            named[name].requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in named.values()):
        raise ConfigError(f"freeze={list(patterns)}: leaves nothing to learn; freeze fewer parameters")


def rate_factors(names: Sequence[str], factors: Mapping[str, float]) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by: the factor of the last pattern that its name fits, or 1.

    Raises:
        ConfigError: a pattern that fits no parameter.
    """
    chosen = dict.fromkeys(names, 1.0)
    for pattern, factor in factors.items():
        chosen.update(dict.fromkeys(fitting(pattern, names, "lr_factors"), factor))
    return chosen


def fitting(pattern: str, names: Iterable[str], option: str) -> list[str]:
    """The names that a pattern fits; ``*`` stands for anything.

    Raises:
        ConfigError: there is none; names the parts of the network.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        parts = list(dict.fromkeys(f"{name.partition('.')[0]}.*" if "." in name else name for name in names))
        raise ConfigError(f"{option}: '{pattern}' fits no parameter that learns; there are {listing(parts)}")
    return found
