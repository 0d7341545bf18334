"""The model of a saved run with its weights, without its task and its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlcli import checkpoint, runtime
from dlcli.errors import ConfigError, DataError
from dlcli.registry import MODELS
from dlcli.spec import DataSpec


def spec_from(sizes: Mapping[str, Any]) -> DataSpec:
    """The sizes that ``spec.json`` holds."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in sizes.items()}
    return DataSpec(**values)


def build_model(
    config: Mapping[str, Any], choices: Mapping[str, str | None], spec: Any, *, saved: bool = False
) -> nn.Module:
    """The configured model for data of these sizes; initial weights come from torch's global generator.

    Where ``saved`` weights follow, options that only say where the initial ones come from (the class constant
    ``initial_only``) are null: their files may be gone.
    """
    options = config["model"]
    if saved:
        options = {**options, **dict.fromkeys(MODELS.constant(options["name"], "initial_only", ()))}
    model: nn.Module = MODELS.build(options, spec=spec, label=choices.get("data") or config["data"]["name"])
    return model


def load_state(directory: Path, which: str) -> tuple[dict[str, Any], str]:
    """A checkpoint of a run, and which one it is: "best", "last" or its path. Without a best one it is the last.

    Raises:
        ConfigError: no such file. DataError: it is damaged.
    """
    if which not in ("best", "last"):
        if not Path(which).is_file():
            raise ConfigError(f"--checkpoint {which}: expected best, last or the path of a checkpoint")
        return checkpoint.load(Path(which)), which
    best = directory / "best.pt"
    if which == "best" and best.exists():
        return checkpoint.load(best), "best"
    return checkpoint.load_latest(directory)[0], "last"


def restored_model(
    name: str,
    config: Mapping[str, Any],
    choices: Mapping[str, str | None],
    spec: DataSpec,
    state: Mapping[str, Any],
    device: torch.device,
) -> nn.Module:
    """The model with a checkpoint's weights (the averaged ones, if there are any), in evaluation mode, on the device.

    Raises:
        DataError: the weights are those of another model than the one of run ``name``.
    """
    model = build_model(config, choices, spec, saved=True)
    weights = state.get("ema", state["model"])
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise DataError(
            f"{name}: the checkpoint holds the weights of another model than '{choices['model']}'; name the checkpoint "
            "of this run"
        ) from None
    trainer = config["trainer"]
    if trainer.get("precision") == "fp64":
        model.double()
        model.load_state_dict(weights)
    model.to(device)
    if runtime.resolve_channels_last(trainer.get("channels_last", False), trainer.get("precision", "fp32"), device):
        runtime.to_channels_last(model)
    return model.eval()
