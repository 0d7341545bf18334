"""Overrides -> one checked plain configuration, through Hydra's compose machinery. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.catalogue import GROUPS
from dlcli.check import TOP_LEVEL, check
from dlcli.errors import ConfigError, suggestion

EXAMPLE = "for example model=lstm or optimizer.lr=1e-3"


@dataclass(frozen=True)
class Composed:
    """A resolved configuration of plain values, the choice made in each group, and the files in their order."""

    config: dict[str, Any]
    choices: dict[str, str | None]
    files: list[Path] = field(default_factory=list)


def compose(overrides: Sequence[str], directories: Iterable[Path] = (), *, list_files: bool = False) -> Composed:
    """Compose the defaults, the data's suggestions, the experiment and the overrides, and check the result.

    Args:
        overrides: Hydra overrides as typed, ``group=choice`` or ``group.key=value``.
        directories: people's own folders of YAML files, searched before ours.
        list_files: also find out which files were composed (takes Hydra as long again).

    Raises:
        ConfigError: everything that is wrong, one line each.
    """
    directories = [Path(directory).resolve() for directory in directories]
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"{directory}: no such folder of configurations")
        if (directory / "config.yaml").exists():
            raise ConfigError(f"{directory / 'config.yaml'}: would replace dlcli's own defaults; rename or remove it")
        if (directory / "hydra").exists():
            raise ConfigError(f"{directory / 'hydra'}: would replace Hydra's own settings; rename or remove it")
    for entry in (entry for group in GROUPS for entry in catalogue.entries(group, directories).values()):
        if not entry.file.is_relative_to(catalogue.CONFIGS):
            entry.content()
    prepared, problems = _prepare(overrides, directories)
    if problems:
        # Report what is wrong with the options too, as far as the rest can be composed.
        try:
            composed = _compose_with_hydra(prepared, directories, list_files)
            problems += check(composed.config, composed.choices, directories)
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(dict.fromkeys(problems))
    composed = _compose_with_hydra(prepared, directories, list_files)
    problems = check(composed.config, composed.choices, directories)
    if problems:
        raise ConfigError(problems)
    return composed


def _prepare(overrides: Sequence[str], directories: list[Path]) -> tuple[list[str], list[str]]:
    """Overrides that Hydra can apply whatever their keys are (``check`` reports unknown ones), and the problems."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    prepared, problems = [], []
    for text in overrides:
        if len(text) > 10_000:
            problems.append(f"{text[:40]!r}…: an override of {len(text):,} characters; expected at most 10,000")
            continue
        try:
            override = parser.parse_override(text)
        except Exception:
            problems.append(f"cannot read '{text}'; expected key=value, {EXAMPLE}")
            continue
        key = override.key_or_group
        if override.is_delete():
            problems.append(f"'{text}': an option cannot be deleted; set it to another value")
        elif override.is_sweep_override():
            problems.append(f"'{text}' names several values; give one, or a list in brackets where a list is meant")
        elif key.startswith("hydra"):
            problems.append(f"'{text}': Hydra's own settings cannot be changed in a single run")
        elif override.package is not None:
            problems.append(f"'{text}': a package cannot be chosen; write {key}=…")
        elif key in GROUPS:
            problem = _group_problem(key, override.value(), directories)
            if problem:
                problems.append(problem)
            else:
                prepared.append(text.lstrip("+"))
        else:
            prepared.append("++" + text.lstrip("+"))
    return prepared, problems


def _group_problem(group: str, value: Any, directories: list[Path]) -> str | None:
    if group == "experiment" and value is None:
        return None
    known = catalogue.entries(group, directories)
    name = getattr(value, "text", value)
    if not isinstance(name, str):
        return f"{group}={'null' if name is None else name}: expected the name of one {group}; see 'dlcli list {group}'"
    if name not in known:
        return f"no {group} '{name}'; {suggestion(name, known)}"
    return None


