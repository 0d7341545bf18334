"""``dlcli export``: the weights of a run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlcli.cli.options import ConfigDir, Plugin, RunDir, run_folder, search_path
from dlcli.errors import ConfigError

EXAMPLE = """\b
Examples:
  dlcli export latest --output model.safetensors
  dlcli export lenet-fashion_mnist --format onnx --output lenet.onnx"""

SUFFIXES = {".safetensors": "safetensors", ".onnx": "onnx"}


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A path, a prefix of a run's name, or latest.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the model goes.")],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="safetensors|onnx", help="By default, the output's suffix.", show_default=False
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="best|last|PATH", help="Which weights.")] = "best",
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
    run_dir: RunDir = None,
) -> None:
    """Export a run's model, checked against the original on a batch of the run's data."""
    from dlcli import runtime
    from dlcli.run_records import find

    chosen = file_format or SUFFIXES.get(output.suffix.lower())
    if chosen not in SUFFIXES.values():
        given = f"--format {file_format}" if file_format else f"--output {output}: no format"
        raise ConfigError(f"{given}; expected --format safetensors or --format onnx")
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; name a file in it")
    directory = find(run, run_folder(run_dir), trained=True)
    directories = search_path(config_dir, plugin)
    runtime.import_torch()
    from dlcli import export as formats
    from dlcli.saved_run import SavedRun

    saved = SavedRun(directory, which=checkpoint, directories=directories, device="cpu")
    write = formats.to_onnx if chosen == "onnx" else formats.to_safetensors
    difference = write(saved, output)
    size = output.stat().st_size
    print(f"{output}: {size:,} bytes, {directory.name} ({saved.which} weights, step {saved.step:,})")
    print(f"largest difference of the outputs on a batch of {saved.choices['data']}: {difference:.3g}")
