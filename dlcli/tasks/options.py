"""Options of a task's verbs: the keyword-only, annotated parameters of ``sample``, checked as constructors' are."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from dlcli.errors import suggestion
from dlcli.hyperparameters import accepts, describe


def keyword_options(method: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of a method and their types."""
    kinds = typing.get_type_hints(method, include_extras=True)
    parameters = inspect.signature(method).parameters.values()
    return {p.name: kinds[p.name] for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def option_problems(values: Mapping[str, Any], options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What is wrong with ``values``, one line each. ``prefix`` stands before each key in the messages."""
    problems = []
    for key, value in values.items():
        if key not in options:
            hint = suggestion(str(key), options).replace("did you mean ", f"did you mean {prefix}")
            problems.append(f"unknown option '{prefix}{key}'; {hint}")
        elif not accepts(value, options[key]):
            shown = "null" if value is None else repr(value)
            problems.append(f"{prefix}{key}={shown}: expected {describe(options[key])}")
    missing = [key for key in options if key not in values]
    problems += [f"missing option '{prefix}{key}'; expected {describe(options[key])}" for key in missing]
    return problems
