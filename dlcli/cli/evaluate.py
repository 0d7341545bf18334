"""``dlcli eval``: the metrics of a saved run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dlcli.cli.options import AsJson, ConfigDir, Device, Overrides, Plugin, RunDir, run_folder, search_path
from dlcli.errors import ConfigError

EXAMPLE = """\b
Examples:
  dlcli eval latest
  dlcli eval latest --split test --pictures mistakes/
  dlcli eval lstm-shakespeare --checkpoint last --json
  dlcli eval latest data=text data.path=book.txt"""


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A path, a prefix of a run's name, or latest.")],
    overrides: Overrides = None,
    checkpoint: Annotated[str, typer.Option(metavar="best|last|PATH", help="Which weights.")] = "best",
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, val or test.")] = "val",
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw what is no number, such as mistakes, into this folder.")
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
    run_dir: RunDir = None,
) -> None:
    """Measure a run's weights on a split, with the run's own data or with others."""
    from dlcli import runtime
    from dlcli.run_records import find

    directory = find(run, run_folder(run_dir), trained=True)
    directories = search_path(config_dir, plugin)
    runtime.import_torch()
    from dlcli.saved_run import SavedRun

    saved = SavedRun(directory, which=checkpoint, overrides=overrides or [], directories=directories, device=device)
    if pictures is not None:
        try:
            pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--pictures {pictures}: no folder can be made there ({error.strerror})") from None
    metrics = saved.evaluate(split, pictures, quiet=as_json)
    if as_json:
        record = {"run": directory.name, "checkpoint": saved.which, "step": saved.step, "split": split}
        print(json.dumps({**record, "data_source": saved.data.source, "metrics": metrics}))
        return
    source = "" if saved.data.source != "stand-in" else "  (stand-in text, not the real one)"
    print(f"{directory.name}  {saved.which} weights (step {saved.step:,})  {split} of {saved.choices['data']}{source}")
    width = max(20, *map(len, metrics))
    for name, value in metrics.items():
        print(f"  {name:<{width}} {value:>12.4f}")
