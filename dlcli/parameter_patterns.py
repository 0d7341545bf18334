"""Parameters chosen by patterns of their names: frozen, or learning at a rate of their own (d2l 14.2, fine-tuning)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from dlcli.errors import ConfigError, listing


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


def rate_factors(names: Sequence[str], factors: Mapping[str, float]) -> list[float]:
    """What each parameter's learning rate is multiplied by: the factor of the last pattern that its name fits, or 1.

    Raises:
        ConfigError: a pattern that fits no parameter.
    """
    chosen = dict.fromkeys(names, 1.0)
    for pattern, factor in factors.items():
        chosen.update(dict.fromkeys(fitting(pattern, names, "lr_factors"), factor))
    return list(chosen.values())


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
