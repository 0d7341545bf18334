"""Rules for initial weights by the names that configurations use.

Source: d2l 5.4 (numerical stability) and 6.3 (parameter initialisation); Glorot & Bengio 2010; He et al. 2015; Saxe et
al. 2014.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": nn.init.zeros_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.01),
    "xavier": nn.init.xavier_uniform_,
    "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def initialise(module: nn.Module, rule: str) -> None:
    """Set the weights of every linear and convolution layer below ``module`` by ``rule``, and their biases to zero.

    ========== =====================================================================================
    rule       weights
    ========== =====================================================================================
    default    as torch makes them, biases too: uniform in ±1/√fan_in
    zeros      0: every unit of a layer stays like every other (d2l 5.4); for last layers
    normal     N(0, 0.01²)
    xavier     uniform in ±√(6 / (fan_in + fan_out)): equal variance of activations and of gradients
    he         N(0, 2 / fan_in): the same for rectifiers, which halve the variance
    orthogonal orthonormal rows or columns, the axes after the first taken as one
    ========== =====================================================================================

    Raises:
        KeyError: no such rule. (A configuration is checked against the model's ``Literal`` before this.)
    """
    if rule == "default":
        return
    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            RULES[rule](layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
