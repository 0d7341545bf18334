"""People's own entries: Python files for the registries, and folders of YAML files beside them. Imports no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from dlcli.catalogue import GROUPS
from dlcli.errors import ConfigError
from dlcli.registry import add_plugin_file

ENTRY_POINTS = "dlcli.plugins"


def load(names: Iterable[str]) -> list[Path]:
    """Make plug-ins known to the registries, those of installed packages too, without importing their code.

    Args:
        names: each a Python file, a folder (its Python files, and its YAML files in ``<group>/`` or
            ``configs/<group>/``), or the name of an importable module or package.

    Returns:
        The folders of YAML files that came along, in the order of the names.

    Raises:
        ConfigError: one of them does not exist, or a folder holds nothing that could be used.
    """
    from importlib.metadata import entry_points

    folders: list[Path] = []
    installed = [point.module for point in entry_points(group=ENTRY_POINTS)]
    for name in [*names, *installed]:
        location = _locate(name)
        found = _configs(location) if location.is_dir() else []
        files = sorted(location.glob("*.py")) if location.is_dir() else [location]
        if not found and not files:
            raise ConfigError(f"plug-in {name}: no Python file and no folder such as model/ with YAML files in it")
        for file in files:
            add_plugin_file(file)
        folders += [folder for folder in found if folder not in folders]
    return folders


def _locate(name: str) -> Path:
    """The file or folder that a plug-in's name stands for."""
    path = Path(name).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return path.resolve()
    if path.exists():
        raise ConfigError(f"plug-in {name}: expected a Python file, a folder or the name of a module")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ConfigError(f"plug-in {name}: no such file, folder or module")
    origin = Path(spec.origin).resolve()
    return origin.parent if origin.name == "__init__.py" else origin


def _configs(folder: Path) -> list[Path]:
    candidates = (folder, folder / "configs")
    return [place for place in candidates if any((place / group).is_dir() for group in GROUPS)]
