"""What the two networks of a generative adversarial pair minimise. Scores are any real numbers; σ is the sigmoid.

================ ========================================================== ==================
loss             discriminator                                              generator
================ ========================================================== ==================
non_saturating   -½ mean[(1 - s) log σ(D(x)) + s log σ(-D(x))]              -mean log σ(D(G))
                 - ½ mean log σ(-D(G))
minimax          the same                                                   mean log σ(-D(G))
hinge            mean max(0, 1 - D(x)) + mean max(0, 1 + D(G))              -mean D(G)
wasserstein      mean D(G) - mean D(x)                                      -mean D(G)
================ ========================================================== ==================

s is the label smoothing, of the data's examples alone.

Source: Goodfellow et al. 2014 (the first two) and d2l 20.1 (their halves); Salimans et al. 2016 (one-sided smoothing);
Lim and Ye 2017 (hinge); Arjovsky et al. 2017 and Gulrajani et al. 2017 (wasserstein and its gradient penalty).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PROBABILISTIC = ("non_saturating", "minimax")
"""The losses whose scores are the logits of a probability."""


def discriminator_loss(loss: str, on_data: Tensor, on_generated: Tensor, label_smoothing: float) -> Tensor:
    """The value that the discriminator minimises, from its scores (B,) of the data's and of generated examples."""
    if loss == "hinge":
        return F.relu(1 - on_data).mean() + F.relu(1 + on_generated).mean()
    if loss == "wasserstein":
        return on_generated.mean() - on_data.mean()
    real = F.binary_cross_entropy_with_logits(on_data, torch.full_like(on_data, 1 - label_smoothing))
    return (real + F.softplus(on_generated).mean()) / 2


def generator_loss(loss: str, on_generated: Tensor) -> Tensor:
    """The value that the generator minimises, from the discriminator's scores (B,) of its examples."""
    if loss == "non_saturating":
        return F.softplus(-on_generated).mean()
    if loss == "minimax":
        return -F.softplus(on_generated).mean()
    return -on_generated.mean()


def gradient_penalty(discriminator: Any, real: Tensor, generated: Tensor) -> Tensor:
    """The mean of (|gradient of the score| - 1)² at random points between real and generated examples, (B, …) each."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(generated, real, share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):  # a gradient of gradients needs the digits
        (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
