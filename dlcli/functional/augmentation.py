"""Changes of pictures, a whole batch at a time: every picture by numbers of its own, on the device that trains.

Letters of shapes: B pictures, C channels, H × W pixels, K classes. Nothing here draws a random number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue in brightness (ITU-R BT.601)


def crop_and_flip(
    images: Tensor, top: Tensor, left: Tensor, horizontal: Tensor, vertical: Tensor, padding: int
) -> Tensor:
    """Cut a picture of the same size out of each one with a black edge, and mirror it. Exact: pixels only move.

    One gather over the whole batch, and it gathers bytes where pixels are bytes; that is the fastest way on a CPU.

    Args:
        images: (B, C, H, W) of any type.
        top, left: (B,) int64 from 0 to 2 ``padding``, the corner of the cut; ``padding`` leaves the picture in place.
        horizontal, vertical: (B,) bool, which pictures are mirrored left to right, and upside down.
        padding: pixels of the edge.
    """
    count, channels, height, width = images.shape
    device = images.device
    if padding:
        images = F.pad(images, (padding, padding, padding, padding))
    kind = torch.int32 if images.numel() < 2**31 else torch.int64  # of places in the batch; short ones are faster
    row, column = torch.arange(height, device=device, dtype=kind), torch.arange(width, device=device, dtype=kind)
    rows = torch.where(vertical[:, None], height - 1 - row, row) + top[:, None].to(kind)  # (B, H)
    columns = torch.where(horizontal[:, None], width - 1 - column, column) + left[:, None].to(kind)  # (B, W)
    plane = torch.arange(count * channels, device=device, dtype=kind).view(count, channels, 1) * images.shape[2]
    lines = (plane + rows[:, None, :]) * images.shape[3]  # (B, C, H), where each line of pixels begins
    places = lines[..., None] + columns[:, None, None, :]  # (B, C, H, W)
    return images.reshape(-1).index_select(0, places.view(-1)).view(count, channels, height, width)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Take each pixel from another place, between the four pixels there; black outside.

    Args:
        images: (B, C, H, W) float.
        matrices: (B, 2, 3), from a place in the result to the place in the picture; places run from -1 to 1.
    """
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images), mode="bilinear", padding_mode="zeros", align_corners=False)


def crop_matrices(top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """For ``warp``: stretch a part of each picture to the whole. All (B,), as shares of the picture -> (B, 2, 3)."""
    zero = torch.zeros_like(top)
    return torch.stack(
        [
            torch.stack([width, zero, 2 * left + width - 1], 1),
            torch.stack([zero, height, 2 * top + height - 1], 1),
        ],
        1,
    )


def affine_matrices(degrees: Tensor, right: Tensor, down: Tensor, scale: Tensor, shear: Tensor, ratio: float) -> Tensor:
    """For ``warp``: shear along the rows, enlarge, turn clockwise and move each picture, around its middle.

    Args:
        degrees: (B,) of the turn.
        right, down: (B,) shares of the picture's sides.
        scale: (B,) factors.
        shear: (B,) degrees that upright lines lean.
        ratio: height divided by width of the pictures, so that a turn changes no shape.

    Returns:
        (B, 2, 3), the inverse: from the result to the picture.
    """
    angle, lean = degrees.deg2rad(), shear.deg2rad().tan()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # In pixels, (x, y) of the picture = shear⁻¹ turn⁻¹ (x' - right, y' - down) / scale, where turn⁻¹ is
    # ((cos, sin), (-sin, cos)) and shear⁻¹ is ((1, lean), (0, 1)); then both axes in units of half a side.
    a, b = cos - lean * sin, (sin + lean * cos) * ratio
    c, d = -sin / ratio, cos
    x, y = 2 * right, 2 * down
    return torch.stack([torch.stack([a, b, -a * x - b * y], 1), torch.stack([c, d, -c * x - d * y], 1)], 1)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """images (B, C, H, W) from 0 to 1, each multiplied by its factor (B,) and cut off at 0 and 1."""
    return (images * factors.view(-1, 1, 1, 1)).clamp(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Distances from the picture's mean brightness, multiplied by a factor (B,); cut off at 0 and 1."""
    return _blend(images, grey(images).mean((2, 3), keepdim=True), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Distances of each pixel's colours (C = 3) from its brightness, multiplied by a factor; cut off at 0 and 1."""
    return _blend(images, grey(images), factors)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(others.expand_as(images), images, factors.view(-1, 1, 1, 1)).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """The brightness of each pixel: (B, C, H, W) -> (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the colours (B, 3, H, W) from 0 to 1 along the colour circle by shares (B,) of it, in the HSV model."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)  # (B, H, W)
    spread = value - least
    safe = spread.clamp(min=torch.finfo(images.dtype).tiny)
    angle = torch.where(value == red, (green - blue) / safe, torch.zeros_like(value))
    angle = torch.where((value == green) & (value != red), 2 + (blue - red) / safe, angle)
    angle = torch.where((value != green) & (value != red), 4 + (red - green) / safe, angle)
    angle = torch.where(spread == 0, 0, angle) + 6 * turns.view(-1, 1, 1)
    # Each colour is at its largest around its own place on the circle of 6, and falls off over one sixth.
    places = images.new_tensor([5, 3, 1]).view(1, 3, 1, 1)
    distance = (places + angle.unsqueeze(1)) % 6  # (B, 3, H, W)
    return value.unsqueeze(1) - spread.unsqueeze(1) * torch.minimum(distance, 4 - distance).clamp(0, 1)


def boxes_mask(top: Tensor, left: Tensor, height: Tensor, width: Tensor, rows: int, columns: int) -> Tensor:
    """Which pixels lie in each picture's box: four (B,) in pixels -> (B, 1, rows, columns) bool."""
    row, column = torch.arange(rows, device=top.device), torch.arange(columns, device=top.device)
    inside_rows = (row >= top[:, None]) & (row < (top + height)[:, None])
    inside_columns = (column >= left[:, None]) & (column < (left + width)[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)


def mixed(first: Tensor, second: Tensor, share: float) -> Tensor:
    """``share`` of the first and the rest of the second, of pictures or of targets."""
    return torch.lerp(second, first, share)
