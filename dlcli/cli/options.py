"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDES]...",
        help="What to change: group=choice (model=lstm) or group.option=value (optimizer.lr=1e-3).",
        show_default=False,
    ),
]
ConfigDir = Annotated[
    list[Path] | None,
    typer.Option(
        "--config-dir", metavar="DIR", help="A folder of your own YAML files, before ours.", show_default=False
    ),
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE|FILE|FOLDER",
        help="Python with your own entries; a folder brings its YAML files too.",
        show_default=False,
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option("--run-dir", metavar="DIR", help="The folder that holds the runs.", show_default=False),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def search_path(config_dir: list[Path] | None, plugin: list[str] | None) -> list[Path]:
    """The folders of YAML files to search before ours; registers the plug-ins' Python files on the way.

    Raises:
        ConfigError: a folder or a plug-in that does not exist.
    """
    from dlcli import plugins
    from dlcli.errors import ConfigError

    for directory in config_dir or []:
        if not directory.is_dir():
            raise ConfigError(f"{directory}: no such folder of configurations")
    return [*(config_dir or []), *plugins.load(plugin or [])]


def run_folder(run_dir: Path | None) -> Path:
    """The folder that holds the runs: the one given, else the default of ``configs/config.yaml``."""
    if run_dir is not None:
        return run_dir
    from dlcli import catalogue

    return Path(catalogue.load_yaml(catalogue.CONFIGS / "config.yaml")["run_dir"])
