"""What may follow on a command line, for the shells' completion. Imports neither torch nor Hydra, and never fails.

``dlcli --complete WORDS…`` calls ``candidates`` with the words after ``dlcli``; the last one is being typed. A
candidate is a whole word; one that ends with ``=``, ``.`` or ``/`` wants to be continued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlcli.catalogue import CONFIGS, GROUPS, Entry, entries, load_yaml
from dlcli.check import TOP_LEVEL
from dlcli.hyperparameters import names_run
from dlcli.registry import REGISTRIES
from dlcli.run_records import LATEST
from dlcli.spec import SIZES

OVERRIDING = ("train", "eval", "show")  # verbs whose arguments are overrides
SAMPLING = ("prompt", "length", "temperature", "top_k", "top_p", "seed", "num_samples", "scale", "output")
OPTION_VALUES = {
    "--resume": "run",
    "--checkpoint": ("best", "last"),
    "--split": ("train", "val", "test"),
    "--format": ("csv", "jsonl"),
}
FOLDERS = {"--config-dir", "--plugin"}
FILES = {"--input", "--output"}


def candidates(words: Sequence[str]) -> list[str]:
    """Everything that the last word may become, sorted; nothing where anything may stand or something is wrong."""
    try:
        current = words[-1] if words else ""
        return sorted({word for word in _continuations(list(words[:-1]), current) if word.startswith(current)})
    except Exception:  # a completion that fails must not disturb the line that is being typed
        return []


def _continuations(before: list[str], current: str) -> Iterator[str]:
    """Words that may stand in place of ``current``, whatever it begins with."""
    positional = _positional(before)
    if not positional:
        yield from _options([]) if current.startswith("-") else _verbs([])
        return
    verb = positional[0]
    if before[-1] in OPTION_VALUES or before[-1] == "--status":
        yield from _option_values(before)
    elif before[-1] in FOLDERS | FILES or before[-1] == "--run-dir":
        return  # the shell completes files
    elif current.startswith("-"):
        yield from _options(positional)
    elif verb in ("runs", "data") and len(positional) == 1:
        yield from _verbs(positional)
    elif verb == "runs":
        yield from _runs(before) if positional[1] == "rm" else ()
    elif verb == "data":
        yield from entries("data")
    elif verb == "list" and len(positional) == 1:
        yield from GROUPS
    elif verb == "list" and len(positional) == 2:
        yield from entries(positional[1], _directories(before)) if positional[1] in GROUPS else ()
    elif verb == "completion" and len(positional) == 1:
        yield from ("bash", "zsh", "fish")
    elif verb == "compare" or (verb in ("eval", "export", "predict", "sample") and len(positional) == 1):
        yield from _runs(before)
    elif verb == "sample":
        yield from (f"{key}=" for key in SAMPLING)
    elif verb in OVERRIDING:
        yield from _overrides(before, current)


def _positional(before: list[str]) -> list[str]:
    """The words that are neither options nor their values."""
    with_value = {
        *OPTION_VALUES,
        *FOLDERS,
        *FILES,
        "--run-dir",
        "--port",
        "--status",
        "--older-than",
        "--plot",
        "--metric",
    }
    return [
        word
        for previous, word in zip(["", *before], before, strict=False)
        if not word.startswith("-") and previous not in with_value
    ]


def _command(path: list[str]) -> Any:
    """The Typer command of the first verbs of ``path``. Only verbs and options ask for it: it costs Typer's import."""
    from typer.main import get_command

    from dlcli.cli.main import app

    command: Any = get_command(app)
    for word in path:
        command = getattr(command, "commands", {}).get(word, command)
    return command


def _verbs(path: list[str]) -> Iterator[str]:
    yield from (name for name, command in _command(path).commands.items() if not command.hidden)


def _options(path: list[str]) -> Iterator[str]:
    for parameter in _command(path).params:
        yield from (option for option in parameter.opts if option.startswith("--"))
    yield "--help"


def _option_values(before: list[str]) -> Iterator[str]:
    from dlcli.run_records import STATUSES

    values: Any = OPTION_VALUES.get(before[-1], STATUSES)
    yield from _runs(before) if values == "run" else values


def _value_of(option: str, before: list[str]) -> Iterator[str]:
    """The values that were given to an option, written ``--option VALUE`` or ``--option=VALUE``."""
    for word, following in zip(before, [*before[1:], ""], strict=False):
        if word == option and following:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def _directories(before: list[str]) -> list[Path]:
    from dlcli import plugins

    return [*map(Path, _value_of("--config-dir", before)), *plugins.load(_value_of("--plugin", before))]


