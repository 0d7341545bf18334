"""A small input for every model of the catalogue: for ``dlcli gradcheck`` and for the tests of all models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError
from dlcli.registry import MODELS
from dlcli.spec import SIZES, DataSpec

BATCH, LENGTH, VOCABULARY = 3, 8, 11

REDUCED: dict[str, dict[str, Any]] = {
    "alexnet": {"channels": [4, 4, 4, 4, 4], "hidden_size": 8, "pooled_side": 1},
    "vgg": {"blocks": [[1, 4], [2, 8]], "hidden_size": 8, "pooled_side": 2},
    "nin": {"channels": [4, 4, 4]},
    "resnet": {"stages": [[1, 4], [2, 8]]},
    "resnext": {"stages": [[1, 8], [2, 16]], "groups": 2},
    "regnet": {"stages": [[2, 16], [1, 32]]},
    "densenet": {"depths": [2, 2], "growth": 4},
}
"""What makes a large model small, so that arithmetic is quick; the model as configured is run on shapes alone."""
# The sizes that a model asks for -> a small DataSpec, a batch of inputs and the shape of the outputs.
Example = tuple[DataSpec, Callable[[], Tensor], tuple[int, ...]]


def images(side: int, channels: int = 1) -> Example:
    spec = DataSpec(input_shape=(channels, side, side), num_outputs=10, num_classes=10)
    return spec, lambda: torch.rand(BATCH, channels, side, side), (BATCH, 10)


def reconstructed(side: int = 28) -> Example:
    """Pictures that come back with their shape."""
    return *images(side)[:2], (BATCH, 1, side, side)


TOKENS: Example = (
    DataSpec(vocab_size=VOCABULARY, sequence_length=LENGTH),
    lambda: torch.randint(VOCABULARY, (BATCH, LENGTH)),
    (BATCH, LENGTH, VOCABULARY),
)
EXAMPLES: dict[frozenset[str], Example] = {
    frozenset({"input_shape", "num_outputs"}): images(28),
    frozenset({"input_shape"}): reconstructed(),
    frozenset({"vocab_size"}): TOKENS,
    frozenset({"vocab_size", "sequence_length"}): TOKENS,
    frozenset({"vocab_size", "num_outputs"}): (
        DataSpec(vocab_size=VOCABULARY, num_outputs=2, num_classes=2),
        lambda: torch.randint(VOCABULARY, (BATCH, LENGTH)),
        (BATCH, 2),
    ),
}
OWN: dict[str, Example] = {
    "alexnet": images(67),
    "nin": images(67),
    "torchvision": images(32, channels=3),
    "gan_mlp": (DataSpec(input_shape=(2,)), lambda: torch.randn(BATCH, 2), (BATCH,)),
    "dcgan": (DataSpec(input_shape=(1, 16, 16)), lambda: torch.randn(BATCH, 100), (BATCH,)),
    "point": (DataSpec(input_shape=(2,)), lambda: torch.zeros(BATCH, 2), (BATCH, 2)),
    "cross_correlation": (*images(8)[:2], (BATCH, 8 * 7)),
    "simclr": (*images(28)[:2], (BATCH, 64)),
    "momentum_contrast": (*images(28)[:2], (BATCH, 64)),
}
"""Of models that do not take the usual inputs, or give other outputs."""


def example(config: Mapping[str, Any]) -> Example:
    """The example for a model's configuration.

    Raises:
        ConfigError: there is none for the sizes that the model needs.
    """
    sizes = frozenset(MODELS.signature(config["name"])) & frozenset(SIZES)
    if config["name"] not in OWN and sizes not in EXAMPLES:
        raise ConfigError(f"no example of inputs for a model that needs {', '.join(sorted(sizes))}")
    return OWN.get(config["name"]) or EXAMPLES[sizes]


def build(config: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """The model for its example, made small where it is large."""
    torch.manual_seed(seed)
    model: nn.Module = MODELS.build(
        {**config, **REDUCED.get(config["name"], {})}, spec=example(config)[0], label="example"
    )
    return model


def inputs(config: Mapping[str, Any]) -> Tensor:
    """A batch of inputs, the same at every call."""
    torch.manual_seed(1)
    return example(config)[1]()
