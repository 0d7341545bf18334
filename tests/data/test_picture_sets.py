"""Published sets of pictures: CIFAR-10 from its binary archive, and those that are read as a person's own pictures."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dlcli import train
from dlcli.cli.main import app
from dlcli.config import compose
from dlcli.data import sources
from dlcli.data.cifar10 import CIFAR10_CLASSES, FOLDER, TRAINING, read_records
from dlcli.data.download import fetch, fetch_folder, located
from dlcli.data.images import IMAGENET_DEVIATION, IMAGENET_MEAN, normalisation
from dlcli.data.picture_files import table_at
from dlcli.errors import ConfigError, DataError
from dlcli.registry import DATA
from dlcli.saved_run import Predictions, SavedRun

PER_FILE = 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("own-cache")
    monkeypatch.setenv("DLCLI_CACHE", str(folder))
    return folder


def load(*options: str):
    return DATA.build(compose(list(options)).config["data"])


def in_mirror(monkeypatch, folder: Path, name: str, contents: dict[str, bytes]) -> None:
    """Let a mirror folder hold these files as those of a data set."""
    files = []
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        files.append(sources.RemoteFile(path, hashlib.sha256(content).hexdigest(), len(content), ()))
    known = sources.SOURCES[name]
    monkeypatch.setitem(sources.SOURCES, name, sources.Dataset("small", known.homepage, known.licence, tuple(files)))
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(folder))


# ------------------------------------------------------------------ CIFAR-10


def records(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    return np.arange(PER_FILE) % 10, random.randint(0, 256, (PER_FILE, 3, 32, 32))


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """A tiny archive in the layout of the real one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for seed, name in enumerate([*TRAINING, "test_batch.bin"]):
            labels, pixels = records(seed)
            content = np.concatenate([labels[:, None], pixels.reshape(PER_FILE, -1)], 1).astype(np.uint8).tobytes()
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    in_mirror(monkeypatch, tmp_path / "mirror", "cifar10", {"cifar10/cifar-10-binary.tar.gz": packed.getvalue()})


@pytest.mark.usefixtures("small_cifar10")
def test_cifar10_is_read_from_its_records():
    data = load("data=cifar10", "data.val_size=0", "data.normalize=false", "data.batch_size=100")
    assert data.spec.defined() == {"input_shape": (3, 32, 32), "num_outputs": 10, "num_classes": 10}
    assert data.label_names == CIFAR10_CLASSES
    assert data.source == "mirror"
    train_images = np.concatenate([records(seed)[1] for seed in range(5)])
    batch = data.batches("train", order="sequential")[0]
    torch.testing.assert_close(batch.images, torch.from_numpy(train_images).float() / 255)
    assert batch.labels.tolist() == [index % 10 for index in range(100)]
    tested = data.batches("test", order="sequential")[0]
    torch.testing.assert_close(tested.images, torch.from_numpy(records(5)[1]).float() / 255)
    assert torch.equal(data.batches("val", order="sequential")[0].images, tested.images)


@pytest.mark.usefixtures("small_cifar10")
def test_cifar10_has_the_options_of_published_pictures():
    data = load("data=cifar10", "data.val_size=30", "data.train_size=50", "data.classes=[3,5]", "data.resize=16")
    assert data.label_names == ["cat", "dog"]
    assert data.spec.input_shape == (3, 16, 16)
    images, labels = data.batches("train", order="shuffled")[0]
    assert images.shape == (len(labels), 3, 16, 16)
    assert labels.unique().tolist() == [0, 1]
    assert len(data.tensors["test"][0]) == 4


def test_damaged_records_are_named(tmp_path):
    file = tmp_path / "batch.bin"
    file.write_bytes(bytes(3073 * 2 - 1))
    with pytest.raises(DataError, match=r"batch.bin: 6,145 bytes; expected a multiple of 3,073"):
        read_records(file, 10)
    file.write_bytes(bytes(3073) + b"\x0b" + bytes(3072))
    with pytest.raises(DataError, match=r"label 11 of picture 1; expected 0 to 9"):
        read_records(file, 10)
    with pytest.raises(DataError, match=r"none.bin: cannot be read \(No such file or directory\)"):
        read_records(tmp_path / "none.bin", 10)


# ------------------------------------------------------------------ normalisation


def test_each_channel_has_mean_0_and_deviation_1():
    pixels = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8)
    pixels[:, 1] //= 4
    rows = torch.arange(0, 50, 2)
    mean, deviation = normalisation(pixels, "per_channel", 255, rows)
    chosen = pixels[rows].double()
    np.testing.assert_allclose(mean, chosen.mean((0, 2, 3)).numpy())
    np.testing.assert_allclose(deviation, chosen.std((0, 2, 3), correction=0).numpy())
    whole = normalisation(pixels, True, 255)
    np.testing.assert_allclose(whole, [[pixels.double().mean()], [pixels.double().std(correction=0)]])


