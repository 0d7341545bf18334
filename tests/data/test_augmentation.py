"""Random changes of training pictures: drawn from seed, epoch and batch, right on average, and only in training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dlcli.check import check
from dlcli.config import compose
from dlcli.data.augmentation import Augmentation, Draws
from dlcli.data.base import generator
from dlcli.data.digits import Digits
from dlcli.errors import ConfigError
from dlcli.hyperparameters import AUGMENTATIONS
from dlcli.tasks.classification import LOSSES

ALL = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "crop_padding": 2,
    "resized_crop": (0.3, 1.0, 0.75, 1.33),
    "rotation": 20.0,
    "translation": 0.1,
    "scale": (0.9, 1.1),
    "shear": 10.0,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.1,
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}


def pixels(count=64, channels=3, side=8):
    return torch.randint(256, (count, channels, side, side), generator=torch.Generator().manual_seed(1)).byte()


def batch(options, images, seed=0, labels=None, classes=4):
    labels = torch.arange(len(images)) % classes if labels is None else labels
    made = Augmentation(options, tuple(images.shape[1:]), 255.0, classes)
    return made.batch(images, labels, lambda values: values / 255, generator(seed))


def digits(**changes):
    options = {"val_fraction": 0.1, "test_fraction": 0.2, "split_seed": 0, "normalize": True, "resize": None}
    return Digits(batch_size=32, folds=None, fold=0, **options, **changes)


def test_every_named_change_is_tested_here():
    assert set(ALL) == set(AUGMENTATIONS)


@pytest.mark.parametrize("name", ALL)
def test_a_change_is_a_pure_function_of_its_numbers(name):
    first, again, other = (batch({name: ALL[name]}, pixels(), seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (64, 3, 8, 8)
    assert first.images.isfinite().all()


def test_all_changes_together():
    found = batch(ALL, pixels())
    assert found.images.min() >= -1e-3
    assert found.images.max() <= 1.001
    torch.testing.assert_close(found.labels.sum(1), torch.ones(64))


def test_only_training_batches_are_changed_and_each_in_its_own_way():
    plain, changed = digits(augmentation=None), digits(augmentation={"crop_padding": 2})
    for split in ("train", "val", "test"):
        both = [data.batches(split, order="sequential")[0].images for data in (plain, changed)]
        assert torch.equal(*both)
    assert not plain.augmenting
    shuffled = changed.batches("train", order="shuffled", seed=3, epoch=1)
    assert torch.equal(shuffled[2].images, changed.batches("train", order="shuffled", seed=3, epoch=1)[2].images)
    original = plain.batches("train", order="shuffled", seed=3, epoch=1)[2]
    assert torch.equal(shuffled[2].labels, original.labels)
    assert not torch.equal(shuffled[2].images, original.images)


def test_changes_of_no_effect_leave_the_bits_alone():
    plain = digits(augmentation=None).batches("train", order="shuffled", seed=1)[0]
    still = digits(augmentation={"horizontal_flip": 0.0, "erasing": 0.0}).batches("train", order="shuffled", seed=1)[0]
    assert torch.equal(plain.images, still.images)


def test_flips_happen_as_often_as_they_should():
    image = torch.arange(16).view(1, 1, 4, 4).byte().expand(4000, 1, 4, 4)
    found = batch({"horizontal_flip": 0.3, "vertical_flip": 0.8}, image).images * 255
    corner = found[:, 0, 0, 0].round()
    shares = [float((corner == value).float().mean()) for value in (0, 3, 12, 15)]
    assert shares == pytest.approx([0.7 * 0.2, 0.3 * 0.2, 0.7 * 0.8, 0.3 * 0.8], abs=0.03)


def test_crops_reach_every_place_equally_often():
    image = torch.zeros(8100, 1, 3, 3, dtype=torch.uint8)
    image[:, 0, 1, 1] = 255
    found = batch({"crop_padding": 1}, image).images
    torch.testing.assert_close(found.mean((0, 1)), torch.full((3, 3), 1 / 9), rtol=0, atol=0.015)


def test_erased_areas_are_of_the_papers_size():
    found = batch({"erasing": 0.6}, torch.full((3000, 3, 32, 32), 255, dtype=torch.uint8)).images
    erased = (found[:, 0] == 0).float().mean((1, 2))
    assert float((erased > 0).float().mean()) == pytest.approx(0.6, abs=0.03)
    hit = erased[erased > 0]
    assert hit.min() >= 0.015
    assert hit.max() <= 0.37
    assert float(hit.mean()) == pytest.approx(0.17, abs=0.02)


def test_shares_of_mixed_pictures_are_those_of_their_labels():
    """Pictures that are one-hot themselves: what is seen of each class is what its label says."""
    labels = torch.arange(40) % 4
    images = (F.one_hot(labels, 4) * 255).byte().view(40, 4, 1, 1).expand(40, 4, 16, 16)
    seen = set()
    for name in ("mixup", "cutmix"):
        for seed in range(5):
            found = batch({name: 1.0}, images, seed, labels)
            torch.testing.assert_close(found.images.mean((2, 3)), found.labels, rtol=0, atol=1e-5)
            seen.add(round(float(found.labels.max(1).values.min()), 3))
            is_mixture = ((found.images > 0.01) & (found.images < 0.99)).any()
            assert bool(is_mixture) == (name == "mixup")
    assert len(seen) > 5


def test_mixing_shares_have_the_beta_distribution():
    draw = Draws(generator(0), 1, torch.device("cpu"))
    values = torch.tensor([draw.beta(0.5) for _ in range(4000)])
    assert float(values.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(values.var()) == pytest.approx(1 / 8, abs=0.01)  # 1 / (4 (2 alpha + 1))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_shares_agree_with_those_of_labels(loss):
    outputs, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 2])
    torch.testing.assert_close(LOSSES[loss](outputs, F.one_hot(labels, 4).float()), LOSSES[loss](outputs, labels))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"hue": 0.1}, (1, 8, 8), "data.augmentation.hue changes colours, and the pictures are grey; leave it out"),
        ({"crop_padding": 9}, (1, 8, 8), "data.augmentation.crop_padding=9: expected at most the side of .* 8×8"),
        ({"scale": (1.2, 0.9)}, (3, 8, 8), r"data.augmentation.scale=\[1.2, 0.9\]: a lower bound is above its upper"),
        ({"resized_crop": (0.1, 1, 2, 1)}, (3, 8, 8), "data.augmentation.resized_crop=.*: a lower bound is above"),
    ],
)
def test_changes_that_the_pictures_do_not_allow_are_refused(options, shape, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(options, shape, 255.0, 10)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.augmentation.horizontl_flip=0.5", "unknown option 'data.augmentation.horizontl_flip'; did you mean "),
        ("data.augmentation.horizontal_flip=2", "data.augmentation.horizontal_flip=2: expected a number at least 0"),
        ("data.augmentation=strong", "data.augmentation=strong: expected a mapping of horizontal_flip, "),
        ("data.augmentation={mixup: yes}", "data.augmentation.mixup=.*: expected a number greater than 0"),
    ],
)
def test_mistakes_in_the_configuration_are_found_before_anything_is_loaded(override, message):
    with pytest.raises(ConfigError, match=message):
        compose(["data=digits", override])


def test_the_configuration_names_changes_singly_or_together():
    composed = compose(["data=digits", "data.augmentation.crop_padding=2", "data.augmentation.mixup=null"])
    assert composed.config["data"]["augmentation"] == {"crop_padding": 2, "mixup": None}
    assert check(composed.config, composed.choices, []) == []
    together = compose(["data=digits", "data.augmentation={horizontal_flip:0.5,scale:[0.9,1.1]}"])
    assert together.config["data"]["augmentation"] == {"horizontal_flip": 0.5, "scale": [0.9, 1.1]}


def test_texts_are_not_augmented():
    with pytest.raises(ConfigError, match="unknown option 'data.augmentation' of data 'shakespeare'"):
        compose(["data=shakespeare", "data.augmentation.horizontal_flip=0.5"])
