"""Weights of training examples for a target distribution that differs from theirs, of which only inputs are known.

Minimising the weighted mean of the losses over the training examples is then minimising the expected loss over the
target. Source: d2l 4.7.3 (covariate shift: Shimodaira 2000; label shift: Lipton, Wang, Smola 2018).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from dlcli.data.base import DataModule, permutation
from dlcli.errors import ConfigError

SAMPLE = 10_000  # examples of a split, about, that are looked at
HELD_OUT = 0.2  # of the training examples looked at, which measure the mistakes of the linear classifier
MAX_ITERATIONS = 200  # of the linear classifier's L-BFGS
SMALLEST_SINGULAR_VALUE = 0.05  # of C below; errors of what it is solved for grow by up to its inverse


class CovariateWeights:
    """p(x) / q(x) for inputs x: how much likelier the target distribution p makes them than the training one q.

    A logistic regression tells the target's inputs from those that train. Where it says h(x), the logarithm of the
    odds, the ratio is exp(h(x)) up to a factor, which is chosen so that the mean weight of the training inputs is 1
    before ``largest`` cuts them off.
    """

    def __init__(self, source: Tensor, target: Tensor, largest: float):
        """
        Args:
            source: inputs that train, (N, F). target: inputs of the target distribution, (M, F).
            largest: no weight is above it.
        """
        origin = torch.arange(2).repeat_interleave(torch.tensor([len(source), len(target)]))
        classifier = linear_classifier(torch.cat([source, target]), origin)
        self.slope = torch.from_numpy(classifier.coef_[0]).to(source)  # (F,)
        self.offset = math.log(len(source)) - float((source @ self.slope).logsumexp(0))
        self.largest = largest
        self.note = in_words(self(source, origin))

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The weight of each input (B, …), whatever its label: (B,)."""
        self.slope = self.slope.to(inputs)  # copied once
        with torch.autocast(inputs.device.type, enabled=False):  # the exponential makes much of small errors
            odds = inputs.flatten(1) @ self.slope + self.offset
        return odds.clamp(max=math.log(self.largest)).exp()


class LabelWeights:
    """p(y) / q(y) for classes y: how much more frequent they are in the target distribution p than in training.

    A linear classifier learns from a part of the training examples. On the rest, C[i, j] is the share of the examples
    of class j that it takes for class i; of the target's inputs it takes the share m[i] for class i. As p(x | y) does
    not change, C p = m, which is solved for the shares p of the target's classes.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, target: Tensor, names: list[str], largest: float):
        """
        Args:
            inputs: (N, F), in any order. labels: (N,) int64. target: inputs of the target distribution, (M, F).
            names: of the classes. largest: no weight is above it.

        Raises:
            ConfigError: too few examples of a class, or a classifier whose mistakes say too little.
        """
        count = len(names)
        order = permutation(len(inputs), 0, 0)
        held, kept = order.tensor_split([round(HELD_OUT * len(order))])
        counts = torch.stack([labels[part].bincount(minlength=count) for part in (held, kept)]).amin(0)
        if not counts.all():
            raise ConfigError(
                f"task.shift_correction=label: class '{names[int(counts.argmin())]}' has too few training examples to "
                "measure how it is mistaken; leave it out, or use task.class_weights"
            )
        classifier = linear_classifier(inputs[kept], labels[kept])
        taken_for = torch.from_numpy(classifier.predict(inputs[held].numpy()))
        confusion = torch.zeros(count, count, dtype=torch.float64)
        confusion.index_put_((taken_for, labels[held]), torch.ones((), dtype=torch.float64), accumulate=True)
        confusion /= confusion.sum(0)
        seen = torch.from_numpy(classifier.predict(target.numpy())).bincount(minlength=count).double() / len(target)
        if float(torch.linalg.matrix_norm(confusion, -2)) < SMALLEST_SINGULAR_VALUE:
            raise ConfigError(
                "task.shift_correction=label: a linear classifier cannot tell the classes apart well enough to "
                "estimate how frequent they are; give task.class_weights instead"
            )
        shares = torch.linalg.solve(confusion, seen).clamp(min=0)
        self.shares = shares / shares.sum()  # of the target's classes, (C,)
        trained_on = labels.bincount(minlength=count).double() / len(labels)
        self.weights = (self.shares / trained_on).clamp(max=largest).float()  # (C,)
        estimated = ", ".join(f"{name} {share:.2f}" for name, share in zip(names, self.shares.tolist(), strict=True))
        self.note = f"{in_words(self.weights[labels])}; shares of the target's classes: {estimated}"

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The weight of each label (B,), or of shares of the classes (B, C): (B,)."""
        self.weights = self.weights.to(inputs)  # copied once
        with torch.autocast(inputs.device.type, enabled=False):
            weights: Tensor = self.weights[labels] if labels.ndim == 1 else labels @ self.weights
        return weights


def linear_classifier(inputs: Tensor, labels: Tensor) -> Any:
    """scikit-learn's logistic regression, fitted to inputs (N, F) and labels (N,); the same bits for the same data."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly the best one does
        return LogisticRegression(max_iter=MAX_ITERATIONS).fit(inputs.numpy(), labels.numpy())


def examples(data: DataModule, split: str) -> tuple[Tensor, Tensor]:
    """About ``SAMPLE`` inputs (N, F) float32, and labels (N,), of batches that are spread over the whole split.

    Raises:
        ConfigError: no such split, or inputs that are not numbers.
    """
    if split not in data.splits:
        raise ConfigError(f"task.shift_split={split}: the data have {', '.join(data.splits)}")
    batches = data.batches(split, order="sequential")
    every = max(1, len(batches) * len(batches[0][0]) // SAMPLE)
    chosen = [batches[index] for index in range(0, len(batches), every)]
    if not chosen[0][0].is_floating_point():
        raise ConfigError("task.shift_correction: expected pictures or tables, whose inputs are numbers")
    return torch.cat([batch[0].flatten(1).float() for batch in chosen]), torch.cat([batch[1] for batch in chosen])


def in_words(weights: Tensor) -> str:
    """The spread of the weights of the training examples (N,), and how many equal ones would be worth as much."""
    worth = float(weights.sum() ** 2 / weights.square().sum())
    return (
        f"weights from {float(weights.min()):.2g} to {float(weights.max()):.2g}, worth {worth / len(weights):.0%} of "
        "the training examples"
    )
