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
from dlcli.run_records import find, read_json
from dlcli.saved_model import load_state, restored_model, spec_from
from dlcli.spec import DataSpec

PREPARATION = ("name", "path", "classes", "normalize", "resize", "size")
"""Options of data that decide what the examples are and how they are prepared."""


def judging_classifier(
    text: str, run_dir: Path, data: Mapping[str, Any], spec: DataSpec, device: torch.device
) -> tuple[Path, nn.Module]:
    """The folder of a run, and its network on the device: no parameter of it learns.

    Args:
        text: names the run. run_dir: the folder that holds it.
        data: the configured data of those who ask; the classifier must have learned from the same ones.
        spec: their sizes.

    Raises:
        ConfigError: no such run, not one of classification, or one on other data. DataError: a damaged file.
    """
    try:
        directory = find(text, run_dir, trained=True)
    except ConfigError as error:
        raise ConfigError(f"task.classifier: {error} (or task.classifier=null)") from None
    config = load_yaml(directory / "config.yaml")
    if not isinstance(config, dict):
        raise DataError(f"{directory / 'config.yaml'}: not the configuration of a run")
    record = read_json(directory / "spec.json")
    where = f"task.classifier={directory.name}"
    if config["task"]["name"] != "classification":
        raise ConfigError(f"{where}: a run of task '{config['task']['name']}'; name one of task=classification")
    theirs = config["data"]
    other = [key for key in PREPARATION if key in data and theirs.get(key) != data[key]]
    sizes = spec_from(record["sizes"])
    if other or sizes.input_shape != spec.input_shape:
        differing = other or ["name"]
        wanted = " ".join("data" + (f".{key}" if key != "name" else "") + f"={_typed(data[key])}" for key in differing)
        found = ", ".join(f"{key} {_typed(theirs.get(key))}" for key in differing)
        raise ConfigError(f"{where} has learned from other data ({found}); train a classifier with {wanted}")
    state, _ = load_state(directory, "best")
    model = restored_model(directory.name, config, record["choices"], sizes, state, device).float()
    last_linear(model)
    return directory.resolve(), model.requires_grad_(False)


def _typed(value: Any) -> str:
    """A value as a person types it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
