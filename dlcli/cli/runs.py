"""``dlcli runs``: the table of runs, and deleting them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlcli.cli.options import AsJson, RunDir, run_folder

if TYPE_CHECKING:
    from pathlib import Path

    from dlcli.run_records import Record

EXAMPLE = """\b
Examples:
  dlcli runs                            the table of all runs
  dlcli runs rm 2026-03-01              delete the one run whose name begins so
  dlcli runs prune --older-than 30d     delete all that are older than a month"""
EXAMPLE_RM = """\b
Example:
  dlcli runs rm latest"""
EXAMPLE_PRUNE = """\b
Example:
  dlcli runs prune --status failed --older-than 7d"""

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def runs(ctx: typer.Context, run_dir: RunDir = None, as_json: AsJson = False) -> None:
    """List the runs; or delete some with rm and prune.

    Sweeps come first, with their runs below them.
    """
    ctx.obj = run_dir
    if ctx.invoked_subcommand is not None:
        return
    from dlcli.cli.table import table
    from dlcli.run_records import records
    from dlcli.sweep_records import sweeps

    folder = run_folder(run_dir)
    found = [(path, path.name, records(path)) for path in sweeps(folder)]
    found.append((folder, "", records(folder)))
    if as_json:
        import json

        listed = [{**_as_json(record), "sweep": sweep or None} for _, sweep, inside in found for record in inside]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
    elif not any(inside for _, _, inside in found):
        print(f"no runs in {folder}; begin one with 'dlcli train'")
    else:
        header = ("run", "data", "model", "best", "steps", "time", "size", "status")
        rows: list[tuple[str, ...]] = []
        for path, sweep, inside in found:
            rows += [_sweep_row(path)] if sweep else []
            rows += [(f"  {row[0]}" if sweep else row[0], *row[1:]) for row in map(_row, inside)]
        print(table(rows, header, right=(4, 5, 6)))


@app.command("rm", epilog=EXAMPLE_RM)
def remove(
    ctx: typer.Context,
    run: Annotated[list[str], typer.Argument(help="A path, a unique prefix of a name (also a sweep's), latest.")],
    yes: Yes = False,
    run_dir: RunDir = None,
) -> None:
    """Delete runs."""
    from dlcli.errors import ConfigError
    from dlcli.run_records import find, record, records
    from dlcli.sweep_records import find_sweep

    folder = run_folder(run_dir or ctx.obj)
    problems, found = [], {}
    for text in run:
        try:
            sweep = find_sweep(text, folder)
            for inside in records(sweep) if sweep is not None else []:
                if inside.status == "running":
                    problems.append(_running(inside))
            chosen = record(sweep if sweep is not None else find(text, folder))
            if chosen.status == "running":
                problems.append(_running(chosen))
            found[chosen.directory] = chosen
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    _delete(list(found.values()), yes)


@app.command("prune", epilog=EXAMPLE_PRUNE)
def prune(
    ctx: typer.Context,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="finished, stopped, failed, killed or damaged.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Such as 12h, 7d or 2w.", show_default=False)
    ] = None,
    yes: Yes = False,
    run_dir: RunDir = None,
) -> None:
    """Delete all runs of a status or an age (of both, if both are given). Running ones stay."""
    import time

    from dlcli.errors import ConfigError, suggestion
    from dlcli.run_records import STATUSES, records

    if not status and older_than is None:
        raise ConfigError("say which runs: --status failed, --older-than 7d, or both")
    removable = [known for known in STATUSES if known != "running"]
    for name in status or []:
        if name not in removable:
            raise ConfigError(f"no runs of status '{name}' can be pruned; {suggestion(name, removable)}")
    newest = time.time() - age(older_than) if older_than is not None else time.time()
    found = [
        record
        for record in records(run_folder(run_dir or ctx.obj))
        if record.status in (status or removable) and record.created() <= newest
    ]
    if found:
        _delete(found, yes)
    else:
        print("no such runs; nothing was deleted")


def age(text: str) -> float:
    """Seconds of an age such as ``30m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        ConfigError: it is none.
    """
    from dlcli.errors import ConfigError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip())
    if match is None:
        raise ConfigError(f"--older-than {text}: expected a number and m, h, d or w, for example 7d")
    return float(match[1]) * {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}[match[2]]


def _delete(found: list[Record], yes: bool) -> None:
    import shutil

    from dlcli.errors import ConfigError
    from dlcli.run_records import record

    total = format_size(sum(chosen.size() for chosen in found))
    names = ", ".join(chosen.name for chosen in found)
    if not yes and not _agreed(f"Delete {names} ({total})? [y/N] "):
        print("nothing was deleted")
        return
    for chosen in found:
        if record(chosen.directory).status == "running":  # resumed while we asked
            raise ConfigError(_running(chosen))
        try:
            if chosen.directory.is_symlink():
                chosen.directory.unlink()
            else:
                shutil.rmtree(chosen.directory)
        except OSError as error:
            raise ConfigError(f"{error.filename}: cannot be deleted ({error.strerror})") from None
        print(f"deleted {chosen.directory}")


def _agreed(question: str) -> bool:
    from dlcli.errors import ConfigError

    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        raise ConfigError("deleting needs a yes; where nobody can answer, give --yes") from None


def _running(record: Record) -> str:
    pid, host = record.summary.get("pid"), record.summary.get("host")
    return f"{record.name} is running (process {pid} on {host}); end it first"


def _row(record: Record) -> tuple[str, ...]:
    summary = record.summary
    data = record.choice("data")
    if summary.get("data_source") == "stand-in":
        data += " (stand-in)"
    steps = summary.get("steps")
    return (
        record.name,
        data or "-",
        record.choice("model") or "-",
        format_best(summary.get("best")),
        f"{steps:,}" if isinstance(steps, int) else "-",
        format_duration(summary.get("seconds")),
        format_size(record.size()),
        record.status,
    )


def _sweep_row(folder: Path) -> tuple[str, ...]:
    """A sweep's line: how many of its jobs are done."""
    from dlcli.errors import DataError
    from dlcli.sweep_records import read_jobs

    try:
        jobs = read_jobs(folder)
    except DataError:
        return (folder.name, "", "", "", "", "", "", "damaged")
    done = sum(job.status == "finished" for job in jobs)
    return (folder.name, "", "", "", "", "", "", f"{done} of {len(jobs)} finished")


def _as_json(record: Record) -> dict[str, Any]:
    return {
        "run": record.name,
        "path": str(record.directory.resolve()),
        "status": record.status,
        "bytes": record.size(),
        "summary": {key: value for key, value in record.summary.items() if key != "status"},
    }


def format_best(best: Any) -> str:
    """``{"metric": "val/loss", "value": 1.5, "step": 10}`` as ``val/loss 1.5000``."""
    if not isinstance(best, dict) or not isinstance(best.get("value"), int | float):
        return "-"
    return f"{best.get('metric', '')} {best['value']:.4f}".strip()


def format_duration(seconds: Any) -> str:
    """Seconds as ``8s``, ``1m05s`` or ``2h03m``."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 1e12:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def format_size(size: float) -> str:
    """Bytes as ``12 B``, ``3.4 kB`` or ``1.2 GB`` (powers of 1000)."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"
