"""How a run gets its folder: ``start`` makes a new one, ``resume`` goes on in an old one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dlcli import __version__, checkpoint, runtime
from dlcli.catalogue import dump_yaml
from dlcli.data.vocabulary import Vocabulary
from dlcli.distributed import Group
from dlcli.errors import ConfigError, DataError
from dlcli.functional.pictures import PREVIEW_IMAGES, grid
from dlcli.hydra_composition import Composed
from dlcli.run import Run, check_fingerprint
from dlcli.run_records import new_directory, process_record, read_json, write_json, write_text
from dlcli.run_references import resolve_runs
from dlcli.tracking import Tracker
from dlcli.weights import initialise_from


def start(
    composed: Composed,
    *,
    command: str,
    plugins: Sequence[str] = (),
    quiet: bool = False,
    group: Group | None = None,
) -> Run:
    """A new run with a folder of its own, ready to ``train()``. In a group every process calls this.

    Raises:
        ConfigError: the run folder cannot be written, or parts do not fit. DataError: the data cannot be had.
    """
    parent = run_folder(composed)
    run = build(composed, plugins=plugins, quiet=quiet, group=group)
    if group is not None:
        group.copy_from_main([*run.model.parameters(), *run.model.buffers()])
        if not group.main:
            run.directory = group.broadcast(None)
            return run
    parent.mkdir(parents=True, exist_ok=True)
    label = (run.choices.get("experiment") or f"{run.model_label}-{run.data_label}").replace("/", "-")
    run.directory = new_directory(parent, f"{label}-{time.strftime('%Y%m%d-%H%M%S')}")
    write_text(run.directory / "config.yaml", dump_yaml(run.config))
    record = {
        "sizes": run.data.spec.defined(),
        "choices": dict(run.choices),
        "plugins": run.plugins,
        "fingerprint": run.data.fingerprint,
        "label_names": list(run.data.label_names) if run.data.label_names else None,
    }
    write_json(run.directory / "spec.json", record)
    if isinstance(run.data.vocabulary, Vocabulary):
        write_json(run.directory / "vocabulary.json", run.data.vocabulary.to_json())
    preprocessing = run.data.preprocessing()
    if preprocessing is not None:
        write_json(run.directory / "preprocessing.json", preprocessing)
    run.summary = {
        "status": "running",
        "steps": 0,
        "epochs": 0,
        "seconds": 0.0,
        "parameters": run.parameters,
        "best": None,
        "metrics": {},
        "data_source": run.data.source,
        "command": command,
        "choices": dict(run.choices),
        "plugins": run.plugins,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **process_record(),
        "versions": {"dlcli": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "git_commit": runtime.git_commit(Path.cwd()),
    }
    write_json(run.directory / "summary.json", run.summary)
    if group is not None:
        group.broadcast(run.directory)
    run.tracker = Tracker(run.directory)
    run.tracker.text(0, "config", "```\n" + dump_yaml(run.config) + "```")
    if run.data.augmenting:
        batch = run.data.batches("train", order="shuffled", seed=run.seed)[0]
        images = batch.views.flatten(0, 1) if run.data.paired else batch.images
        run.tracker.image(0, "train/augmented", grid(images[:PREVIEW_IMAGES]))
    return run


def build(composed: Composed, *, plugins: Sequence[str], quiet: bool, group: Group | None = None) -> Run:
    """A new run as it is before its first step, for a start and for a dry run; nothing is written.

    Raises:
        ConfigError: the run folder cannot be written, or parts do not fit. DataError: the data cannot be had.
    """
    parent = run_folder(composed)
    resolve_runs(composed.config, parent)
    run = Run(composed, plugins=plugins, quiet=quiet, group=group)
    if composed.config["init_from"] is not None:
        run.say(initialise_from(run.model, composed.config["init_from"], parent, run.config["init"]))
    return run


def resume(
    directory: Path,
    composed: Composed,
    *,
    plugins: Sequence[str] = (),
    quiet: bool = False,
    group: Group | None = None,
) -> Run:
    """A run that continues from the newest good checkpoint of ``directory``, with its (changed) configuration.

    A run that ended before its first checkpoint begins again in its folder. In a group every process calls this and
    reads the checkpoint; their number may differ from when it was saved.

    Raises:
        DataError: checkpoints that are damaged, or the data are not those that the run was started with.
    """
    begun = any((directory / name).exists() for name in (checkpoint.LAST, checkpoint.PREVIOUS))
    state, note = None, None
    if begun:
        state, _, note = checkpoint.load_latest(directory)
    else:
        note = f"{directory.name} has no checkpoint yet: it begins at its first step"
    run = Run(composed, plugins=plugins, quiet=quiet, group=group, saved=begun)
    record = read_json(directory / "spec.json")
    if state is not None and state.get("fingerprint") != record["fingerprint"]:
        raise DataError(f"{directory.name}: its checkpoint belongs to a run on other data; put its own back")
    check_fingerprint(record["fingerprint"], run.data, run.data_label, directory, "start a new run")
    if state is None and run.config["init_from"] is not None:
        run.say(initialise_from(run.model, run.config["init_from"], directory.parent, run.config["init"]))
    if note:
        run.say(note)
    run.directory = directory
    run.resume_state = state
    if not run.main:
        return run
    run.summary = {**read_json(directory / "summary.json"), **process_record()}
    run.summary.pop("reason", None)
    write_text(directory / "config.yaml", dump_yaml(run.config))
    run.tracker = Tracker(directory, offsets=state["loop"]["offsets"] if state else {})
    return run


def run_folder(composed: Composed) -> Path:
    """The folder that will hold the run; nothing is made yet.

    Raises:
        ConfigError: it cannot be written.
    """
    parent = Path(composed.config["run_dir"]).expanduser()
    present = next((folder for folder in [parent, *parent.absolute().parents] if folder.exists()), parent)
    if not present.is_dir() or not os.access(present, os.W_OK):
        raise ConfigError(f"run_dir={parent}: cannot be written to; choose another folder with run_dir=…")
    return parent
