"""Changes to labelled data: some of the classes or examples only, and labels that are wrong on purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcli.data.base import generator
from dlcli.errors import ConfigError


def only_classes(
    splits: dict[str, tuple[Tensor, Tensor]], names: list[str], classes: list[int] | None
) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """The examples of some classes, with labels from 0 in the order given, and the names of these classes.

    Args:
        splits: inputs (N, …) and labels (N,) int64 of each split.
        names: of all classes.
        classes: labels; None for all.

    Raises:
        ConfigError: fewer than two classes, one named twice, or no such class.
    """
    if classes is None:
        return splits, names
    if len(set(classes)) != len(classes) or len(classes) < 2 or max(classes) >= len(names):
        raise ConfigError(f"data.classes={classes}: expected at least two different labels from 0 to {len(names) - 1}")
    new_labels = torch.full((len(names),), -1)
    new_labels[torch.tensor(classes)] = torch.arange(len(classes))
    kept = {}
    for split, (inputs, labels) in splits.items():
        changed = new_labels[labels]
        kept[split] = inputs[changed >= 0], changed[changed >= 0]
    return kept, [names[label] for label in classes]


def some_of_each_class(inputs: Tensor, labels: Tensor, per_class: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """So many examples of each class, drawn at random, in their order; None for all.

    Args:
        inputs: (N, …). labels: (N,) int64.
        seed: of the drawing; with a larger number the same examples are drawn, and more.

    Raises:
        ConfigError: a class has fewer.
    """
    if per_class is None:
        return inputs, labels
    order = torch.randperm(len(labels), generator=generator(seed, 2))
    drawn = []
    for label in torch.unique(labels):
        rows = order[labels[order] == label]
        if len(rows) < per_class:
            raise ConfigError(f"data.per_class={per_class}: class {int(label)} has {len(rows):,} training examples")
        drawn.append(rows[:per_class])
    chosen = torch.cat(drawn).sort().values
    return inputs[chosen], labels[chosen]


def with_noise(labels: Tensor, num_classes: int, share: float, seed: int) -> Tensor:
    """Labels (N,) of which a share, drawn at random, are replaced by another class, each other one as likely.

    Source: d2l 5.5.3 (networks fit labels that are wrong, and later than those that are right).
    """
    random = generator(seed, 1)
    wrong = torch.randperm(len(labels), generator=random)[: round(share * len(labels))]
    shifts = torch.randint(1, num_classes, (len(wrong),), generator=random)
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + shifts) % num_classes
    return noisy


def shifted(
    images: Tensor, labels: Tensor, class_shares: list[float] | None, brightness_shift: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Pictures and labels of which some, drawn at random, are left out, so that the others are distributed differently.

    Source: d2l 4.7.1 (label shift, covariate shift).

    Args:
        images: (N, C, H, W) uint8. labels: (N,) int64.
        class_shares: of each class, the share that is kept; None for all. The classes' frequencies p(y) change, and
            p(x | y) does not.
        brightness_shift: a picture is kept with the probability sigmoid(-brightness_shift * z), where z is its mean
            pixel, standardised over all pictures; 0 keeps all. p(x) changes, and p(y | x) does not.
        seed: of the drawing.

    Raises:
        ConfigError: not one share for each class, or nothing is left.
    """
    random = generator(seed, 3)
    keep = torch.ones(len(images))
    if class_shares is not None:
        count = int(labels.max()) + 1
        if len(class_shares) != count:
            raise ConfigError(f"data.class_shares: {len(class_shares)} numbers for {count} classes; give one for each")
        keep *= torch.tensor(class_shares)[labels]
    if brightness_shift:
        brightness = images.float().mean((1, 2, 3))  # (N,)
        keep *= torch.sigmoid(-brightness_shift * (brightness - brightness.mean()) / brightness.std())
    kept = torch.rand(len(images), generator=random) < keep
    if not kept.any():
        raise ConfigError(f"data.class_shares={class_shares}: no training picture is left; give larger shares")
    return images[kept], labels[kept]
