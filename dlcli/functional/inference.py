"""Looking at a model without changing it: evaluation mode for a while, and the precision in which losses are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode; at the end each gets back the mode that it had, whatever happened.

    Gradients are left alone, so that a generator may yield inside: a ``yield`` inside ``no_grad`` would leak out of it.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """What is computed here gives no parameter of the model a gradient; its inputs still get theirs."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module behind ``torch.compile``: for a few calls of unusual shapes a compilation would not pay."""
    original: nn.Module = getattr(model, "_orig_mod", model)
    return original


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters or buffers are; the CPU for a model without any."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def at_least_float32(tensor: Tensor) -> Tensor:
    """bfloat16 and float16 -> float32, so that a loss is not rounded to three digits; other types as they are."""
    return tensor.float() if tensor.dtype in HALF else tensor
