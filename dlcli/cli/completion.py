"""``dlcli completion``: the script that makes a shell complete verbs, groups, choices, options and values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHELLS = ("bash", "zsh", "fish")
SCRIPTS = Path(__file__).parent / "completion_scripts"

EXAMPLE = """\b
Example:
  eval "$(dlcli completion bash)"                                  in ~/.bashrc
  dlcli completion zsh > "${fpath[1]}/_dlcli"                      for zsh, once
  dlcli completion fish > ~/.config/fish/completions/dlcli.fish    for fish, once"""


def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish")]) -> None:
    """Print the script for a shell's completion."""
    from dlcli.errors import ConfigError, suggestion

    if shell not in SHELLS:
        raise ConfigError(f"no completion for '{shell}'; {suggestion(shell, SHELLS)}")
    print((SCRIPTS / f"dlcli.{shell}").read_text(encoding="utf-8"), end="")
