"""The check that a model's outputs have the shape which a task needs; without it some would be broadcast silently."""

from __future__ import annotations

from typing import Any

from dlcli.errors import ConfigError


def check_shape(outputs: Any, expected: tuple[int, ...], task: str, axes: str) -> None:
    """
    Args:
        outputs: what the model returned.
        expected: the shape that the task needs.
        task: the task's name, for the message.
        axes: what the axes mean, for the message, such as "(batch, classes)".

    Raises:
        ConfigError: another shape, or no tensor at all.
    """
    shape = getattr(outputs, "shape", None)
    if shape != expected:
        found = f"outputs of shape {tuple(shape)}" if shape is not None else f"a {type(outputs).__name__}"
        raise ConfigError(f"the model returns {found}; task '{task}' needs a tensor of shape {expected}: {axes}")