@pytest.mark.usefixtures("small_cifar10")
def test_pictures_are_standardised_channel_by_channel():
    data = load("data=cifar10", "data.val_size=0", "data.normalize=per_channel", "data.batch_size=100")
    images = data.batches("train", order="sequential")[0].images
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3))
    plain = load("data=cifar10", "data.val_size=0", "data.normalize=false", "data.batch_size=100")
    other = load("data=cifar10", "data.val_size=0", "data.normalize=imagenet", "data.batch_size=100")
    expected = plain.batches("train", order="sequential")[0].images
    expected = (expected - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1)
    torch.testing.assert_close(other.batches("train", order="sequential")[0].images, expected)


def test_numbers_of_imagenet_are_for_colours():
    with pytest.raises(ConfigError, match=r"data.normalize=imagenet: expected pictures of 3 channels, found 1; use"):
        load("data=digits", "data.normalize=imagenet")


# ------------------------------------------------------------------ read as a person's own pictures


def picture(seed: int, size: int = 32) -> bytes:
    file = io.BytesIO()
    pixels = np.random.RandomState(seed).randint(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def packed(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def small_kaggle(tmp_path, monkeypatch):
    """20 numbered pictures of two classes, and a table that also names pictures which are not there."""
    table = "id,label\n" + "".join(f"{number},{'frog' if number % 2 else 'ship'}\n" for number in range(1, 31))
    pictures = packed({f"train_tiny/{number}.png": picture(number) for number in range(1, 21)})
    contents = {
        "kaggle-cifar10-tiny/train_tiny.zip": pictures,
        "kaggle-cifar10-tiny/trainLabels.csv.zip": packed({"trainLabels.csv": table.encode()}),
    }
    in_mirror(monkeypatch, tmp_path / "mirror", "kaggle_cifar10_tiny", contents)


@pytest.mark.usefixtures("small_kaggle")
def test_a_table_of_labels_is_divided_by_class():
    data = load("data=kaggle_cifar10_tiny", "data.val_fraction=0.2")
    assert {split: len(rows) for split, (rows,) in data.tensors.items()} == {"train": 16, "val": 4}
    assert data.labels[data.tensors["val"][0]].bincount().tolist() == [2, 2]
    assert data.notes == ("10 names without a picture",)
    assert data.label_names == ["frog", "ship"]
    whole = load("data=kaggle_cifar10_tiny", "data.val_fraction=0")
    assert whole.splits == ("train", "val")
    assert {split: len(rows) for split, (rows,) in whole.tensors.items()} == {"train": 20, "val": 20}


@pytest.mark.usefixtures("small_kaggle")
def test_a_submission_names_numbers_and_labels(tmp_path):
    run = train(
        [
            *("data=kaggle_cifar10_tiny", "data.val_fraction=0", "model=linear", f"run_dir={tmp_path / 'runs'}"),
            *("trainer.max_epochs=null", "trainer.max_steps=2", "trainer.eval_every=null"),
        ]
    )
    (tmp_path / "test").mkdir()
    for number in (3, 12):
        (tmp_path / "test" / f"{number}.png").write_bytes(picture(100 + number))
    output = tmp_path / "submission.csv"
    options = ["predict", str(run.directory), "--input", str(tmp_path / "test"), "--output", str(output)]
    assert CliRunner().invoke(app, options, catch_exceptions=False).exit_code == 0
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows[0] == ["id", "label"]
    assert sorted(row[0] for row in rows[1:]) == ["12", "3"]
    assert {row[1] for row in rows[1:]} <= {"frog", "ship"}


def test_a_folder_of_dogs_and_a_table_of_breeds(tmp_path):
    """Kaggle's layout: train/ID.jpg, test/ID.jpg, labels.csv; a submission has the probability of each breed."""
    breeds = ("beagle", "collie", "pug")
    for folder, count in (("train", 12), ("test", 4)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{folder[1]}{number}.png").write_bytes(picture(number, 20))
    table = "id,breed\n" + "".join(f"r{number},{breeds[number % 3]}\n" for number in range(12))
    (tmp_path / "labels.csv").write_text(table)
    run = train(
        [
            *("data=kaggle_dog", f"data.path={tmp_path}", f"data.labels={tmp_path / 'labels.csv'}", "data.size=16"),
            *("model=linear", "trainer.max_epochs=null", "trainer.max_steps=2", f"run_dir={tmp_path / 'runs'}"),
        ]
    )
    assert run.data.label_names == list(breeds)
    assert run.data.notes == ("4 pictures without a label, left out",)
    (batch,) = Predictions([SavedRun(run.directory)], tmp_path / "test")
    assert list(batch) == ["id", *breeds]
    assert batch["id"] == ["e0", "e1", "e2", "e3"]
    assert sum(batch[breed][0] for breed in breeds) == pytest.approx(1.0)


def test_paths_of_published_data(tmp_path, monkeypatch):
    in_mirror(monkeypatch, tmp_path, "hotdog", {"hotdog/train/a.png": picture(1)})
    assert located("published:hotdog") == (tmp_path / "hotdog", "mirror")
    assert located("published:hotdog/a.png") == (tmp_path / "hotdog/train/a.png", "mirror")
    assert located(f"{tmp_path}") == (tmp_path, "own file")
    with pytest.raises(ConfigError, match="published:hotdg: no published data 'hotdg'; did you mean hotdog"):
        located("published:hotdg")
    with pytest.raises(ConfigError, match=r"published:hotdog/b.png: data 'hotdog' have no such file; did you mean a.p"):
        located("published:hotdog/b.png")


def test_the_target_of_a_published_table_is_looked_at(tmp_path, monkeypatch):
    table = b"size,price\n" + b"".join(b"%d,%d.5\n" % (row, 7 * row) for row in range(40))
    in_mirror(monkeypatch, tmp_path, "kaggle_house", {"kaggle-house/houses.csv": table})
    own = ["data=csv", "data.path=published:kaggle_house/houses.csv", "data.target=price"]
    composed = compose(own)
    assert (composed.choices["task"], composed.choices["trainer"]) == ("regression", "minibatch_small_data")
    assert composed.config["data"]["target_type"] == "number"
    (tmp_path / "kaggle-house/houses.csv").unlink()
    assert compose([*own, "data.target_type=number"]).choices["task"] == "regression"
    assert compose(["data=kaggle_house"]).choices["trainer"] == "minibatch_small_data"


def test_an_archive_of_labels_holds_one_table(tmp_path):
    (tmp_path / "labels.tgz").write_bytes(packed({"a.csv": b"1,2\n", "b.csv": b"1,2\n"}))
    with pytest.raises(DataError, match=r"labels.tgz: 2 CSV files in the archive; expected one, of names and labels"):
        table_at(tmp_path / "labels.tgz")


def test_an_archive_with_splits(tmp_path, monkeypatch):
    members = {
        f"cifar10/{split}/{name}/{number:04}.png": picture(number)
        for split, count in (("train", 10), ("test", 3))
        for name in ("cat", "dog")
        for number in range(count)
    }
    in_mirror(monkeypatch, tmp_path, "cifar10_jpg", {"cifar10-jpg/cifar10-jpg-subset.tar.gz": packed(members)})
    data = load("data=cifar10_jpg", "data.val_fraction=0")
    assert {split: len(rows) for split, (rows,) in data.tensors.items()} == {"train": 20, "val": 6, "test": 6}
    assert torch.equal(data.tensors["val"][0], data.tensors["test"][0])
    assert len(load("data=cifar10_jpg").tensors["val"][0]) == 2
    assert data.spec.input_shape == (3, 32, 32)
    assert data.source == "mirror"


def test_a_folder_of_verified_files(tmp_path, monkeypatch):
    contents = {
        f"hotdog/{split}/{name}/{number}.png": picture(number, 40)
        for split in ("train", "test")
        for name in ("hot_dog", "not_hot_dog")
        for number in range(5)
    }
    in_mirror(monkeypatch, tmp_path, "hotdog", contents)
    data = load("data=hotdog", "data.size=24", "data.val_fraction=0", "data.batch_size=4")
    assert data.label_names == ["hot_dog", "not_hot_dog"]
    assert data.batches("train", order="shuffled")[0].images.shape == (4, 3, 24, 24)
    (tmp_path / "hotdog/test/hot_dog/3.png").write_bytes(b"another picture")
    with pytest.raises(
        DataError, match=r"3.png cannot be downloaded \(nobody publishes it in this form\); set DLCLI_DATA_MIRR"
    ):
        fetch_folder("hotdog")


def test_files_in_two_places_are_no_folder(tmp_path, monkeypatch, own_cache):
    contents = {"hotdog/train/a.png": picture(1), "hotdog/train/b.png": picture(2)}
    in_mirror(monkeypatch, tmp_path, "hotdog", contents)
    assert fetch_folder("hotdog") == (tmp_path / "hotdog", "mirror")
    cached = own_cache / "data" / "hotdog/train/a.png"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(contents["hotdog/train/a.png"])
    with pytest.raises(DataError, match=r"hotdog: its files are spread over .* and .*; put them into one"):
        fetch_folder("hotdog")


def test_what_nobody_publishes_comes_from_a_mirror(monkeypatch):
    monkeypatch.delenv("DLCLI_DATA_MIRROR", raising=False)
    with pytest.raises(
        DataError, match=r"subset.tar.gz cannot be downloaded \(nobody publishes it in this form\); set"
    ):
        fetch(sources.SOURCES["cifar10_jpg"].files[0])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("cifar10_jpg", {"train": 13_500, "val": 1_500, "test": 3_000}),
        ("hotdog", {"train": 126, "val": 14, "test": 60}),
        ("kaggle_cifar10_tiny", {"train": 90, "val": 10}),
    ],
)
@pytest.mark.slow
@pytest.mark.usefixtures("mirror")
def test_the_real_pictures(name, sizes):
    data = load(f"data={name}")
    assert {split: len(rows) for split, (rows,) in data.tensors.items()} == sizes
