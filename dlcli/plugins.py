"""People's own entries: a Python file, a folder, an importable module, or a package's ``dlcli.plugins`` entry point.

A plug-in's Python files are searched by the registries and imported only when one of their entries is built. A folder
(or package) brings its YAML files too, laid out like ours: ``FOLDER/model/my_model.yaml``, or the same below
``FOLDER/configs/``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from dlcli.catalogue import GROUPS
from dlcli.errors import ConfigError
from dlcli.registry import add_plugin_file


def load(names: Iterable[str]) -> list[Path]:
    """Make plug-ins known to the registries: those named, and those that installed packages announce.

    Returns:
        The folders of YAML files that they bring, in order.

    Raises:
        ConfigError: a name that is neither a Python file, nor a folder, nor a module that can be found.
    """
    directories = [directory for name in names for directory in _add(name)]
    for point in entry_points(group="dlcli.plugins"):
        directories += _add_module(point.value.partition(":")[0])
    return list(dict.fromkeys(directories))


def _add(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.resolve().glob("*.py") if file.stem != "__init__")
        directories = _config_directories(path.resolve())
        loose = sorted(path.glob("*.yaml"))
        if loose and not directories:
            raise ConfigError(
                f"--plugin {name}: {loose[0].name} is not in a group's folder; move it, for example to "
                f"{path / 'model' / loose[0].name}"
            )
        if not files and not directories:
            raise ConfigError(f"--plugin {name}: the folder holds neither Python files nor a folder such as model/")
        for file in files:
            add_plugin_file(file, f"{_synthetic_package(file.parent)}.{file.stem}")
        return directories
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"--plugin {name}: no such file")
        file = path.resolve()
        add_plugin_file(file, f"{_synthetic_package(file.parent)}.{file.stem}")
        return _config_directories(file.parent)
    return _add_module(name)


def _add_module(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"--plugin {name}: no such file, folder or importable module; check the spelling and the path"
        )
    origin = Path(spec.origin)
    if not spec.submodule_search_locations:
        add_plugin_file(origin, name)
        return []
    for file in sorted(origin.parent.rglob("*.py")):
        parts = file.relative_to(origin.parent).with_suffix("").parts
        add_plugin_file(file, ".".join([name, *[part for part in parts if part != "__init__"]]))
    return _config_directories(origin.parent)


def _synthetic_package(folder: Path) -> str:
    """A package that stands for a folder, so that its files are imported once and may import each other."""
    name = f"dlcli_plugin_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return name


def _config_directories(folder: Path) -> list[Path]:
    return [candidate for candidate in (folder, folder / "configs") if any(_is_group(candidate / g) for g in GROUPS)]


def _is_group(folder: Path) -> bool:
    """Whether a folder such as ``model/`` holds configurations: a project's own ``data/`` need not."""
    return any(re.search(r"^name:", file.read_text(errors="replace"), re.M) for file in folder.glob("*.yaml"))
