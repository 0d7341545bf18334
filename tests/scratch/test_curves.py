"""A network on hand-written layers learns exactly as on torch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dlcli
from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.config import compose
from dlcli.errors import ConfigError
from dlcli.registry import MODELS, OPTIMIZERS
from dlcli.scratch import layers_of
from dlcli.spec import DataSpec

SGD = {**load_yaml(CONFIGS / "optimizer" / "sgd.yaml"), "lr": 0.1}
IMAGES = DataSpec(input_shape=(1, 14, 14), num_outputs=3, num_classes=3)
TOKENS = DataSpec(vocab_size=7, sequence_length=6)


class Residual(nn.Module):
    """A small convolutional network with batch normalisation, groups, a shortcut and global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout2d(0.2)),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        )
        self.shortcut = nn.Conv2d(4, 8, 1, stride=2)
        self.output = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = F.leaky_relu(self.branch(x) + self.shortcut(x), 0.1)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return self.output(F.adaptive_avg_pool2d(x, 1).flatten(1))


def model(name: str, **options: Any) -> nn.Module:
    if name == "residual":
        return Residual()
    config = load_yaml(CONFIGS / "model" / f"{name}.yaml")
    config.pop("defaults", None)
    spec = TOKENS if "vocab_size" in MODELS.signature(config["name"]) else IMAGES
    return MODELS.build({**config, **options}, spec=spec)


def losses(layers: str, name: str, options: dict[str, Any]) -> tuple[list[float], Tensor]:
    """50 steps of gradient descent on random data; the loss of each, and the outputs in evaluation mode afterwards."""
    torch.manual_seed(1)
    network = model(name, **options).double()
    language = name in ("rnn", "gru", "lstm", "gpt")
    generator = torch.Generator().manual_seed(2)
    inputs = (
        torch.randint(7, (8, 6), generator=generator)
        if language
        else torch.rand(8, 1, 14, 14, generator=generator, dtype=torch.float64)
    )
    targets = torch.randint(7 if language else 3, (8, 6) if language else (8,), generator=generator)
    optimizer = OPTIMIZERS.build(SGD, network.named_parameters())
    curve = []
    with layers_of(layers):
        for _ in range(50):
            outputs = network(inputs)
            loss = F.cross_entropy(outputs.movedim(-1, 1), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        network.eval()
        with torch.no_grad():
            return curve, network(inputs)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"hidden_sizes": [16, 8], "dropout": 0.3}),
    ("lenet", {"activation": "tanh", "pooling": "average"}),
    ("lenet", {"activation": "prelu"}),
    ("residual", {}),
    ("resnet18_cifar", {"stages": [[1, 8], [1, 16]]}),
    ("rnn", {"hidden_size": 12}),
    ("gru", {"hidden_size": 12}),
    ("lstm", {"hidden_size": 12, "num_layers": 2, "dropout": 0.2, "embedding_size": 5}),
    ("gpt", {"hidden_size": 12, "num_heads": 2, "num_layers": 2, "dropout": 0.2}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_curve_equals_torchs(name: str, options: dict[str, Any]) -> None:
    """Dropout included: the masks are the same numbers of the same generator."""
    ours, theirs = (losses(layers, name, options) for layers in ("scratch", "torch"))
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert theirs[0][-1] < theirs[0][0]
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5, rtol=1e-5)


def test_trains_through_the_trainer(tmp_path: Path) -> None:
    """The same run with either layers: equal metrics, and an evaluation of the saved run on the hand-written ones."""
    metrics = []
    for layers in ("scratch", "torch"):
        overrides = ["data=digits", "trainer.max_steps=40", f"run_dir={tmp_path}", f"layers={layers}"]
        run = dlcli.train([*overrides, "model.dropout=0.2", "trainer.precision=fp64"])
        metrics.append(run.summary["metrics"]["val"])
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-9)
    saved = dlcli.load_run(next(tmp_path.iterdir()))
    assert saved.evaluate("val")["accuracy"] == pytest.approx(metrics[0]["accuracy"])


def test_what_scratch_cannot_do_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["data=digits", "layers=scratch", "trainer.precision=bf16", "trainer.compile=true"])
    assert caught.value.problems == [
        "trainer.precision=bf16: layers=scratch computes in fp32 or fp64; use one of them",
        "trainer.compile=true: layers=scratch is not compiled; use trainer.compile=false",
    ]
