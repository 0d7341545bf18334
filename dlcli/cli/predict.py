"""``dlcli predict``: a run's predictions for rows of a table, pictures of a folder or lines of a text."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from dlcli.cli.options import ConfigDir, Plugin, RunDir, run_folder, search_path
from dlcli.errors import ConfigError, DataError, counted

EXAMPLE = """\b
Examples:
  dlcli predict latest --input new.csv --output predictions.csv
  dlcli predict mlp-csv --input photos/ --output predictions.jsonl
  dlcli predict lstm-shakespeare --input lines.txt --output surprise.csv
  dlcli predict sweep-linear-kaggle_house --input test.csv --output submission.csv"""

FORMATS = ("csv", "jsonl")


def predict(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A path, a prefix of a run's name, or latest; of a sweep: the mean.")
    ],
    source: Annotated[Path, typer.Option("--input", metavar="FILE|FOLDER", help="What to predict for.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the predictions go.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|jsonl", help="By default, the output's suffix.", show_default=False),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="best|last|PATH", help="Which weights.")] = "best",
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
    run_dir: RunDir = None,
) -> None:
    """Predict for rows of a table, pictures of a folder or lines of a text."""
    from dlcli import runtime
    from dlcli.run_records import find
    from dlcli.sweep_records import REPEATS, find_sweep, results

    chosen = file_format or output.suffix.lstrip(".").lower()
    if chosen not in FORMATS:
        raise ConfigError(f"--output {output}: its suffix is not .csv or .jsonl; name it so, or add --format csv|jsonl")
    sweep = find_sweep(run, run_folder(run_dir))
    if sweep is None:
        directories = [find(run, run_folder(run_dir), trained=True)]
    else:
        found = results(sweep)
        differing = [key for key in found.options if key not in REPEATS]
        if differing:
            raise ConfigError(
                f"{sweep.name}: its runs differ in {', '.join(differing)}, not only in {' or '.join(REPEATS)}; "
                "the mean of other models' predictions means nothing: name one run"
            )
        directories = [job.run for job in found.jobs if job.status == "finished" and job.run is not None]
        if not directories:
            raise ConfigError(f"{sweep.name}: none of its jobs has finished")
    yaml_directories = search_path(config_dir, plugin)
    source = source.expanduser()
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if output.is_dir() or (output.exists() and os.path.samefile(source, output)):
        raise ConfigError(f"--output {output}: expected a new file, beside the input")
    runtime.import_torch()
    from dlcli.saved_run import Predictions, SavedRun

    runs = [SavedRun(directory, which=checkpoint, directories=yaml_directories) for directory in directories]
    predictions = Predictions(runs, source)
    count = write(output, chosen, predictions)
    for note in predictions.notes:
        print(f"note: {note}", file=sys.stderr)
    if sweep is not None:
        print(
            f"{output}: {counted(count, 'prediction')}, the mean of {counted(len(runs), 'run')} of {sweep.name} "
            f"({checkpoint} weights)"
        )
    else:
        print(
            f"{output}: {counted(count, 'prediction')} by {runs[0].directory.name} "
            f"({runs[0].which} weights, step {runs[0].step:,})"
        )


def write(output: Path, file_format: str, batches: Iterable[dict[str, list[Any]]]) -> int:
    """Write columns batch by batch as rows, such that the file appears whole or not at all. Returns the rows' number.

    Raises:
        ConfigError: the file cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        try:
            stream = temporary.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from None
        with stream:
            count = _write_rows(stream, file_format, batches)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write_rows(stream: TextIO, file_format: str, batches: Iterable[dict[str, list[Any]]]) -> int:
    count = 0
    writer = csv.writer(stream, lineterminator="\n")
    for columns in batches:
        if file_format == "csv" and count == 0:
            writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            plain = [_plain(value) for value in row]
            if file_format == "csv":
                writer.writerow(plain)
            else:
                stream.write(json.dumps(dict(zip(columns, plain, strict=True)), ensure_ascii=False) + "\n")
            count += 1
    return count


def _plain(value: Any) -> Any:
    """Numbers in the 8 digits that single precision has; null for what is not finite."""
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
