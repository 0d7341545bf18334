"""One kernel that slides over a picture: a convolutional layer of one channel, written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.functional.cross_correlation import cross_correlate
from dlcli.hyperparameters import Count
from dlcli.registry import MODELS


@MODELS.register("cross_correlation")
class CrossCorrelation(nn.Module):
    """``y[p, q] = sum_{i, j} kernel[i, j] x[p + i, q + j] + bias``.

    Source: d2l 7.2.2 (the layer) and 7.2.4 (a kernel that is learned).
    """

    def __init__(self, *, input_shape: tuple[int, ...], kernel_size: tuple[Count, Count], bias: bool):
        """
        Args:
            input_shape: (1, H, W) of a picture.
            kernel_size: rows and columns of the kernel, whose numbers begin uniform in ±1/√(rows · columns).
            bias: whether a number, at first 0, is added everywhere.

        Raises:
            ConfigError: no grey pictures, or smaller than the kernel.
        """
        super().__init__()
        if len(input_shape) != 3 or input_shape[0] != 1:
            raise ConfigError(f"model 'cross_correlation' needs grey pictures (1, H, W), not inputs of {input_shape}")
        if kernel_size[0] > input_shape[1] or kernel_size[1] > input_shape[2]:
            raise ConfigError(
                f"model.kernel_size={list(kernel_size)}: expected at most the pictures' {list(input_shape[1:])}"
            )
        bound = 1 / math.sqrt(math.prod(kernel_size))
        self.kernel = nn.Parameter(torch.empty(*kernel_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures (B, 1, H, W) -> the numbers of all places, row by row (B, (H-h+1) · (W-w+1))."""
        outputs = cross_correlate(pictures[:, 0], self.kernel).flatten(1)
        return outputs if self.bias is None else outputs + self.bias