def config_loader(directories: Iterable[Path]) -> Any:
    """Hydra's loader of what these folders and Hydra itself define, the first folder first."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the sources that read files
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    for directory in directories:
        search_path.append("dlcli", f"file://{directory}")
    search_path.append("schema", "structured://")
    return ConfigLoaderImpl(config_search_path=search_path)


def _compose_with_hydra(overrides: list[str], directories: list[Path], list_files: bool) -> Composed:
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    loader = config_loader([*directories, catalogue.CONFIGS])
    try:
        tree = loader.load_configuration("config", overrides, run_mode=RunMode.RUN, from_shell=False)
        if directories:
            _refuse_hydra_settings(tree.hydra, directories)
        choices = {key: value for key, value in tree.hydra.runtime.choices.items() if not key.startswith("hydra/")}
        defaults = loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults if list_files else []
        raw = OmegaConf.to_container(tree, resolve=False)
        assert isinstance(raw, dict)
        raw.pop("hydra")
        _refuse_resolvers(raw)
        OmegaConf.set_struct(tree, False)
        del tree["hydra"]
        config = OmegaConf.to_container(tree, resolve=True, throw_on_missing=False)
    except ConfigError:
        raise
    except Exception as error:  # Hydra and OmegaConf leak many types; their first line is the message
        raise ConfigError(first_line(error)) from None
    assert isinstance(config, dict)
    files = []
    for default in defaults:
        if default.config_path and not default.config_path.startswith("hydra"):
            files.append(_locate(default.config_path, directories))
    return Composed({str(key): value for key, value in config.items()}, choices, files)


def _refuse_hydra_settings(node: Any, directories: list[Path]) -> None:
    """Refuse people's YAML files that change Hydra's own settings: Hydra would execute the callbacks they name."""
    settings, expected = _hydra_settings(node), _hydra_defaults()
    changed = sorted(key for key in {*settings, *expected} if settings.get(key) != expected.get(key))
    if changed:
        names = ", ".join(f"hydra.{key}" for key in changed)
        files = [file for directory in directories for file in sorted(directory.rglob("*.yaml")) if _names_hydra(file)]
        where = f"{files[0]}: " if len(files) == 1 else ""
        raise ConfigError(f"{where}{names} cannot be set in a YAML file: Hydra may execute what it names; remove it")


def _hydra_settings(node: Any) -> dict[str, Any]:
    """Hydra's section of a composed tree, without what it notes down about this composition."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(node, resolve=False)
    settings["job"] = {key: value for key, value in settings["job"].items() if key in ("chdir", "env_set", "env_copy")}
    return {key: value for key, value in settings.items() if key not in ("runtime", "overrides")}


@cache
def _hydra_defaults() -> dict[str, Any]:
    from hydra.types import RunMode

    return _hydra_settings(config_loader([]).load_configuration(None, [], run_mode=RunMode.RUN).hydra)


def _names_hydra(file: Path) -> bool:
    return "hydra" in file.read_text(encoding="utf-8", errors="replace")


def _locate(config_path: str, directories: list[Path]) -> Path:
    candidates = [directory / f"{config_path}.yaml" for directory in [*directories, catalogue.CONFIGS]]
    return next(file for file in candidates if file.is_file())


def _refuse_resolvers(value: Any, path: str = "") -> None:
    """Refuse what would put the environment's secrets or Hydra's internals into a saved configuration."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_resolvers(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            _refuse_resolvers(item, path)
    elif isinstance(value, str) and ("${oc." in value or "${hydra" in value):
        raise ConfigError(
            f"{path}={value}: resolvers are not allowed in a configuration that is saved; write the value"
        )


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters."""
    text = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"


def change_values(config: Mapping[str, Any], overrides: Sequence[str], allowed: Collection[str]) -> dict[str, Any]:
    """A saved configuration with some options changed, for resuming.

    Raises:
        ConfigError: an override that cannot be read, or of an option outside ``allowed``.
    """
    changed = copy.deepcopy(dict(config))
    problems = []
    for key, value in parse_values(overrides).items():
        group, _, option = key.partition(".")
        if key not in allowed:
            problems.append(f"{key} cannot change when a run is resumed; only {', '.join(sorted(allowed))} can")
        elif option not in changed.get(group, {}):
            problems.append(f"unknown option '{key}' of this run")
        else:
            changed[group][option] = value
    if problems:
        raise ConfigError(problems)
    return changed


def change_group_values(
    config: Mapping[str, Any], overrides: Sequence[str], directories: Iterable[Path]
) -> tuple[dict[str, Any], dict[str, str | None]]:
    """A saved configuration in which the groups that are named are composed anew, and the choices made.

    ``data=mnist`` replaces the section ``data`` by that file's values; ``data.batch_size=8`` changes one of them.

    Raises:
        ConfigError: overrides that cannot be read, or unknown choices.
    """
    changed = copy.deepcopy(dict(config))
    choices: dict[str, str | None] = {}
    values = parse_values(overrides)
    for key in [key for key in values if key in changed and key in GROUPS]:
        problem = _group_problem(key, values[key], list(directories))
        if problem:
            raise ConfigError(problem)
        choices[key] = str(values[key])
        changed[key] = catalogue.entries(key, directories)[str(values.pop(key))].content()
    for key, value in values.items():
        group, _, option = key.partition(".")
        if not option or not isinstance(changed.get(group), dict):
            raise ConfigError(f"unknown option '{key}'; {suggestion(group, [*GROUPS])}")
        changed[group][option] = value
    return changed, choices


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
            raise ConfigError(f"cannot read '{text}'; expected key=value, {EXAMPLE}")
    return values


def default_choice(group: str) -> str | None:
    """The choice of a group when nobody names one, from ``configs/config.yaml``."""
    for item in catalogue.load_yaml(catalogue.CONFIGS / "config.yaml")["defaults"]:
        if isinstance(item, dict) and group in item:
            choice: str | None = item[group]
            return choice
    return None


__all__ = ["GROUPS", "TOP_LEVEL", "Composed", "ConfigError", "compose", "default_choice"]
