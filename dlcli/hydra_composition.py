"""Hydra's part of a composition: YAML files and overrides -> a tree of plain values. Imports no torch.

Hydra reads files through ``catalogue.load_yaml``, executes nothing that they name, and resolves only what is plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dlcli import catalogue
from dlcli.catalogue import GROUPS
from dlcli.errors import ConfigError, shown


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


def named_groups(overrides: list[str], directories: list[Path]) -> set[str]:
    """The groups whose choice somebody named: on the command line, or in an experiment or a data file."""
    from hydra.types import RunMode

    defaults = config_loader(directories).compute_defaults_list("config", overrides, RunMode.RUN)
    return {key.partition("@")[0] for key in defaults.overrides.override_choices}


def compose_tree(
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
