"""``dlcli sample``: what a trained run can generate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dlcli.cli.options import ConfigDir, Device, Plugin, RunDir, run_folder, search_path
from dlcli.errors import ConfigError

EXAMPLE = """\b
Examples:
  dlcli sample latest
  dlcli sample lstm-shakespeare prompt="JULIET:" length=300 temperature=0.7
  dlcli sample conv_autoencoder-mnist num_samples=100 output=digits.png
  dlcli sample dcgan-mnist num_samples=8 interpolation=10 seed=3"""


def sample(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A path, a prefix of a run's name, or latest.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="For texts: prompt length temperature top_k top_p seed num_samples; "
            "for pictures: num_samples scale interpolation singles seed output; for episodes: seed.",
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="best|last|PATH", help="Which weights.")] = "best",
    device: Device = "auto",
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
    run_dir: RunDir = None,
) -> None:
    """Generate with a run's weights: text is printed as it comes, pictures are written to a file."""
    from dlcli import runtime
    from dlcli.check import sample_problems
    from dlcli.overrides import parse_values
    from dlcli.run_records import find

    directory = find(run, run_folder(run_dir), trained=True)
    directories = search_path(config_dir, plugin)
    given = parse_values(options or [], text_keys=("prompt",))
    runtime.import_torch()
    from dlcli.functional.pictures import save_png
    from dlcli.saved_run import SavedRun

    saved = SavedRun(directory, which=checkpoint, directories=directories, device=device)
    defaults = getattr(saved.task, "sample_defaults", None)
    if defaults is None:
        raise ConfigError(f"run {directory.name}: task '{saved.choices['task']}' cannot generate; try 'dlcli eval'")
    output = directory / "sample.png"
    if saved.task.samples == "pictures" and "output" in given:
        output = Path(str(given.pop("output")))
    values = {**defaults, **given}
    problems = sample_problems(saved.config["task"]["name"], values)
    if problems:
        raise ConfigError(problems)
    pieces = saved.sample(values)
    if saved.task.samples == "pictures":
        for number, picture in enumerate(pieces):
            file = output.with_stem(f"{output.stem}-{number:03d}") if number else output
            save_png(picture, file)
            print(file)
        if saved.task.sample_note:
            typer.echo(f"note: {saved.task.sample_note}", err=True)
        return
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
