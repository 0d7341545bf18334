"""IDX files, pictures as batches, and the real data sets where their files are at hand."""

from __future__ import annotations

import gzip
import importlib.machinery
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dlcli.data import digits, published_pictures
from dlcli.data.digits import Digits
from dlcli.data.idx import read_idx
from dlcli.data.images import ImageData, pixel_statistics
from dlcli.data.mnist import FashionMnist, Mnist
from dlcli.errors import ConfigError, DataError

MIRROR = Path(os.environ.get("DLCLI_DATA_MIRROR", "nowhere"))
FOLDS = {"folds": None, "fold": 0}
LABELS = {"classes": None, "class_shares": None, "brightness_shift": 0.0, "label_noise": 0.0}
SIZES = {"batch_size": 32, "train_size": None, "per_class": None, "val_size": 20, "split_seed": 0}
OPTIONS = {**SIZES, **FOLDS, **LABELS, "normalize": True, "resize": None, "augmentation": None}


def idx(values, *, magic=None):
    """The IDX bytes of a uint8 tensor."""
    shape = values.shape
    magic = 0x0800 | len(shape) if magic is None else magic
    return struct.pack(f">I{len(shape)}I", magic, *shape) + values.numpy().tobytes()


def pictures(count, seed=0):
    return torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_is_read(tmp_path, pack):
    values = pictures(5)
    file = tmp_path / "images"
    file.write_bytes(pack(idx(values)))
    assert torch.equal(read_idx(file, 3), values)
    assert read_idx(file, 3).dtype == torch.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes, inside the header of 16 bytes"),
        (idx(pictures(2))[:9], "ends after 9 bytes, inside the header of 16 bytes"),
        (idx(pictures(2))[:-1], r"its header says \(2, 28, 28\), 1,568 bytes, but 1,567 follow"),
        (idx(pictures(2)) + b"x", r"\(2, 28, 28\), 1,568 bytes, but more follow"),
        (idx(torch.zeros(3, dtype=torch.uint8)) + bytes(20), "magic number 0x00000801, expected 0x00000803"),
        (idx(pictures(2), magic=0x0D03), "magic number 0x00000d03, expected 0x00000803"),
        (b"<!DOCTYPE html><html>not found</html>", "magic number 0x3c21444f, expected 0x00000803"),
        (struct.pack(">4I", 0x0803, 2**31, 2**31, 2**31), "its header says .* bytes; expected 1 to"),
        (struct.pack(">4I", 0x0803, 0, 28, 28), r"its header says \(0, 28, 28\), 0 bytes; expected 1"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_damaged_idx_files_are_named(tmp_path, content, message, pack):
    file = tmp_path / "bad-idx3-ubyte"
    file.write_bytes(pack(content))
    with pytest.raises(DataError, match=message) as caught:
        read_idx(file, 3)
    assert "bad-idx3-ubyte" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-30], lambda raw: raw[:200] + b"\xff" * 50 + raw[250:]])