def _runs(before: list[str]) -> Iterator[str]:
    from dlcli.run_records import records
    from dlcli.sweep_records import sweeps

    named = [*_value_of("--run-dir", before), *(word[8:] for word in before if word.startswith("run_dir="))]
    folder = Path(named[-1] if named else load_yaml(CONFIGS / "config.yaml")["run_dir"])
    known = records(folder)
    yield from (found.name for found in known)
    if before[0] in ("compare", "runs") or before[-1] == "--resume":
        yield from (sweep.name for sweep in sweeps(folder))
    if known:
        yield LATEST


def _overrides(before: list[str], current: str) -> Iterator[str]:
    key, separator, _ = current.partition("=")
    group, dot, option = key.partition(".")
    directories = _directories(before)
    if separator and key in GROUPS:
        yield from (f"{key}={name}" for name in entries(key, directories))
    elif separator and dot and group in REGISTRIES:
        entry = _chosen(group, before, directories)
        runs = _runs(before) if names_run(LATEST, _annotation(entry, option)) else ()
        yield from (f"{key}={value}" for value in (*_option_choices(entry, option), *runs))
    elif separator and names_run(LATEST, TOP_LEVEL.get(key)):
        yield from (f"{key}={name}" for name in _runs(before))
    elif dot and group in REGISTRIES:
        yield from (f"{group}.{name}=" for name in _values(_chosen(group, before, directories)))
    elif not separator and not dot:
        yield from (f"{name}=" for name in GROUPS)
        yield from (f"{name}." for name in REGISTRIES)
        yield from (f"{name}=" for name in load_yaml(CONFIGS / "config.yaml") if name != "defaults")


def _chosen(group: str, before: list[str], directories: list[Path]) -> Entry | None:
    """The entry of a group that the words choose: by name, through an experiment or the data, or by default."""
    named = {word.partition("=")[0]: word.partition("=")[2] for word in before if "=" in word}
    defaults = {
        key: value
        for item in load_yaml(CONFIGS / "config.yaml")["defaults"]
        if isinstance(item, dict)
        for key, value in item.items()
    }
    experiment = _suggestions(entries("experiment", directories).get(named.get("experiment", "")))
    data = named.get("data") or experiment.get("data") or defaults["data"]
    suggested = _suggestions(entries("data", directories).get(data))
    choice = named.get(group) or experiment.get(group) or suggested.get(group) or defaults.get(group)
    return entries(group, directories).get(str(choice))


def _suggestions(entry: Entry | None) -> dict[str, str]:
    """The choices that an entry's defaults list makes for other groups: ``override /model@_global_.model: lstm``."""
    found = {}
    for item in _defaults(entry):
        for key, choice in item.items() if isinstance(item, dict) else ():
            match = re.fullmatch(r"override /?(\w+)(@\S+)?", str(key))
            if match is not None:
                found[match[1]] = str(choice)
    return found


def _defaults(entry: Entry | None) -> list[Any]:
    content = load_yaml(entry.file) if entry is not None else None
    defaults = content.get("defaults") if isinstance(content, dict) else None
    return defaults if isinstance(defaults, list) else []


def _values(entry: Entry | None) -> dict[str, Any]:
    """The options of an entry and their defaults, those of the entries that it builds on included."""
    if entry is None:
        return {}
    values: dict[str, Any] = {}
    for item in _defaults(entry):
        if isinstance(item, str) and item != "_self_" and item != entry.name:
            file = entry.file.parent / f"{item}.yaml"
            if file.is_file():
                values |= _values(Entry(entry.group, item, file, "", ""))
    values |= entry.content()
    values.pop("name", None)
    return values


def _option_choices(entry: Entry | None, option: str) -> list[str]:
    """The values of an option, where they can be counted, and its default."""
    if entry is None:
        return []
    found = _countable(_annotation(entry, option))
    default = _values(entry).get(option, "???")
    if isinstance(default, bool):
        found += ["true", "false"]
    elif default is None:
        found.append("null")
    elif isinstance(default, int | float) or (isinstance(default, str) and re.fullmatch(r"[\w./-]+", default)):
        found.append(str(default))
    return found


def _annotation(entry: Entry | None, option: str) -> Any:
    """The type of an option of an entry; Any where there is no such option."""
    name = entry.content().get("name") if entry is not None else None
    if entry is None or not isinstance(name, str) or option in SIZES:
        return Any
    return REGISTRIES[entry.group].signature(name).get(option, Any)


def _countable(annotation: Any) -> list[str]:
    """The values that a type allows, written as on the command line, if it allows only so many."""
    import types
    import typing

    if annotation is bool:
        return ["true", "false"]
    if annotation is None or annotation is type(None):
        return ["null"]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return [str(value).lower() if isinstance(value, bool) else str(value) for value in arguments]
    if origin in (typing.Union, types.UnionType):
        return [value for member in arguments for value in _countable(member)]
    return _countable(arguments[0]) if origin is typing.Annotated else []
