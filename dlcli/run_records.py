"""Runs as they lie on the disk: finding them, their state, their records. Imports no torch."""

from __future__ import annotations

import difflib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcli.errors import ConfigError, DataError, counted

STATUSES = ("running", "finished", "stopped", "failed", "killed", "damaged")
"""What a run may be. The first four are written into its summary; ``killed`` is a running one whose process is gone,
``damaged`` one whose summary cannot be read."""

LATEST = "latest"


@dataclass(frozen=True)
class Record:
    """One run folder and what its summary says (nothing, if it is damaged)."""

    directory: Path
    summary: dict[str, Any]
    status: str

    @property
    def name(self) -> str:
        """What people call the run: its folder's name."""
        return self.directory.name

    def choice(self, group: str) -> str:
        """What was chosen in a group, such as ``lstm`` for the model; empty if it is not known."""
        choices = self.summary.get("choices")
        value = choices.get(group) if isinstance(choices, dict) else None
        return value if isinstance(value, str) else ""

    def size(self) -> int:
        """Bytes of all the run's files."""
        return sum(entry.stat(follow_symlinks=False).st_size for entry in _files(self.directory))

    def created(self) -> float:
        """When the run was begun, in seconds since the epoch; the folder's time if the summary does not say."""
        return _timestamp(self.summary.get("created")) or _modified(self.directory)


def is_run(directory: Path) -> bool:
    """Whether this folder holds a run: its configuration, and a record or a checkpoint beside it."""
    marks = ("spec.json", "summary.json", "metrics.jsonl", "last.pt")
    return (directory / "config.yaml").is_file() and any((directory / mark).is_file() for mark in marks)


def records(run_dir: Path) -> list[Record]:
    """The runs in a folder, the oldest first. No such folder is no runs."""
    try:
        directories = [path for path in run_dir.iterdir() if is_run(path)]
    except OSError:
        return []
    return sorted(map(record, directories), key=lambda run: (run.created(), _modified(run.directory / "spec.json")))


def record(directory: Path) -> Record:
    """The record of one run folder; damaged or missing summaries give the status ``damaged``."""
    try:
        summary = read_json(directory / "summary.json")
    except DataError:
        summary = None
    return Record(directory, summary or {}, status(summary))


def status(summary: dict[str, Any] | None) -> str:
    """One of ``STATUSES`` for the content of a ``summary.json`` (None: it could not be read)."""
    if summary is None or summary.get("status") not in STATUSES:
        return "damaged"
    if summary["status"] == "running" and summary.get("host") == socket.gethostname():
        return "running" if _alive(summary.get("pid"), summary.get("pid_started")) else "killed"
    return str(summary["status"])


def find(text: str, run_dir: Path, *, trained: bool = False) -> Path:
    """The folder of the run that ``text`` names: a path, a run's name, a unique prefix of one, or ``latest``.

    With ``trained``, the latest is the latest that has a checkpoint.

    Raises:
        ConfigError: no such run, an ambiguous prefix, or a folder that is not a run.
    """
    named = run_dir / text
    if text != LATEST and text and (os.sep in text or not is_run(named)) and Path(text).is_dir():
        if not is_run(Path(text)):
            raise ConfigError(f"{text} is not a run: it has no config.yaml with a summary.json or a checkpoint")
        return Path(text)
    if text and Path(text).name == text and is_run(named):
        return named
    known = records(run_dir)
    if not known:
        raise ConfigError(f"no run '{text}': there are no runs in {run_dir}; begin one with 'dlcli train'")
    if text == LATEST:
        having = [run for run in known if any((run.directory / name).exists() for name in ("best.pt", "last.pt"))]
        return (having if trained and having else known)[-1].directory
    names = [found.name for found in known]
    matching = [name for name in names if text and name.startswith(text)]
    if len(matching) == 1:
        return run_dir / matching[0]
    if matching:
        raise ConfigError(f"run '{text}' is ambiguous: it may be {_some(matching)}")
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    raise ConfigError(f"no run '{text}' in {run_dir}; {'did you mean' if near else 'there are'} {_some(near or names)}")


def process_record() -> dict[str, Any]:
    """What ``status`` needs to know whether the process that trains is still there."""
    import psutil

    return {"pid": os.getpid(), "pid_started": psutil.Process().create_time(), "host": socket.gethostname()}


def new_directory(parent: Path, name: str) -> Path:
    """Create ``parent/name``, or ``parent/name-2`` and so on if another process was faster."""
    for number in range(1, 10_000):
        candidate = parent / (name if number == 1 else f"{name}-{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise ConfigError(f"run_dir={parent}: no free name for {name}")


def _some(names: list[str], most: int = 4) -> str:
    """The latest few of many names."""
    shown = ", ".join(names[-most:])
    return shown if len(names) <= most else f"{shown} or one of {counted(len(names) - most, 'other')}"


def read_json(file: Path) -> dict[str, Any]:
    """The mapping that a JSON file of a run holds.

    Raises:
        DataError: it is missing, cannot be read or is damaged; one line with the file's name.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); the run is incomplete") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: damaged, not JSON; the run is incomplete") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: damaged, not a JSON object; the run is incomplete")
    return content


def write_json(file: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write a JSON file such that a reader sees the old content or the new one, also after a crash.

    Numbers that are not finite are written as null.

    Raises:
        OSError: the disk is full or cannot be written; the old content stays.
    """
    write_text(file, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file such that a reader sees the old content or the new one, also after a crash.

    Raises:
        OSError: the disk is full or cannot be written; the old content stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _alive(pid: Any, started: Any) -> bool:
    """Whether the process runs and is not another one that was given the same number later."""
    import psutil

    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not isinstance(started, int | float) or abs(process.create_time() - started) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return False


def _timestamp(value: Any) -> float | None:
    """Seconds since the epoch from a number of them or from an ISO date and time."""
    from datetime import datetime

    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _files(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                else:
                    yield entry
    except OSError:  # a run that is being deleted or written
        return
