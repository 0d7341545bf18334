"""Cross-correlation written out, and the matrix that it is: what a convolutional layer computes.

Letters of shapes: H×W pixels of a picture, h×w of a kernel, P×Q = (H-h+1)×(W-w+1) places of the kernel, I and O
channels in and out, B pictures.
Source: d2l 7.2 (the operation), 7.4 (channels), 14.10 (the matrix and its transpose); DLFS chapter 5; GDL chapter 10.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_correlate(pictures: Tensor, kernel: Tensor) -> Tensor:
    """At each place, the sum of the pixels below the kernel, each times the kernel's number over it.

    Args:
        pictures: (..., H, W).
        kernel: (h, w), no larger than a picture.

    Returns:
        (..., P, Q).

    Raises:
        ValueError: a kernel that is larger than the pictures.
    """
    rows, columns = (1 + side - window for side, window in zip(pictures.shape[-2:], kernel.shape, strict=True))
    if min(rows, columns) < 1:
        raise ValueError(
            f"a kernel of {tuple(kernel.shape)} does not fit into pictures of {tuple(pictures.shape[-2:])}"
        )
    total = torch.zeros((), dtype=pictures.dtype, device=pictures.device)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            total = total + kernel[i, j] * pictures[..., i : i + rows, j : j + columns]
    return total


def cross_correlate_channels(pictures: Tensor, kernels: Tensor) -> Tensor:
    """pictures (B, I, H, W), kernels (O, I, h, w) -> (B, O, P, Q): each output channel is the sum over those put in."""
    outputs = [
        torch.stack([cross_correlate(pictures[:, i], one) for i, one in enumerate(kernel)]).sum(0) for kernel in kernels
    ]
    return torch.stack(outputs, 1)


def dense_at_each_pixel(pictures: Tensor, weight: Tensor) -> Tensor:
    """A dense layer over the channels of every pixel, which is the convolution with kernels of 1×1.

    pictures (B, I, H, W), weight (O, I) -> (B, O, H, W).
    """
    return torch.einsum("oi,bihw->bohw", weight, pictures)


def kernel_matrix(kernel: Tensor, height: int, width: int) -> Tensor:
    """The linear map of ``cross_correlate`` as a matrix (P·Q, H·W) over flattened pictures of (height, width).

    Its transpose (H·W, P·Q) is the transposed convolution, which spreads each number over the kernel's place.
    """
    rows, columns = height - kernel.shape[0] + 1, width - kernel.shape[1] + 1
    matrix = kernel.new_zeros(rows, columns, height, width)
    p, q = torch.arange(rows).unsqueeze(1), torch.arange(columns)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            matrix[p, q, p + i, q + j] = kernel[i, j]
    return matrix.reshape(rows * columns, height * width)
