"""``dlcli compare``: what differs between runs, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlcli.cli.options import AsJson, RunDir, run_folder

EXAMPLE = """\b
Examples:
  dlcli compare lstm-shakespeare gru-shakespeare
  dlcli compare runs/sweep-lstm-shakespeare-20260301-120000 --plot curves.png
  dlcli compare runs/sweep-lstm-shakespeare-20260301-120000 --plot rates.png --over optimizer.lr
  dlcli compare latest runs/mlp-digits-20260301-120000 --metric val/accuracy --json"""


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Paths, prefixes of names, latest; a sweep is all its runs.")
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the curves of a metric.", show_default=False)
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Only this one; by default all, and the monitored one is drawn."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="OPTION", help="With --plot: draw the result over this option, not over the steps."),
    ] = None,
    as_json: AsJson = False,
    run_dir: RunDir = None,
) -> None:
    """Compare runs: the options in which they differ beside their metrics, and their curves."""
    from dlcli import comparison
    from dlcli.cli.table import table
    from dlcli.errors import ConfigError, suggestion

    found = comparison.open_runs(runs, run_folder(run_dir))
    if over is not None and plot is None:
        raise ConfigError(f"--over {over} is for a picture: add --plot FILE.png")
    if plot is not None and over is not None:
        comparison.plot_over(found, over, metric or comparison.default_metric(found), plot)
    elif plot is not None:
        comparison.plot(found, metric or comparison.default_metric(found), plot)
    metrics = comparison.metrics_of(found)
    if metric is not None and plot is None and metric not in metrics:
        raise ConfigError(f"--metric {metric}: no run has it; {suggestion(metric, metrics)}")
    if as_json:
        import json

        print(json.dumps(comparison.to_json(found), indent=2, ensure_ascii=False))
        return
    header, rows = comparison.rows(found, metrics if metric is None else [name for name in metrics if name == metric])
    print(table(rows, header))
    if plot is not None:
        print(f"{plot}: {metric or comparison.default_metric(found)}")
