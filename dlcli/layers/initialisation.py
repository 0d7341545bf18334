"""Rules for initial weights by the names that configurations use.

Source: d2l 5.4 (numerical stability) and 6.3 (parameter initialisation); Glorot & Bengio 2010; He et al. 2015; Saxe et
al. 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError

RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": nn.init.zeros_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.01),
    "standard_normal": nn.init.normal_,
    "xavier": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}

FOR_MATRICES = ("xavier", "xavier_normal", "he", "orthogonal")
"""The rules that count inputs and outputs, so that the weights need two axes."""

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def initialise(module: nn.Module, rule: str) -> None:
    """Set the weights of every linear and convolution layer below ``module`` by ``rule``, and their biases to zero.

    =============== =====================================================================================
    rule            weights
    =============== =====================================================================================
    default         as torch makes them, biases too: uniform in ±1/√fan_in
    zeros           0: every unit of a layer stays like every other (d2l 5.4); for last layers
    normal          N(0, 0.01²)
    standard_normal N(0, 1), biases too: the way of DLFS, which saturates sigmoids of many inputs
    xavier          uniform in ±√(6 / (fan_in + fan_out)): equal variance of activations and of gradients
    xavier_normal   N(0, 2 / (fan_in + fan_out))
    he              N(0, 2 / fan_in): the same for rectifiers, which halve the variance
    orthogonal      orthonormal rows or columns, the axes after the first taken as one
    =============== =====================================================================================

    Raises:
        KeyError: no such rule. (A configuration is checked against the model's ``Literal`` before this.)
    """
    if rule == "default":
        return
    for layer in _weighted_layers(module):
        RULES[rule](layer.weight)
        if layer.bias is not None:
            nn.init.normal_(layer.bias) if rule == "standard_normal" else layer.bias.zero_()


def begin(module: nn.Module, rule: str, init_range: list[float] | None, numpy_seed: int | None) -> None:
    """Initial weights by what a configuration says: uniform in ±``init_range`` if there is one, else by the rule.

    Raises:
        ConfigError: a seed with another rule than standard_normal, or not as many ranges as layers.
    """
    if init_range is not None:
        initialise_uniformly(module, init_range, numpy_seed)
    elif numpy_seed is not None and rule != "standard_normal":
        raise ConfigError(
            "model.init_numpy_seed draws weights in ±model.init_range, or those of model.init=standard_normal; name one"
        )
    elif numpy_seed is not None:
        initialise_normally(module, numpy_seed)
    else:
        initialise(module, rule)


@torch.no_grad()
def initialise_uniformly(module: nn.Module, half_widths: list[float], numpy_seed: int | None) -> None:
    """Weights uniform in ±half_width, biases zero, as GDL begins: ``0.2 * random - 0.1`` has the half-width 0.1.

    Args:
        module: its linear and convolution layers, in their order.
        half_widths: one for each layer, or one for all.
        numpy_seed: draw from NumPy's legacy generator, one (inputs, outputs) matrix after the other, which gives the
            numbers of a book to the digit; None draws from torch's generator, as all other rules do.

    Raises:
        ConfigError: not as many half-widths as layers.
    """
    layers = _weighted_layers(module)
    if len(half_widths) not in (1, len(layers)):
        raise ConfigError(
            f"model.init_range has {len(half_widths)} numbers and the model has {len(layers)} layers; give one number "
            "for each layer, or one for all"
        )
    random = np.random.RandomState(numpy_seed) if numpy_seed is not None else None
    for layer, half_width in zip(layers, half_widths * (len(layers) // len(half_widths)), strict=True):
        if random is None:
            layer.weight.uniform_(-half_width, half_width)
        else:
            shape = layer.weight.flatten(1).T.shape  # (inputs, outputs)
            drawn = torch.from_numpy(2 * half_width * random.random_sample(shape) - half_width)
            layer.weight.copy_(drawn.T.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def initialise_normally(module: nn.Module, numpy_seed: int) -> None:
    """N(0, 1) for weights and biases from NumPy's legacy generator, which every layer begins anew, as DLFS has it."""
    for layer in _weighted_layers(module):
        random = np.random.RandomState(numpy_seed)
        drawn = torch.from_numpy(random.normal(size=tuple(layer.weight.flatten(1).T.shape)))  # (inputs, outputs)
        layer.weight.copy_(drawn.T.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(random.normal(size=len(layer.bias))))


def _weighted_layers(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, WEIGHTED)]
