"""Overrides -> one checked plain configuration: suggestions, experiments, people's own data. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.catalogue import GROUPS
from dlcli.check import check, group_problems, unused_groups
from dlcli.errors import ConfigError, DataError, shown, suggestion
from dlcli.hydra_composition import Composed, compose_choices, compose_tree, named_groups
from dlcli.inspection import inspector
from dlcli.overrides import AS_TYPED, group_problem, parse_values, prepare
from dlcli.registry import REGISTRIES, TASKS


def compose(
    overrides: Sequence[str],
    directories: Iterable[Path] = (),
    *,
    list_files: bool = False,
    tree_of: Callable[[tuple[str, ...], tuple[Path, ...]], Any] = compose_choices,
) -> Composed:
    """Compose the defaults, the data's suggestions, the experiment and the overrides, and check the result.

    Args:
        overrides: Hydra overrides as typed, ``group=choice`` or ``group.key=value``.
        directories: people's own folders of YAML files, searched before ours.
        list_files: also find out which files were composed (takes Hydra as long again).
        tree_of: ``compose_choices``, or what returns a copy of its result, which is changed.

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
    for group in GROUPS if directories else ():
        for entry in catalogue.entries(group, directories).values():
            if not entry.file.is_relative_to(catalogue.CONFIGS):
                entry.content()
    prepared, problems = prepare(overrides, directories)
    if problems:
        # Report what is wrong with the options too, as far as the rest can be composed.
        try:
            composed = compose_tree(prepared, directories, list_files, tree_of)
            problems += [*composed.problems, *check(composed.config, composed.choices, directories)]
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(dict.fromkeys(problems))
    chosen = [*_suggested_by_model(prepared, directories), *prepared]
    composed = compose_tree(chosen, directories, list_files, tree_of)
    composed = _inspected(composed, chosen, directories, list_files, tree_of)
    problems = [*composed.problems, *check(composed.config, composed.choices, directories)]
    problems += _without_unused_groups(composed, prepared)
    if problems:
        raise ConfigError(problems)
    return composed


def _suggested_by_model(overrides: Sequence[str], directories: list[Path]) -> list[str]:
    """The choices that a model's file suggests, if somebody named the model itself, of the groups that nobody named.

    What data suggest is made for the models that people try on them first; an experiment fixes everything.
    """
    typed = dict(text.split("=", 1) for text in overrides if "=" in text)
    if "model" not in typed or "experiment" in typed:
        return []
    entry = catalogue.entries("model", directories).get(typed["model"])
    if entry is None:  # reported by others
        return []
    return [choice for choice in entry.suggests if choice.partition("=")[0] not in typed]


def _without_unused_groups(composed: Composed, overrides: Sequence[str]) -> list[str]:
    """Take the groups that the trainer does not ask for out of the configuration; problems if somebody set them."""
    problems = []
    for group in sorted(unused_groups(composed.config)):
        composed.config.pop(group, None)
        composed.choices.pop(group, None)
        composed.files[:] = [file for file in composed.files if file.parent.name != group]
        keys = [text.lstrip("+").partition("=")[0] for text in overrides]
        problems += [
            f"{key} has no effect: trainer '{composed.choices.get('trainer')}' uses no {group}; leave it out"
            for key in keys
            if key.partition(".")[0] == group
        ]
    return problems


def _inspected(
    composed: Composed, overrides: list[str], directories: list[Path], list_files: bool, tree_of: Callable[..., Any]
) -> Composed:
    """With what people's own data ask for: choices in front of what anybody named, and options found out.

    Raises:
        DataError: the data cannot be read, and nothing else is wrong. ConfigError: what is wrong otherwise.
    """
    data = composed.config.get("data")
    if group_problems("data", data):
        return composed
    inspect = inspector(composed.config["data"])
    if inspect is None:
        return composed
    named = named_groups(overrides, directories)
    task = composed.config.get("task")
    requires = ()
    if "task" in named and not group_problems("task", task):
        requires = tuple(TASKS.constant(composed.config["task"]["name"], "requires", ()))
    try:
        found = inspect(composed.config["data"], requires)
    except DataError:
        problems = [*composed.problems, *check(composed.config, composed.choices, directories)]
        if problems:
            raise ConfigError(problems) from None
        raise
    front = [f"{group}={choice}" for group, choice in found.choices.items() if group not in named]
    composed = compose_tree([*front, *overrides], directories, list_files, tree_of)
    composed.config["data"].update(found.options)
    return composed


def fill_missing(config: dict[str, Any], choices: Mapping[str, str | None], directories: Iterable[Path]) -> list[str]:
    """Give a saved configuration the options that its entries have gained since; returns their names.

    A run that was saved by an earlier version stays usable: the default of a new option is what held before it.
    """
    filled = []
    for key, value in catalogue.load_yaml(catalogue.CONFIGS / "config.yaml").items():
        if key != "defaults" and key not in config:
            config[key] = value
            filled.append(key)
    for group, section in config.items():
        entry = catalogue.entries(group, directories).get(choices.get(group) or "") if group in GROUPS else None
        if entry is None or not isinstance(section, dict):
            continue
        for key, value in entry.content().items():
            if key not in section:
                section[key] = value
                filled.append(f"{group}.{key}")
    return filled


def refuse_rebuilt(
    config: Mapping[str, Any],
    choices: Mapping[str, str | None],
    directories: Iterable[Path],
    groups: Collection[str] = tuple(REGISTRIES),
) -> None:
    """
    Raises:
        ConfigError: a saved configuration has an entry whose YAML file is now made of another registered class.
    """
    for group in groups:
        entry = catalogue.entries(group, directories).get(choices.get(group) or "")
        section = config.get(group)
        was = section.get("name") if isinstance(section, dict) else None  # else the check says what is wrong
        if entry is not None and was is not None and (now := entry.content()["name"]) != was:
            raise ConfigError(
                f"the run was saved when {group}={choices[group]} was built by '{was}', and it is built by '{now}' "
                "now: train it again"
            )


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
            problems.append(f"{shown(key)} cannot change when a run is resumed; only {', '.join(sorted(allowed))} can")
        elif option not in changed.get(group, {}):
            problems.append(f"unknown option '{shown(key)}' of this run")
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
    values = parse_values(overrides, AS_TYPED)
    for key in values:
        if key.partition(".")[0] not in ("data", "task"):
            raise ConfigError(f"'{shown(key)}' has no effect on saved weights; data and task options can change")
    for key in [key for key in values if key in changed and key in GROUPS]:
        problem = group_problem(key, values[key], list(directories))
        if problem:
            raise ConfigError(problem)
        choices[key] = str(values[key])
        changed[key] = catalogue.entries(key, directories)[str(values.pop(key))].content()
    for key, value in values.items():
        group, _, option = key.partition(".")
        if not option or not isinstance(changed.get(group), dict):
            raise ConfigError(f"unknown option '{shown(key)}'; {suggestion(group, [*GROUPS])}")
        changed[group][option] = value
    return changed, choices
