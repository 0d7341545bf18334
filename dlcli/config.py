"""Overrides -> one checked plain configuration, through Hydra's compose machinery. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.catalogue import GROUPS
from dlcli.check import check, group_problems, unused_groups
from dlcli.errors import ConfigError, DataError, shown, suggestion
from dlcli.inspection import inspector
from dlcli.registry import TASKS

PATHS = ("data.path", "data.labels", "run_dir", "init_from")
"""Options whose values are taken as typed, so that spaces, accents and commas in a path need no second quotes."""
EXAMPLE = "for example model=lstm or optimizer.lr=1e-3"
MAX_OVERRIDE = 2_000  # characters; Hydra's grammar takes a second for twice as many
MAX_KEY = 200  # characters
MAX_DEPTH = 20  # brackets within brackets in an override


@dataclass(frozen=True)
class Composed:
    """A resolved configuration of plain values, the choice made in each group, and the files in their order."""

    config: dict[str, Any]
    choices: dict[str, str | None]
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # found on the way, for ``compose`` to report with the others


def compose_choices(choices: tuple[str, ...], directories: tuple[Path, ...]) -> Any:
    """What Hydra composes of the defaults and these choices (``group=name``), before any other value is changed."""
    from hydra.types import RunMode

    loader = config_loader(directories)
    return loader.load_configuration("config", list(choices), run_mode=RunMode.RUN, from_shell=False)


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
    prepared, problems = _prepare(overrides, directories)
    if problems:
        # Report what is wrong with the options too, as far as the rest can be composed.
        try:
            composed = _compose_with_hydra(prepared, directories, list_files, tree_of)
            problems += [*composed.problems, *check(composed.config, composed.choices, directories)]
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(dict.fromkeys(problems))
    chosen = [*_suggested_by_model(prepared, directories), *prepared]
    composed = _compose_with_hydra(chosen, directories, list_files, tree_of)
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
    named = _named_groups(overrides, directories)
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
    composed = _compose_with_hydra([*front, *overrides], directories, list_files, tree_of)
    composed.config["data"].update(found.options)
    return composed


def _prepare(overrides: Sequence[str], directories: list[Path]) -> tuple[list[str], list[str]]:
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
        text = _quoted_path(text)
        try:
            override = parser.parse_override(text)
        except Exception:
            problems.append(f"cannot read '{label}'; expected key=value, {EXAMPLE}")
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
            problem = _group_problem(key, override.value(), directories)
            if problem:
                problems.append(problem)
            elif override.value() is not None:  # experiment=null is what holds without it
                prepared.append(text.lstrip("+"))
        else:
            prepared.append("++" + text.lstrip("+"))
    return prepared, problems


def _quoted_path(text: str) -> str:
    """An override of a path with the value in quotes, unless it is quoted, empty, null or an interpolation already."""
    key, equals, value = text.partition("=")
    if not equals or key.lstrip("+") not in PATHS or value in ("", "null", "???") or value[0] in "'\"" or "${" in value:
        return text
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


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


def _group_problem(group: str, value: Any, directories: list[Path]) -> str | None:
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


def config_loader(directories: Sequence[Path], *, ours: bool = True) -> Any:
    """Hydra's reader of configurations over these folders, ours, and its own."""
    import hydra
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the sources that read files
    _register_checked_source()
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", f"checked://{Path(hydra.__file__).parent / 'conf'}")
    for directory in [*directories, *([catalogue.CONFIGS] if ours else [])]:
        search_path.append("dlcli", f"checked://{directory}")
    search_path.append("schema", "structured://")
    return ConfigLoaderImpl(config_search_path=search_path)


def _named_groups(overrides: list[str], directories: list[Path]) -> set[str]:
    """The groups whose choice somebody named: on the command line, or in an experiment or a data file."""
    from hydra.types import RunMode

    defaults = config_loader(directories).compute_defaults_list("config", overrides, RunMode.RUN)
    return {key.partition("@")[0] for key in defaults.overrides.override_choices}


