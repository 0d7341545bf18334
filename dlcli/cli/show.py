"""``dlcli show``: what a run would be configured with, and from which files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlcli.cli.options import ConfigDir, Overrides, Plugin, search_path

if TYPE_CHECKING:
    from dlcli.schedulers.base import Schedule

NOMINAL_STEPS = 1000
CHOOSING = ("per_class", "folds", "classes", "class_shares", "brightness_shift")
"""Options of published pictures that leave a number of them which only the labels tell."""
WIDTH, HEIGHT = 64, 12  # of the terminal's curve, in characters

EXAMPLE = """\b
Examples:
  dlcli show model=lstm data=shakespeare optimizer.lr=1e-3
  dlcli show --plot scheduler=cosine scheduler.warmup_steps=100
  dlcli show --plot curve.png scheduler=one_cycle"""


def show(
    overrides: Overrides = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the learning rate; into a file if FILE.png is given.")
    ] = False,
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
) -> None:
    """Show what a run would be configured with.

    The files in their order, with their comments, and what they compose to.
    """
    from dlcli.config import compose

    overrides = overrides or []
    pictures = [text for text in overrides if plot and text.endswith(".png") and "=" not in text]
    composed = compose(
        [text for text in overrides if text not in pictures], search_path(config_dir, plugin), list_files=True
    )
    if plot:
        steps, rates, notes = learning_rates(composed.config)
        title = f"learning rate, scheduler={composed.choices.get('scheduler')}"
        for picture in pictures:
            save_curve(steps, rates, title, Path(picture))
            print(f"{picture}: {title}")
        if not pictures:
            print(f"{title}\n{draw_curve(steps, rates)}")
        for note in notes:
            print(f"note: {note}")
        return

    from dlcli.catalogue import dump_yaml

    for file in composed.files:
        print(f"# ---- {_short(file)}")
        print(file.read_text(encoding="utf-8").rstrip() + "\n")
    if overrides:
        print("# ---- overrides")
        print("".join(f"# {text}\n" for text in overrides))
    print("# ---- result")
    print(dump_yaml(composed.config), end="")


def _short(file: Path) -> str:
    """The path as seen from here, if it is below here."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def learning_rates(config: dict[str, Any]) -> tuple[list[int], list[float], list[str]]:
    """The learning rate over a run of this configuration, without importing torch.

    Returns:
        The steps (at most 500 of them, from first to last), the rate at each, and notes on what was assumed.

    Raises:
        ConfigError: the schedule refuses its options.
    """
    from dlcli.errors import ConfigError, counted
    from dlcli.registry import SCHEDULERS

    trainer, notes = config["trainer"], []
    if "scheduler" not in config:
        raise ConfigError(f"--plot: trainer '{trainer['name']}' has no learning rate to draw")
    epochs, known = trainer.get("max_epochs"), known_steps_per_epoch(config)
    total, steps_per_epoch = trainer.get("max_steps"), known
    if known and epochs:
        total = min(total or math.inf, math.ceil(epochs * known))
    if not total:
        total = NOMINAL_STEPS
        unset = f"the data decide how many steps trainer.max_epochs={epochs:g} is" if epochs else "no budget is set"
        notes.append(f"{unset}: drawn for {total} steps")
    if steps_per_epoch is None:
        steps_per_epoch = max(1, int(total / (epochs or 10)))
        if any("epoch" in value for value in config["scheduler"].values() if isinstance(value, str)):
            notes.append(f"an epoch is taken to be {counted(steps_per_epoch, 'step')}; the data decide it in a run")
    try:
        schedule: Schedule = SCHEDULERS.build(config["scheduler"], total, steps_per_epoch)
    except ValueError as error:
        raise ConfigError(f"scheduler '{config['scheduler']['name']}': {error}") from None
    if schedule.state_dict():
        notes.append("this schedule also listens to the monitored metric: drawn as if the metric kept improving")
    rate = config["optimizer"].get("lr", 1.0)
    points = min(total, 500)
    steps = [round(i * (total - 1) / max(1, points - 1)) for i in range(points)]
    return steps, [rate * schedule.factor(step) for step in steps], notes


def known_steps_per_epoch(config: dict[str, Any]) -> int | None:
    """The optimizer's steps in an epoch, of data whose size is published; None if one must read them to know."""
    from dlcli.registry import DATA

    data, trainer = config["data"], config["trainer"]
    published: int | None = DATA.constant(data["name"], "published_to_train")
    if published is None or any(data[option] for option in CHOOSING) or trainer.get("overfit_batches"):
        return None
    examples: int = min(published - data["val_size"], data["train_size"] or published)
    batches = math.ceil(examples / data["batch_size"])
    steps: int = math.ceil(min(batches, trainer.get("limit_train_batches") or batches) / trainer.get("accumulate", 1))
    return steps


def draw_curve(steps: list[int], rates: list[float]) -> str:
    """The curve in plain characters: rates upwards from 0, steps to the right."""
    top = max(*rates, 0.0) or 1.0
    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    for column in range(WIDTH):
        rate = rates[round(column * (len(rates) - 1) / (WIDTH - 1))]
        row = round((HEIGHT - 1) * max(0.0, rate) / top)
        rows[HEIGHT - 1 - row][column] = "*"
    labels = {0: f"{top:.3g}", HEIGHT - 1: "0"}
    margin = max(len(label) for label in labels.values())
    lines = [f"{labels.get(i, ''):>{margin}} |{''.join(row).rstrip()}" for i, row in enumerate(rows)]
    last = f"step {steps[-1] + 1}"
    axis = f"{'':>{margin}} +{'-' * WIDTH}"
    return "\n".join([*lines, axis, f"{'':>{margin}}  1{last:>{WIDTH - 1}}"])


def save_curve(steps: list[int], rates: list[float], title: str, file: Path) -> None:
    """The curve as a PNG.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    from dlcli.errors import ConfigError

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a PNG needs matplotlib: pip install 'dlcli[plot]'; or leave out the file's name") from None
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="learning rate")
    axes.plot([step + 1 for step in steps], rates)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({os.strerror(error.errno or 0)})") from None
