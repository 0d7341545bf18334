"""Weights for covariate and label shift: against ratios that are known, and by what they do to a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dlcli import train
from dlcli.data.labels import shifted
from dlcli.errors import ConfigError
from dlcli.tasks.classification import Classification
from dlcli.tasks.distribution_shift import CovariateWeights, LabelWeights

CLASSES = ["a", "b", "c"]
CENTRES = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])


def drawn(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (N, 2) around the centres of three classes, and their labels."""
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    return CENTRES[labels] + torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(seed)), labels


def test_weights_of_inputs_are_the_ratio_of_two_normal_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    source, target = torch.randn(8000, 2, generator=random), torch.randn(8000, 2, generator=random) + 0.5
    weights = CovariateWeights(source, target, largest=50.0)
    exact = (0.5 * source.sum(1) - 0.25).exp()  # log N(x; 0.5, I) - log N(x; 0, I)
    torch.testing.assert_close(weights(source, source), exact, rtol=0.2, atol=0.0)
    assert float(weights(source, source).mean()) == pytest.approx(1.0, abs=1e-4)
    assert float(CovariateWeights(source, target, largest=1.5)(source, source).max()) == pytest.approx(1.5)


def test_without_a_shift_all_weights_are_about_one() -> None:
    random = torch.Generator().manual_seed(1)
    source, target = torch.randn(5000, 3, generator=random), torch.randn(5000, 3, generator=random)
    weights = CovariateWeights(source, target, largest=10.0)(source, source)
    torch.testing.assert_close(weights, torch.ones(5000), rtol=0.0, atol=0.25)


def test_shares_of_classes_are_found_without_their_labels() -> None:
    inputs, labels = drawn([3000, 3000, 300], 0)
    target, _ = drawn([300, 1200, 1500], 1)
    found = LabelWeights(inputs, labels, target, CLASSES, largest=100.0)
    torch.testing.assert_close(found.shares, torch.tensor([0.1, 0.4, 0.5]).double(), rtol=0.0, atol=0.03)
    share = torch.tensor([3000, 3000, 300]) / 6300
    torch.testing.assert_close(found(inputs, labels), (found.shares.float() / share)[labels])
    mixed = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(found(inputs[:1], mixed), found.weights[:2].mean().unsqueeze(0))


def test_weights_are_exact_under_autocast() -> None:
    random = torch.Generator().manual_seed(2)
    source, target = torch.randn(1000, 200, generator=random), torch.randn(1000, 200, generator=random) + 0.2
    inputs, labels = drawn([300, 300, 300], 0)
    for weights, batch in (
        (CovariateWeights(source, target, largest=1000.0), (source, torch.zeros(1000))),
        (LabelWeights(inputs, labels, inputs[::2], CLASSES, largest=10.0), (inputs, torch.eye(3)[labels] * 0.9)),
    ):
        exact = weights(*batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(weights(*batch), exact, rtol=0.0, atol=0.0)


def test_classes_that_cannot_be_told_apart_are_refused() -> None:
    inputs, labels = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)), torch.arange(3000) % 3
    with pytest.raises(ConfigError, match=r"a linear classifier cannot tell the classes apart well enough"):
        LabelWeights(inputs, labels, inputs, CLASSES, largest=10.0)
    inputs, labels = drawn([100, 100, 1], 0)
    with pytest.raises(ConfigError, match=r"class 'c' has too few training examples to measure"):
        LabelWeights(inputs, labels, inputs, CLASSES, largest=10.0)


def table(file: Path, kind: str) -> None:
    """Rows whose part "test" is drawn differently from "train" and "val"; the classes are noisy."""
    random = torch.Generator().manual_seed(0)
    lines = ["x,class,part"]
    for part, count in (("train", 2000), ("val", 200), ("test", 2000)):
        shift = part == "test"
        if kind == "covariate":  # a line cannot be right for x < 0 and for x > 1 at once
            x = torch.randn(count, generator=random) * 0.5 + (1.2 if shift else 0.0)
            high = torch.rand(count, generator=random) < torch.where((x > 0) & (x < 1), 0.95, 0.05)
        else:
            high = torch.rand(count, generator=random) < (0.9 if shift else 0.1)
            x = torch.randn(count, generator=random) + 1.5 * high
        lines += [f"{value:.5f},{'high' if flag else 'low'},{part}" for value, flag in zip(x, high, strict=True)]
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["covariate", "label"])
def test_a_corrected_model_is_better_where_the_distribution_has_shifted(tmp_path: Path, kind: str) -> None:
    table(tmp_path / "table.csv", kind)
    options = [
        *("data=csv", f"data.path={tmp_path / 'table.csv'}", "data.target=class", "data.split_column=part"),
        *("model=linear", "optimizer=adam", "optimizer.lr=0.1", "trainer.max_epochs=4", "data.batch_size=100"),
        *("trainer.checkpoint_every=null", "trainer.log_every=null", f"run_dir={tmp_path}"),
    ]
    accuracy = {
        correction: train([*options, f"task.shift_correction={correction}"]).summary["metrics"]["test"]["accuracy"]
        for correction in ("null", kind)
    }
    assert accuracy[kind] > accuracy["null"] + 0.05


def test_options_that_do_not_go_together() -> None:
    options = {"label_smoothing": 0.0, "shift_split": "test", "max_weight": 10.0, "top_k": 2}
    with pytest.raises(ConfigError, match=r"task.class_weights and task.shift_correction both weigh examples"):
        Classification(loss="cross_entropy", class_weights="balanced", shift_correction="label", **options)
    with pytest.raises(ConfigError, match=r"task.shift_correction belongs to task.loss=cross_entropy, not to squared"):
        Classification(loss="squared_error", class_weights=None, shift_correction="label", **options)
    with pytest.raises(ConfigError, match=r"task.shift_split=tset: the data have train, val, test"):
        train(["data=digits", "model=linear", "task.shift_correction=label", "task.shift_split=tset"])


def test_training_pictures_are_left_out_at_random() -> None:
    labels = torch.arange(10_000) % 2
    images = torch.randint(0, 256, (10_000, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    kept, of = shifted(images, labels, [1.0, 0.2], 0.0, seed=0)
    assert of.bincount().tolist() == [5000, pytest.approx(1000, abs=100)]
    assert len(kept) == len(of)
    dark, _ = shifted(images, labels, None, 4.0, seed=0)
    bright, _ = shifted(images, labels, None, -4.0, seed=0)
    assert dark.float().mean() + 20 < images.float().mean() < bright.float().mean() - 20
    assert len(dark) == pytest.approx(5000, abs=200)
    with pytest.raises(ConfigError, match=r"data.class_shares: 1 numbers for 2 classes; give one for each"):
        shifted(images, labels, [1.0], 0.0, seed=0)
    with pytest.raises(ConfigError, match=r"data.class_shares=\[0.0, 0.0\]: no training picture is left"):
        shifted(images, labels, [0.0, 0.0], 0.0, seed=0)
