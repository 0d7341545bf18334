"""Overrides as people type them, read by Hydra's grammar or refused with the reason. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.catalogue import GROUPS
from dlcli.errors import ConfigError, shown, suggestion

AS_TYPED = ("data.path", "data.labels", "run_dir", "init_from", "task.classifier", "model.kernel")
"""Options whose values are taken as typed: spaces, accents and commas of a path, and parentheses of an expression, need
no second quotes."""
EXAMPLE = "for example model=lstm or optimizer.lr=1e-3"
_QUOTED_KEY = re.compile(r"""[{,]\s*(["'])[^"']*\1\s*:""")
MAX_OVERRIDE = 2_000  # characters; Hydra's grammar takes a second for twice as many
MAX_KEY = 200  # characters
MAX_DEPTH = 20  # brackets within brackets in an override


def prepare(overrides: Sequence[str], directories: list[Path]) -> tuple[list[str], list[str]]:
    """Overrides that Hydra can apply whatever their keys are (``check`` reports unknown ones), and the problems."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    prepared, problems = [], []
    for text in overrides:
        label = shown(text)
        problem = size_problem(text)
        if problem:
            problems.append(problem)
            continue
        text = _quoted(text)
        try:
            override = parser.parse_override(text)
        except Exception:
            problems.append(unreadable(text))
            continue
        key = override.key_or_group
        if len(key) > MAX_KEY:
            problems.append(f"'{label}': no option has a name of {len(key):,} characters")
        elif override.is_delete():
            problems.append(f"'{label}': an option cannot be deleted; set it to another value")
        elif override.is_sweep_override():
            problems.append(f"'{label}' names several values; give one, or a list in brackets where a list is meant")
        elif key.startswith("hydra"):
            problems.append(f"'{label}': Hydra's own settings cannot be changed in a single run")
        elif override.package is not None:
            problems.append(f"'{label}': a package cannot be chosen; write {shown(key)}=…")
        elif key in GROUPS:
            problem = group_problem(key, override.value(), directories)
            if problem:
                problems.append(problem)
            elif override.value() is not None:  # experiment=null is what holds without it
                prepared.append(text.lstrip("+"))
        else:
            prepared.append("++" + text.lstrip("+"))
    return prepared, problems


def unreadable(text: str) -> str:
    """The message for an override that Hydra's grammar refuses."""
    if _QUOTED_KEY.search(text):
        return f"cannot read '{shown(text)}'; write the names in a mapping without quotes, such as {{output.*:3}}"
    return f"cannot read '{shown(text)}'; expected key=value, {EXAMPLE}"


def _quoted(text: str) -> str:
    """An override of such an option with its value in quotes, unless it is quoted, empty, null or an interpolation."""
    key, equals, value = text.partition("=")
    if (
        not equals
        or key.lstrip("+") not in AS_TYPED
        or value in ("", "null", "???")
        or value[0] in "'\""
        or "${" in value
    ):
        return text
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def size_problem(text: str) -> str | None:
    """Why an override is too long or too deep to be given to Hydra's grammar; None if it is not."""
    if len(text) > MAX_OVERRIDE:
        return f"'{shown(text)}': an override of {len(text):,} characters; expected at most {MAX_OVERRIDE:,}"
    if _depth(text) > MAX_DEPTH:
        return f"'{shown(text)}': brackets nested too deeply; expected at most {MAX_DEPTH} levels"
    return None


def _depth(text: str) -> int:
    """The most brackets that are open at once, whether or not they are quoted."""
    depth = deepest = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest


def group_problem(group: str, value: Any, directories: list[Path]) -> str | None:
    """Why the value of a group is not one of its entries; None if it is."""
    if group == "experiment" and value is None:
        return None
    known = catalogue.entries(group, directories)
    name = getattr(value, "text", value)
    if not isinstance(name, str):
        value = "null" if name is None else shown(name)
        return f"{group}={value}: expected the name of one {group}; see 'dlcli list {group}'"
    if name not in known:
        return f"no {group} '{shown(name)}'; {suggestion(name, known)}"
    return None


def parse_values(overrides: Sequence[str], text_keys: Collection[str] = ()) -> dict[str, Any]:
    """``key=value`` texts by Hydra's grammar -> plain values; those of ``text_keys`` are taken as they stand.

    Raises:
        ConfigError: a text that cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, rest = text.partition("=")
        if equals and key in text_keys:
            values[key] = rest
            continue
        try:
            override = OverridesParser.create().parse_override(text)
            simple = not (override.is_add() or override.is_delete() or override.is_sweep_override())
            plain: Any = OmegaConf.to_container(OmegaConf.create({"value": override.value()}))
            values[override.key_or_group] = plain["value"]
        except Exception:
            simple = False
        if not simple:
            raise ConfigError(unreadable(text))
    return values
