"""The features of a trained classifier: what its last linear layer reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError


def last_linear(classifier: nn.Module) -> nn.Linear:
    """The linear layer that comes last in the order in which layers were made.

    Raises:
        ConfigError: there is none.
    """
    layers = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(f"a {type(classifier).__name__} has no linear layer whose inputs could serve as features")
    return layers[-1]


def features_and_scores(classifier: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the last linear layer reads, (B, F), and what the classifier says, (B, C)."""
    read: list[Tensor] = []
    last = last_linear(classifier)
    hook = last.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    try:
        scores = classifier(inputs.to(last.weight.dtype))
    finally:
        hook.remove()
    return read[0].flatten(1), scores


def pooled_pixels(inputs: Tensor, side: int) -> Tensor:
    """Examples (B, …) as vectors (B, F): pictures (B, C, H, W) averaged to at most side × side, others as they are."""
    if inputs.ndim == 4 and max(inputs.shape[2:]) > side:
        inputs = torch.nn.functional.adaptive_avg_pool2d(inputs, side)
    return inputs.flatten(1)
