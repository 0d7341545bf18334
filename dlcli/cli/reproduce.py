"""``dlcli reproduce``: the books' numbers and ours, side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dlcli.cli.options import ConfigDir, Plugin, search_path

EXAMPLE = """\b
Examples:
  dlcli reproduce "dlfs/*" --max-minutes 2
  dlcli reproduce "gdl/streetlights*" --seeds 1 --out runs/streetlights"""


def reproduce(
    glob: Annotated[str, typer.Argument(metavar="[GLOB]", help="Experiments by name, such as 'dlfs/*'.")] = "*",
    max_minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Leave out what takes longer.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of each; one of those that are exact.")] = 3,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Runs and report; go on with what is there.")] = Path(
        "runs/reproduce"
    ),
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs at a time; by default one per core or GPU.")
    ] = None,
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
) -> None:
    """Run the books' experiments, and put their numbers and ours into one table.

    What is finished is not run again. Exit code 0 if every number is reproduced or better for a known reason, 1 if not,
    6 if runs failed.
    """
    from dlcli import reproduction
    from dlcli.cli.table import table

    rows = reproduction.reproduce(
        glob,
        out=out,
        seeds=seeds,
        max_minutes=max_minutes,
        jobs_at_a_time=jobs,
        directories=search_path(config_dir, plugin),
        plugins=plugin or [],
        command=shlex.join(["dlcli", *sys.argv[1:]]),
    )
    print(table([reproduction.cells(row) for row in rows], reproduction.HEADER))
    print(f"report {out / 'reproduce.md'}")
    reproduction.check(rows, out)
