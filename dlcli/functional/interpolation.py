"""Ways from one point of a latent space to the next."""

from __future__ import annotations

import torch
from torch import Tensor


def on_the_way(points: Tensor, count: int) -> Tensor:
    """Points (N, D) -> (N · count, D): from each, ``count`` points on the way to the next, both ends included; from
    the last to the first.

    Along great circles, because normal noise of many numbers lies near a sphere, and the straight way leads through
    its empty inside. Source: Shoemake 1985; White 2016, "Sampling generative networks".
    """
    following = points.roll(-1, 0)
    cosine = torch.nn.functional.cosine_similarity(points, following).clamp(-1, 1)
    angle = cosine.acos()[:, None, None]  # (N, 1, 1)
    share = torch.linspace(0, 1, count, device=points.device, dtype=points.dtype)[None, :, None]  # (1, count, 1)
    straight = angle.sin() < 1e-4  # the same or the opposite direction: no great circle, or many
    divisor = torch.where(straight, 1.0, angle.sin())
    parts = [torch.where(straight, s, (s * angle).sin() / divisor) for s in (1 - share, share)]
    return (parts[0] * points[:, None] + parts[1] * following[:, None]).flatten(0, 1)
