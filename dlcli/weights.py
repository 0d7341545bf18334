"""Weights of one run as the initial weights of another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dlcli import checkpoint
from dlcli.errors import ConfigError
from dlcli.run_records import find


def initialise_from(model: nn.Module, text: str, run_dir: Path, fresh: Collection[str] = ()) -> str:
    """Copy the weights of a saved run into ``model`` where names and shapes agree. Returns what happened, in words.

    Args:
        model: its other tensors stay as they are.
        text: names the run. run_dir: the folder that holds it.
        fresh: patterns of parameters that stay as well, since the configuration says by which rule they begin.

    Raises:
        ConfigError: no such run, or no tensor fits. DataError: the checkpoint is damaged.
    """
    directory = find(text, run_dir)
    best = directory / "best.pt"
    state = checkpoint.load(best) if best.exists() else checkpoint.load_latest(directory)[0]
    saved: Mapping[str, Any] = state.get("ema", state["model"])
    own = model.state_dict()
    begun = sorted(name for name in own if any(fnmatchcase(name, pattern) for pattern in fresh))
    weights = {name: tensor for name, tensor in saved.items() if name not in begun}
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise ConfigError(
            f"init_from={text}: no tensor of run {directory.name} fits the model: it holds the weights of another "
            "network; use the model of that run"
        )
    model.load_state_dict({**own, **fitting})
    other = [n for n, tensor in weights.items() if n in own and own[n].shape != tensor.shape]
    left = sorted(set(own) - set(fitting) - set(other) - set(begun))
    unused = sorted(set(weights) - set(fitting) - set(other))
    sizes = [f"{name} ({_size(weights[name])} there, {_size(own[name])} here)" for name in sorted(other)]
    parts = [f"init_from {directory.name}: {len(fitting)} of {len(own)} tensors loaded"]
    parts += [f"of another size (fresh): {', '.join(sizes)}"] if other else []
    parts += [f"not loaded (fresh): {', '.join(left)}"] if left else []
    parts += [f"begun by init: {', '.join(begun)}"] if begun else []
    parts += [f"not used: {', '.join(unused)}"] if unused else []
    return "; ".join(parts)


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "1"
