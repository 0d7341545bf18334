"""How much features say about classes that they were not trained on: a linear classifier and the nearest neighbours.

Sources: Zhang, Isola, Efros 2016, "Colorful Image Colorization" (linear classifiers on frozen features); Wu et al.
2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (weighted votes of neighbours).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.functional.inference import device_of

WEIGHT_DECAY = 1e-4  # of the linear classifier
STEPS = 100  # of its full-batch training, at most
VOTE_TEMPERATURE = 0.07  # Wu et al.
CHUNK = 512  # pictures whose features are computed at a time

Features = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) -> features (B, F) float32."""


class FeatureProbe(NamedTuple):
    """Classifiers on fixed features, fitted to N examples."""

    mean: Tensor  # (F,), of each feature
    deviation: Tensor  # (F,)
    weight: Tensor  # (C, F), of the linear classifier on standardised features
    bias: Tensor  # (C,)
    stored: Tensor  # (N, F), the examples' features, each divided by its length
    labels: Tensor  # (N,) int64

    def linear(self, features: Tensor) -> Tensor:
        """Scores of the classes by the linear classifier: features (B, F) -> (B, C)."""
        return F.linear((features - self.mean) / self.deviation, self.weight, self.bias)

    def nearest(self, features: Tensor, neighbors: int) -> Tensor:
        """Votes for the classes by the neighbours with the largest cosines: features (B, F) -> (B, C)."""
        cosines = F.normalize(features) @ self.stored.T  # (B, N)
        closest, rows = cosines.topk(min(neighbors, len(self.stored)))
        votes = torch.zeros(len(features), len(self.bias), device=features.device)
        return votes.scatter_add_(1, self.labels[rows], (closest / VOTE_TEMPERATURE).exp())


def fit(features: Tensor, labels: Tensor, num_classes: int) -> FeatureProbe:
    """The classifiers for features (N, F) and labels (N,).

    The linear one minimises cross-entropy plus WEIGHT_DECAY / 2 · |weight|² by L-BFGS over all examples at once.
    """
    from torch.optim import LBFGS

    mean, deviation = features.mean(0), features.std(0, correction=0)
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)  # a constant feature says nothing
    standardised = (features - mean) / deviation
    weight = torch.zeros(num_classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=features.device, requires_grad=True)
    optimizer = LBFGS([weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(standardised, weight, bias), labels)
        value = value + WEIGHT_DECAY / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return FeatureProbe(mean, deviation, weight.detach(), bias.detach(), F.normalize(features), labels)


def features_of(features: Features, images: Tensor) -> Tensor:
    """The features of many images, (N, F)."""
    return torch.cat([features(part) for part in torch.split(images, CHUNK)])


def some_of_each(batches: Iterator[Any], per_class: int | None, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,): the first ``per_class`` examples of every class, or all of them."""
    images, labels = [], []
    seen: Tensor | int = 0
    for batch in batches:
        found = F.one_hot(batch[1], num_classes)  # (B, K)
        rank = found.cumsum(0) + seen
        seen = rank[-1]
        kept = (rank * found).sum(1) <= per_class if per_class is not None else slice(None)
        images.append(batch[0][kept])
        labels.append(batch[1][kept])
        if per_class is not None and int(seen.min()) >= per_class:
            break  # no class needs another
    return torch.cat(images), torch.cat(labels)


def check_resets(model: nn.Module) -> None:
    """
    Raises:
        ConfigError: parameters that ``untrained`` could not set back to initial weights.
    """
    for path, module in model.named_modules():
        own = next(iter(module.named_parameters(path, recurse=False)), None)
        if own is not None and not hasattr(module, "reset_parameters"):
            raise ConfigError(
                f"features are measured beside those of an untrained {type(model).__name__}, and nothing sets its "
                f"parameter {own[0]} back; give {type(module).__name__} a method reset_parameters()"
            )


def untrained(model: nn.Module, images: Tensor, seed: int) -> nn.Module:
    """A copy of the model with initial weights again, each layer by its own rule, drawn from ``seed``.

    Batch normalisations learn the statistics of ``images``, so that the copy is as good as such a network can be.
    """
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        twin: Any = copy.deepcopy(model).cpu()
        for module in twin.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None  # a plain mean over the batches
        twin.to(device).train()
        for part in torch.split(images, CHUNK):
            twin.features(part)
    fresh: nn.Module = twin.eval()
    return fresh
