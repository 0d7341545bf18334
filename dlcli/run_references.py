"""Options that name other runs, by their annotation: ``init_from``, the classifier of a GAN. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlcli.check import TOP_LEVEL
from dlcli.errors import ConfigError
from dlcli.hyperparameters import names_run
from dlcli.registry import REGISTRIES
from dlcli.run_records import find


def resolve_runs(config: dict[str, Any], run_dir: Path) -> None:
    """Change every option that names a run to the path of its folder, which is the same from everywhere and for good.

    Args:
        config: a checked configuration. run_dir: the folder whose runs are known by name.

    Raises:
        ConfigError: as ``named_run``.
    """
    sections = [("", config, TOP_LEVEL)]
    for group in REGISTRIES.keys() & config.keys():  # not every trainer uses all
        sections.append((f"{group}.", config[group], REGISTRIES[group].signature(config[group]["name"])))
    for prefix, options, types in sections:
        for name, annotation in types.items():
            if names_run(options.get(name), annotation):
                options[name] = str(named_run(f"{prefix}{name}", options[name], run_dir))


def named_run(option: str, text: str, run_dir: Path) -> Path:
    """The folder of the run that the value of an option names, absolute.

    Raises:
        ConfigError: no such run, or an ambiguous name.
    """
    try:
        return find(text, run_dir, trained=True).resolve()
    except ConfigError as error:
        raise ConfigError(f"{option}: {error} (or {option}=null)") from None
