"""What a data source can say about people's own files before anything is built: which task they ask for.

A registered data class may declare ``inspect = "module:function"``, the name of a function that imports no torch.
``config.compose`` calls it; its choices stand in front of everything that anybody names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dlcli.registry import DATA


class Inspection(NamedTuple):
    """choices: what the data ask for, by group, unless a person or a YAML file names another.
    options: values of the data's own options that were left to be found out ("auto")."""

    choices: dict[str, str]
    options: dict[str, Any]


def inspector(data: Mapping[str, Any]) -> Callable[[Mapping[str, Any], tuple[str, ...]], Inspection] | None:
    """The function of the data entry with these options, or None: ``inspect(options, requires) -> Inspection``.

    ``requires`` are the sizes that a task needs which somebody has named; empty if the data may choose it. The function
    raises DataError if the files cannot be read.
    """
    name = DATA.constant(data["name"], "inspect")
    if not name:
        return None
    module, _, function = name.partition(":")
    found: Callable[[Mapping[str, Any], tuple[str, ...]], Inspection] = getattr(
        importlib.import_module(module), function
    )
    return found
