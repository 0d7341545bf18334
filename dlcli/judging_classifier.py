"""The classifier of another run, by whose features and opinion generated examples are measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlcli.catalogue import load_yaml
from dlcli.errors import ConfigError, DataError
from dlcli.functional.features import last_linear
from dlcli.run_records import read_json
from dlcli.run_references import named_run
from dlcli.saved_model import load_state, restored_model, spec_from
from dlcli.spec import DataSpec

PREPARATION = ("name", "path", "classes", "normalize", "resize", "size")
"""Options of data that decide what the examples are and how they are prepared."""


def judging_classifier(
    config: Mapping[str, Any], run_dir: Path, spec: DataSpec, fingerprint: str, device: torch.device
) -> nn.Module | None:
    """The network of the run that the task's option ``classifier`` names, on the device; None if it names none.

    No parameter of it learns.

    Args:
        config: the configuration of those who ask; the classifier must have learned from the same data.
        run_dir: the folder whose runs are known by name.
        spec: the sizes of the data. fingerprint: their SHA-256.

    Raises:
        ConfigError: no such run, not one of classification, or one on other data. DataError: a damaged file.
    """
    text, data = config["task"].get("classifier"), config["data"]
    if text is None:
        return None
    directory = named_run("task.classifier", text, run_dir)
    saved = load_yaml(directory / "config.yaml")
    if not isinstance(saved, dict) or not all(
        isinstance(saved.get(group), dict) and "name" in saved[group] for group in ("task", "data", "model", "trainer")
    ):
        raise DataError(f"{directory / 'config.yaml'}: not the configuration of a run")
    record = read_json(directory / "spec.json")
    if not all(isinstance(record.get(key), dict) for key in ("sizes", "choices")):
        raise DataError(f"{directory / 'spec.json'}: not the record of a run")
    where = f"task.classifier={directory.name}"
    if saved["task"]["name"] != "classification":
        raise ConfigError(f"{where}: a run of task '{saved['task']['name']}'; name one of task=classification")
    theirs = saved["data"]
    other = [key for key in PREPARATION if key in data and theirs.get(key) != data[key]]
    sizes = spec_from(record["sizes"])
    if other or sizes.input_shape != spec.input_shape:
        differing = other or ["name"]
        wanted = " ".join("data" + (f".{key}" if key != "name" else "") + f"={_typed(data[key])}" for key in differing)
        found = ", ".join(f"{key} {_typed(theirs.get(key))}" for key in differing)
        raise ConfigError(f"{where} has learned from other data ({found}); train a classifier with {wanted}")
    if record.get("fingerprint") != fingerprint:
        raise ConfigError(f"{where} has learned from other examples of these data; train a classifier on the same")
    state, _ = load_state(directory, "best")
    model = restored_model(directory.name, saved, record["choices"], sizes, state, device).float()
    last_linear(model)
    return model.requires_grad_(False)


def _typed(value: Any) -> str:
    """A value as a person types it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