def test_damaged_gzip_is_named(tmp_path, damage):
    file = tmp_path / "bad.gz"
    file.write_bytes(damage(gzip.compress(idx(pictures(4)))))
    with pytest.raises(DataError, match=r"bad.gz: (the gzip data are truncated or damaged|cannot be read)"):
        read_idx(file, 3)


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.gz: cannot be read \(No such file or directory\)"):
        read_idx(tmp_path / "none.gz", 3)


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Replaces the four files: 100 pictures and 10 to test, with all ten labels."""
    contents = [
        idx(pictures(100)),
        idx(torch.arange(100, dtype=torch.uint8) % 10),
        idx(pictures(10, seed=1)),
        idx(torch.arange(10, dtype=torch.uint8)),
    ]
    paths = [tmp_path / f"file{index}" for index in range(4)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    monkeypatch.setattr(published_pictures, "fetch_all", lambda _: (paths, "mirror"))
    return paths


@pytest.mark.usefixtures("small_mnist")
def test_training_pictures_are_split():
    data = Mnist(**OPTIONS)
    assert {split: len(tensors[0]) for split, tensors in data.tensors.items()} == {"train": 80, "val": 20, "test": 10}
    assert data.spec.defined() == {"input_shape": (1, 28, 28), "num_outputs": 10, "num_classes": 10}
    assert list(data.label_names) == [str(digit) for digit in range(10)]
    rows = torch.cat([data.tensors["train"][0], data.tensors["val"][0]]).flatten(1).unique(dim=0)
    assert torch.equal(rows, pictures(100).flatten(1).unique(dim=0))
    again = Mnist(**OPTIONS)
    other = Mnist(**{**OPTIONS, "split_seed": 1})
    assert torch.equal(again.tensors["val"][0], data.tensors["val"][0])
    assert not torch.equal(other.tensors["val"][0], data.tensors["val"][0])
    assert again.fingerprint == data.fingerprint
    assert data.source == "mirror"


@pytest.mark.usefixtures("small_mnist")
def test_labels_stay_with_their_pictures():
    label_of = {picture.numpy().tobytes(): index % 10 for index, picture in enumerate(pictures(100))}
    data = FashionMnist(**OPTIONS)
    for split in ("train", "val"):
        for picture, label in zip(*data.tensors[split], strict=True):
            assert label_of[picture.numpy().tobytes()] == int(label)
    assert data.label_names[9] == "ankle boot"


@pytest.mark.usefixtures("small_mnist")
def test_without_a_validation_part_the_test_pictures_validate():
    data = Mnist(**{**OPTIONS, "val_size": 0})
    assert len(data.tensors["train"][0]) == 100
    assert torch.equal(data.tensors["val"][0], data.tensors["test"][0])


@pytest.mark.usefixtures("small_mnist")
def test_the_first_training_pictures_alone():
    data = Mnist(**{**OPTIONS, "train_size": 30, "val_size": 0})
    assert torch.equal(data.tensors["train"][0], pictures(100)[:30].unsqueeze(1))
    assert data.tensors["train"][1].tolist() == [index % 10 for index in range(30)]
    both = Mnist(**{**OPTIONS, "train_size": 30})
    assert torch.equal(both.tensors["train"][0], Mnist(**OPTIONS).tensors["train"][0][:30])
    with pytest.raises(ConfigError, match=r"data.train_size=81: expected at most 80"):
        Mnist(**{**OPTIONS, "train_size": 81})


@pytest.mark.usefixtures("small_mnist")
def test_nothing_to_train_on_is_refused():
    with pytest.raises(ConfigError, match=r"data.val_size=100: expected less than the 100 training pictures"):
        Mnist(**{**OPTIONS, "val_size": 100})


def test_labels_must_fit_the_pictures(small_mnist):
    small_mnist[1].write_bytes(idx(torch.zeros(99, dtype=torch.uint8)))
    with pytest.raises(DataError, match="file1: 99 labels for 100 pictures"):
        Mnist(**OPTIONS)
    labels = torch.zeros(100, dtype=torch.uint8)
    labels[7] = 10
    small_mnist[1].write_bytes(idx(labels))
    with pytest.raises(DataError, match="file1: label 10 of picture 7; expected 0 to 9"):
        Mnist(**OPTIONS)


@pytest.mark.usefixtures("small_mnist")
def test_normalised_pixels_have_mean_0_and_deviation_1():
    data = Mnist(**OPTIONS)
    batches = data.batches("train", order="sequential")
    images = torch.cat([batches[index].images for index in range(len(batches))])
    assert images.dtype == torch.float32
    assert images.shape == (80, 1, 28, 28)
    assert abs(float(images.mean())) < 1e-5
    assert float(images.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.usefixtures("small_mnist")
def test_plain_pixels_are_between_0_and_1():
    data = Mnist(**{**OPTIONS, "normalize": False})
    batch = data.batches("test", order="sequential")[0]
    assert torch.allclose(batch.images, pictures(10, seed=1).unsqueeze(1) / 255)
    assert torch.equal(batch.labels, torch.arange(10))


@pytest.mark.usefixtures("small_mnist")
def test_resizing_changes_the_shape():
    data = Mnist(**{**OPTIONS, "resize": 14})
    batch = data.batches("train", order="shuffled", seed=1)[0]
    assert data.spec.input_shape == (1, 14, 14) == batch.images.shape[1:]
    plain = Mnist(**OPTIONS).batches("train", order="shuffled", seed=1)[0]
    assert torch.equal(batch.labels, plain.labels)
    assert torch.allclose(batch.images[:, :, 3:11, 3:11].mean(), F.avg_pool2d(plain.images, 2).mean(), atol=0.05)


def test_pixel_statistics_are_exact():
    images = pictures(64)
    mean, deviation = pixel_statistics(images)
    assert mean == pytest.approx(float(images.double().mean()))
    assert deviation == pytest.approx(float(images.double().std(correction=0)))
    assert pixel_statistics(torch.full((10, 1, 2, 2), 9, dtype=torch.uint8)) == (9.0, 1.0)


DIGITS = {
    **FOLDS,
    "augmentation": None,
    "batch_size": 32,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "split_seed": 0,
    "normalize": False,
    "resize": None,
}


def test_digits_come_with_the_classes_in_equal_shares():
    data = Digits(**DIGITS)
    assert isinstance(data, ImageData)
    sizes = {split: len(tensors[0]) for split, tensors in data.tensors.items()}
    assert sizes == {"train": 1257, "val": 180, "test": 360}
    for _, labels in data.tensors.values():
        shares = labels.bincount(minlength=10) / len(labels)
        assert float(shares.max() - shares.min()) < 0.025
    batch = data.batches("train", order="shuffled", seed=1)[0]
    assert batch.images.shape == (32, 1, 8, 8)
    assert float(batch.images.max()) == 1
    assert data.source == "packaged"
    assert torch.equal(Digits(**DIGITS).tensors["test"][1], data.tensors["test"][1])


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    pixels, labels = digits.read()
    expected = load_digits()
    assert np.array_equal(pixels.reshape(-1, 8, 8), expected.images)
    assert np.array_equal(labels, expected.target)


def test_digits_need_no_import_of_scikit_learn():
    code = "import sys; from dlcli.data import digits; digits.read(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"digits.csv.gz: cannot be read \(.*; install scikit-learn again"),
        (b"no gzip", r"digits.csv.gz: cannot be read \(.*; install scikit-learn again"),
        (gzip.compress(b"1,2,3"), "digits.csv.gz: not the digits that are known"),
        (gzip.compress(bytes(10**7)), "digits.csv.gz: not the digits that are known"),
    ],
    ids=["missing", "no gzip", "other digits", "much larger"],
)
def test_other_digits_are_refused(tmp_path, monkeypatch, content, message):
    (tmp_path / "sklearn" / "datasets" / "data").mkdir(parents=True)
    (tmp_path / "sklearn" / "__init__.py").touch()
    if content is not None:
        (tmp_path / "sklearn" / "datasets" / "data" / "digits.csv.gz").write_bytes(content)
    spec = importlib.machinery.PathFinder.find_spec("sklearn", [str(tmp_path)])
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match=message):
        digits.read()


def test_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="scikit-learn is not installed.*pip install scikit-learn"):
        digits.read()


def test_digits_need_something_to_train_on():
    with pytest.raises(ConfigError, match=r"expected a sum of at most 0.9"):
        Digits(**{**DIGITS, "val_fraction": 0.5, "test_fraction": 0.5})


@pytest.mark.skipif(not (MIRROR / "mnist").is_dir(), reason="DLCLI_DATA_MIRROR has no mnist")
def test_the_real_mnist():
    data = Mnist(**{**OPTIONS, "val_size": 5000})
    assert len(data.tensors["train"][0]) == 55_000
    assert data.tensors["test"][1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.source == "mirror"


@pytest.mark.skipif(not (MIRROR / "fashion-mnist").is_dir(), reason="DLCLI_DATA_MIRROR has no fashion-mnist")
def test_the_real_fashion_mnist():
    data = FashionMnist(**{**OPTIONS, "val_size": 0})
    assert data.tensors["train"][1].bincount().tolist() == [6000] * 10
    assert data.tensors["train"][1][:3].tolist() == [9, 0, 0]


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize(("resize", "evaluated"), [(None, 512), (64, 512), (96, 227), (1448, 8)])
def test_large_pictures_are_measured_in_smaller_batches(resize, evaluated):
    data = Mnist(**{**OPTIONS, "batch_size": 8, "resize": resize})
    assert data.batches("val", order="sequential").batch_size == evaluated
    assert data.batches("train", order="sequential").batch_size == 8
    assert data.tensors["train"][0].shape[2:] == (28, 28)  # resized batch by batch, not stored so