def _compose_with_hydra(
    overrides: list[str], directories: list[Path], list_files: bool, tree_of: Callable[..., Any]
) -> Composed:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    named = tuple(text for text in overrides if text.partition("=")[0] in GROUPS)
    values = [text for text in overrides if text not in named]
    try:
        tree = tree_of(named, tuple(directories))
        for value in OverridesParser.create().parse_overrides(values):  # all of them begin with ++
            OmegaConf.update(tree, value.key_or_group, value.value(), merge=True, force_add=True)
        problems = _hydra_problems(tree.hydra, directories) if directories else []
        choices = {key: value for key, value in tree.hydra.runtime.choices.items() if not key.startswith("hydra/")}
        defaults = []
        if list_files:
            defaults = config_loader(directories).compute_defaults_list("config", list(named), RunMode.RUN).defaults
        raw = OmegaConf.to_container(tree, resolve=False)
        assert isinstance(raw, dict)
        raw.pop("hydra")
        _refuse_resolvers(raw)
        OmegaConf.set_struct(tree, False)
        del tree["hydra"]
        config = OmegaConf.to_container(tree, resolve=True, throw_on_missing=False)
    except RecursionError:
        raise ConfigError("a defaults list leads back to its own file; remove one of its entries") from None
    except Exception as error:  # Hydra and OmegaConf leak many types; their first line is the message
        raise ConfigError(first_line(error)) from None
    assert isinstance(config, dict)
    files = []
    for default in defaults:
        if default.config_path and not default.config_path.startswith("hydra"):
            files.append(_locate(default.config_path, directories))
    return Composed({str(key): value for key, value in config.items()}, choices, files, problems)


def _hydra_problems(node: Any, directories: list[Path]) -> list[str]:
    """A problem if people's YAML files change Hydra's own settings: Hydra would execute the callbacks they name."""
    settings, expected = _hydra_settings(node), _hydra_defaults()
    changed = sorted(key for key in {*settings, *expected} if settings.get(key) != expected.get(key))
    if not changed:
        return []
    names = ", ".join(f"hydra.{shown(key)}" for key in changed)
    files = [file for directory in directories for file in sorted(directory.rglob("*.yaml")) if _names_hydra(file)]
    where = f"{files[0]}: " if len(files) == 1 else ""
    return [f"{where}{names} cannot be set in a YAML file: Hydra may execute what it names; remove it"]


def _hydra_settings(node: Any) -> dict[str, Any]:
    """Hydra's section of a composed tree, without what it notes down about this composition."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(node, resolve=False)
    settings["job"] = {key: value for key, value in settings["job"].items() if key in ("chdir", "env_set", "env_copy")}
    return {key: value for key, value in settings.items() if key not in ("runtime", "overrides")}


@cache
def _hydra_defaults() -> dict[str, Any]:
    from hydra.types import RunMode

    return _hydra_settings(config_loader([], ours=False).load_configuration(None, [], run_mode=RunMode.RUN).hydra)


def _names_hydra(file: Path) -> bool:
    return "hydra" in file.read_text(encoding="utf-8", errors="replace")


@cache
def _register_checked_source() -> None:
    """Let Hydra read files through ``catalogue.load_yaml``: with all its limits, and in a tenth of OmegaConf's time."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.plugins.config_source import ConfigLoadError, ConfigResult
    from omegaconf import OmegaConf

    class CheckedConfigSource(FileConfigSource):
        @staticmethod
        def scheme() -> str:
            return "checked"

        def load_config(self, config_path: str) -> Any:
            file = Path(self.path, self._normalize_file_name(config_path))
            if not file.exists():
                raise ConfigLoadError(f"Config not found : {file}")
            content = catalogue.load_yaml(file) or {}
            if not isinstance(content, dict):
                raise ConfigError(f"{file}: expected keys and values")
            with file.open(encoding="utf-8") as stream:
                header = self._get_header_dict(stream.read(512))
            try:
                tree = OmegaConf.create(content)
            except ValueError as error:  # OmegaConf's reasons do not name the file
                raise ConfigError(f"{file}: {shown(str(error).split(chr(10))[0], 120)}") from error
            return ConfigResult(config=tree, path=f"checked://{self.path}", provider=self.provider, header=header)

    SourcesRegistry.instance().register(CheckedConfigSource)


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
            f"{shown(path)}={shown(value)}: resolvers are not allowed in a configuration that is saved; write the value"
        )


def first_line(error: BaseException) -> str:
    """The message of one of Hydra's or OmegaConf's exceptions, with the option that it is about, if it knows."""
    if isinstance(error, ConfigError):
        return error.problems[0]
    if isinstance(error.__cause__, ConfigError) or (not str(error) and error.__cause__):
        return first_line(error.__cause__)
    text = shown(str(error).split("\n")[0].strip() or type(error).__name__, 120)
    key = shown(getattr(error, "full_key", None) or "")
    return text if not key or key in text else f"{key}: {text}"


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
    values = parse_values(overrides, PATHS)
    for key in values:
        if key.partition(".")[0] not in ("data", "task"):
            raise ConfigError(f"'{shown(key)}' has no effect on saved weights; data and task options can change")
    for key in [key for key in values if key in changed and key in GROUPS]:
        problem = _group_problem(key, values[key], list(directories))
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
            raise ConfigError(f"cannot read '{shown(text)}'; expected key=value, {EXAMPLE}")
    return values
