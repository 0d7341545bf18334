"""What is done to pictures so that there is something to learn from them without labels.

Every function takes images (B, C, H, W); what is drawn comes from torch's global generator.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dlcli.functional.augmentation import grey

PATCH_ORDERS = torch.tensor(list(itertools.permutations(range(4))))  # (24, 4), all orders of 2 × 2 patches
ROTATIONS = 4


def rotated(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each square picture turned by 0, 90, 180 or 270 degrees counterclockwise, and which of these (B,) int64."""
    turns = torch.randint(ROTATIONS, (len(images),)).to(images.device)
    return rotate(images, turns), turns


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Square pictures turned counterclockwise by so many quarters (B,)."""
    turned = torch.stack([torch.rot90(images, number, (2, 3)) for number in range(ROTATIONS)])  # (4, B, C, H, W)
    return turned[turns, torch.arange(len(images), device=images.device)]


def shuffled_patches(images: Tensor) -> tuple[Tensor, Tensor]:
    """The 2 × 2 quarters of each picture in one of their 24 orders, and which (B,) int64."""
    orders = torch.randint(len(PATCH_ORDERS), (len(images),)).to(images.device)
    return shuffle_patches(images, orders), orders


def shuffle_patches(images: Tensor, orders: Tensor) -> Tensor:
    """At place p of each picture the quarter ``PATCH_ORDERS[order][p]``; places and quarters are counted by rows."""
    count, channels, height, width = images.shape
    quarters = images.view(count, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    chosen = PATCH_ORDERS.to(images.device)[orders]  # (B, 4)
    moved = quarters[torch.arange(count, device=images.device).unsqueeze(1), chosen]  # (B, 4, C, H/2, W/2)
    return moved.view(count, 2, 2, channels, height // 2, width // 2).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def noisy(images: Tensor, deviation: float) -> Tensor:
    """Pictures with normal noise of this standard deviation added."""
    return images + deviation * torch.randn(images.shape).to(images)


def masked_patches(images: Tensor, share: float, size: int) -> tuple[Tensor, Tensor]:
    """Pictures of which a share of the square patches is 0, and which pixels these are, (B, 1, H, W) bool.

    In every picture the same number of patches is drawn, at least one of them and not all.
    """
    count, _, height, width = images.shape
    rows, columns = height // size, width // size
    patches = rows * columns
    number = min(max(1, round(share * patches)), patches - 1)
    rank = torch.rand(count, patches).argsort(1).argsort(1).to(images.device)
    hidden = (rank < number).view(count, 1, rows, columns)
    mask = hidden.repeat_interleave(size, 2).repeat_interleave(size, 3)
    return images.masked_fill(mask, 0.0), mask


def without_colours(images: Tensor) -> Tensor:
    """The brightness of each pixel in all three channels."""
    return grey(images).expand_as(images)
