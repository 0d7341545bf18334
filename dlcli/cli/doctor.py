"""``dlcli doctor``: what this machine offers, what is wrong with it, and the remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from dlcli.cli.options import RunDir, run_folder

EXAMPLE = """\b
Example:
  dlcli doctor    exit code 0: dlcli can be used here; 1: something must be mended first"""

OK, WARNING, FAILURE = "ok", "warning", "FAILURE"
EXTRAS = {
    "plot": ("matplotlib",),
    "gp": ("gpytorch",),
    "federated": ("gmpy2", "dp_accounting"),
}  # extra of the package -> the modules that it brings
LOW_DISK = 2_000_000_000  # bytes


class Finding(NamedTuple):
    """One line of the report; ``remedy`` says what to do about a warning or a failure."""

    subject: str
    text: str
    state: str = OK
    remedy: str = ""


def doctor(run_dir: RunDir = None) -> None:
    """Say what is wrong here and how to mend it.

    Looks at versions, devices, memory, folders, extras and the terminal.
    """
    from dlcli.cli.table import table

    findings = [*versions(), *devices(), *machine(), *folders(run_folder(run_dir)), *extras(), *terminal()]
    print(table([(finding.state, finding.subject, finding.text) for finding in findings]))
    wrong = [finding for finding in findings if finding.state != OK]
    for finding in wrong:
        print(f"\n{finding.state}: {finding.subject}: {finding.text}\n  {finding.remedy}", end="")
    failures = sum(finding.state == FAILURE for finding in wrong)
    if failures:
        print(f"\n\ndlcli cannot be used here yet: {failures} failure{'s' if failures > 1 else ''}.")
        raise typer.Exit(1)
    print("\n\ndlcli can be used here." if wrong else "\ndlcli can be used here; nothing is wrong.")


def versions() -> Iterator[Finding]:
    """Python and the packages that everything needs."""
    from importlib.metadata import PackageNotFoundError, version

    from dlcli import __version__

    yield Finding("dlcli", f"{__version__} in {Path(__file__).parent.parent}")
    yield Finding("Python", f"{platform.python_version()} at {sys.executable}")
    for name in ("torch", "torchvision", "hydra-core", "tensorboard", "numpy", "scikit-learn"):
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "not installed", FAILURE, f"pip install {name}")


def devices() -> Iterator[Finding]:
    """What torch can compute on, and the threads that a run will use."""
    from dlcli.runtime import available_cores, prepare_environment

    cores = f"{available_cores()} cores for this process, {os.cpu_count()} in the machine"
    own = os.environ.get("OMP_NUM_THREADS")
    prepare_environment()
    try:
        import torch
    except Exception as error:  # a broken installation raises many types
        reason = " ".join(str(error).split())[:200]
        yield Finding("devices", f"torch cannot be imported: {reason}", FAILURE, "pip install --force-reinstall torch")
        return
    yield Finding("CPU", f"{cores}, {torch.get_num_threads()} threads{' (OMP_NUM_THREADS)' if own else ''}")
    if own and own.isdigit() and int(own) > available_cores():
        yield Finding(
            "threads",
            f"OMP_NUM_THREADS={own} is more than the cores",
            WARNING,
            "unset OMP_NUM_THREADS: threads that wait for each other make steps many times slower",
        )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "cuda",
            f"there is an NVIDIA driver, but torch {torch.__version__} does not see a GPU",
            WARNING,
            "run nvidia-smi; install a torch that is built for this driver (see pytorch.org); or train on the CPU",
        )
    else:
        yield Finding("cuda", "no GPU; runs use the CPU")
    if torch.backends.mps.is_available():
        yield Finding("mps", "available")


def machine() -> Iterator[Finding]:
    """Memory."""
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB"
    if memory.available < 1e9:
        yield Finding("memory", text, WARNING, "close other programs, or use a small data.batch_size")
    else:
        yield Finding("memory", text)


def folders(runs: Path) -> Iterator[Finding]:
    """The runs, the cache of downloads and the mirror: there, writable, with room, with which data."""
    from dlcli.data.download import cache_folder, mirror_folder

    if _writable(runs):
        yield Finding("runs", f"{runs.resolve()}, {_free(runs) / 1e9:.0f} GB free")
    else:
        remedy = "give another folder with run_dir=DIR, or make this one writable"
        yield Finding("runs", f"{runs.resolve()} cannot be written", FAILURE, remedy)
    cache = cache_folder()
    if _writable(cache):
        yield Finding("cache", f"{cache}: {_data_in(cache)}")
    else:
        remedy = "name another folder in DLCLI_CACHE; until then downloads go to a temporary folder"
        yield Finding("cache", f"{cache} cannot be written", WARNING, remedy)
    for name, folder in (("runs", runs), ("cache", cache)):
        if _free(folder) < LOW_DISK:
            remedy = "make room: 'dlcli runs prune' deletes runs"
            yield Finding(f"disk of {name}", f"{_free(folder) / 1e9:.1f} GB free", WARNING, remedy)
    mirror = mirror_folder()
    if mirror is None:
        yield Finding("mirror", "none (DLCLI_DATA_MIRROR is not set); data come from their publishers")
    elif not mirror.is_dir():
        remedy = "correct or unset DLCLI_DATA_MIRROR; without a mirror data come from their publishers"
        yield Finding("mirror", f"{mirror} is not a folder", WARNING, remedy)
    else:
        yield Finding("mirror", f"{mirror}: {_data_in(mirror)}")


def _data_in(folder: Path) -> str:
    """Which data sets have all their files there, with the right sizes."""
    from dlcli.data.sources import SOURCES

    complete = [
        name
        for name, dataset in SOURCES.items()
        if dataset.files and all(_has(folder / file.path, file.size) for file in dataset.files)
    ]
    return ", ".join(complete) if complete else "no data yet"


def _has(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _writable(folder: Path) -> bool:
    """Whether files can be written there, or the folder be made. Leaves nothing behind."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return True
    except OSError:
        return False


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def extras() -> Iterator[Finding]:
    """The optional parts."""
    from importlib.util import find_spec

    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        remedy = f"without {', '.join(missing)} (pip install 'dlcli[{extra}]')"
        yield Finding(f"extra {extra}", remedy if missing else ", ".join(modules))


def terminal() -> Iterator[Finding]:
    """How progress will be shown."""
    encoding = sys.stdout.encoding or "unknown"
    if sys.stdout.isatty():
        text = f"{shutil.get_terminal_size().columns} columns, {encoding}; progress is a bar"
    else:
        text = f"not a terminal, {encoding}; progress is plain lines"
    yield Finding("terminal", text)
