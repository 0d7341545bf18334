"""People's own pictures: every mode and size, splits, the cache, damage, and predictions on other pictures."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlcli.data import pixel_cache
from dlcli.data.decoding import Form, decode
from dlcli.data.image_folder import ImageFolder
from dlcli.errors import ConfigError, DataError

OPTIONS = {
    "labels": None,
    "size": 8,
    "resize": "squash",
    "channels": 3,
    "on_bad": "fail",
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "split_seed": 0,
    "folds": None,
    "fold": 0,
    "normalize": False,
    "augmentation": None,
    "submission": None,
    "batch_size": 4,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("own-cache")
    monkeypatch.setenv("DLCLI_CACHE", str(folder))
    return folder


def load(path: Path, **changes) -> ImageFolder:
    return ImageFolder(path=str(path), **(OPTIONS | changes))


def save(file: Path, colour=(255, 0, 0), size=(10, 6), **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, **options)
    return file


def fill(root: Path, classes=("cats", "dogs"), count: int = 10) -> Path:
    """Pictures of one colour; the class is in the red channel, the picture's number in the green one."""
    for label, name in enumerate(classes):
        for number in range(count):
            save(root / name / f"{number:03}.png", (label * 100, number, 0))
    return root


def sizes(data: ImageFolder) -> dict[str, int]:
    return {split: len(rows) for split, (rows,) in data.tensors.items()}


def everything(data: ImageFolder, split: str):
    batches = data.batches(split, order="sequential")
    parts = [batches[index] for index in range(len(batches))]
    return torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])


# ------------------------------------------------------------------ classes and splits


def test_a_folder_for_each_class(tmp_path):
    data = load(fill(tmp_path / "pictures"))
    assert sizes(data) == {"train": 12, "val": 4, "test": 4}
    assert data.spec.defined() == {"input_shape": (3, 8, 8), "num_outputs": 2, "num_classes": 2}
    assert data.label_names == ["cats", "dogs"]
    seen = set()
    for split in data.splits:
        images, labels = everything(data, split)
        assert labels.bincount().tolist() == [len(labels) // 2] * 2
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels * 100)
        seen |= {(int(label), round(float(image[1, 0, 0]) * 255)) for image, label in zip(images, labels, strict=True)}
    assert len(seen) == 20
    assert data.describe()["classes"] == "cats 10, dogs 10"


def test_splits_are_a_pure_function_of_the_seed(tmp_path):
    root = fill(tmp_path / "pictures")
    rows = load(root).tensors["val"][0].tolist()
    assert load(root).tensors["val"][0].tolist() == rows
    assert load(root, split_seed=1).tensors["val"][0].tolist() != rows
    assert load(root).fingerprint == load(root).fingerprint != load(root, split_seed=1).fingerprint
    assert set(sizes(load(root, test_fraction=0.0))) == {"train", "val"}


def test_folders_of_splits(tmp_path):
    for split, count in (("train", 5), ("valid", 3), ("test", 2)):
        fill(tmp_path / "pictures" / split, count=count)
    assert sizes(load(tmp_path / "pictures")) == {"train": 10, "val": 6, "test": 4}


def test_what_validates_is_drawn_where_there_is_no_folder_for_it(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "test", count=2)
    assert sizes(load(tmp_path)) == {"train": 16, "val": 4, "test": 4}


def test_each_picture_validates_in_one_fold(tmp_path):
    fill(tmp_path / "a", ("cats", "dogs", "mice"), count=11)
    whole = load(tmp_path / "a", test_fraction=0.1)
    folds = [load(tmp_path / "a", test_fraction=0.1, folds=4, fold=fold) for fold in range(4)]
    for data in folds:
        assert torch.equal(data.tensors["test"][0], whole.tensors["test"][0]), "as without folds"
        parts = [set(data.tensors[split][0].tolist()) for split in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 33
        assert set(data.labels[data.tensors["val"][0]].bincount().tolist()) <= {2, 3}, "classes in equal shares"
    validated = torch.cat([data.tensors["val"][0] for data in folds]).tolist()
    assert sorted([*validated, *whole.tensors["test"][0].tolist()]) == list(range(33))
    assert sorted(sizes(data)["val"] for data in folds) == [7, 7, 8, 8]
    assert len({data.fingerprint for data in folds}) == 4
    again = load(tmp_path / "a", test_fraction=0.1, folds=4, fold=2)
    assert again.fingerprint == folds[2].fingerprint
    assert load(tmp_path / "a", test_fraction=0.1, folds=4, fold=2, split_seed=1).fingerprint != again.fingerprint


def test_each_fold_is_standardised_by_its_own_training_pictures(tmp_path):
    fill(tmp_path / "a", count=60)
    folds = [load(tmp_path / "a", folds=3, fold=fold, test_fraction=0.0, normalize=True) for fold in range(3)]
    assert len({data.mean.item() for data in folds}) == 3
    for data in folds:
        images, _ = everything(data, "train")
        assert images.mean().item() == pytest.approx(0, abs=1e-5)
        assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_folds_leave_the_test_folder_alone(tmp_path):
    fill(tmp_path / "a" / "train", count=6)
    fill(tmp_path / "a" / "test", count=3)
    assert sizes(load(tmp_path / "a", folds=3, fold=1)) == {"train": 8, "val": 4, "test": 6}


def test_folds_that_cannot_be_are_refused(tmp_path):
    fill(tmp_path / "a" / "train", count=5)
    with pytest.raises(ConfigError, match=r"data.folds=20: only 10 pictures left beside the test"):
        load(tmp_path / "a", folds=20, test_fraction=0.0, val_fraction=0.0)
    with pytest.raises(ConfigError, match=r"data.fold=3: with data.folds=3, expected 0 to 2"):
        load(tmp_path / "a", folds=3, fold=3)
    with pytest.raises(ConfigError, match=r"data.fold=1: say with data.folds how many parts there are"):
        load(tmp_path / "a", fold=1)
    fill(tmp_path / "b", count=2)
    with pytest.raises(
        DataError, match=r"'cats' has 2 pictures to train on, too few to hold out data.folds=2 and data.te"
    ):
        load(tmp_path / "b", folds=2, val_fraction=0.0)
    fill(tmp_path / "a" / "validation", count=3)
    with pytest.raises(
        ConfigError, match=r"data.folds=3: a folder of the pictures says what validates; put those into"
    ):
        load(tmp_path / "a", folds=3)


def test_a_class_may_be_called_train(tmp_path):
    assert load(fill(tmp_path, ("bus", "train"))).label_names == ["bus", "train"]


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    fill(tmp_path)
    for name in ("cats/Thumbs.db", "cats/._000.png", ".git/x.png", "__MACOSX/cats/y.png", "readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no picture")
    save(tmp_path / "dogs" / "more" / "deep.JPG")
    assert sum(sizes(load(tmp_path)).values()) == 21


def test_normalised_pixels_have_mean_0_and_deviation_1_in_training(tmp_path):
    data = load(fill(tmp_path), normalize=True)
    images, _ = everything(data, "train")
    assert abs(float(images.mean())) < 1e-5
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert data.mean == pytest.approx(float(everything(load(tmp_path), "train")[0].mean()) * 255)


def test_shuffled_batches_are_pure_in_seed_and_epoch(tmp_path):
    data = load(fill(tmp_path))
    data.to(torch.device("cpu"))
    first = data.batches("train", order="shuffled", seed=1, epoch=2)[0]
    assert torch.equal(first.images, data.batches("train", order="shuffled", seed=1, epoch=2)[0].images)
    assert first.images.shape == (4, 3, 8, 8)
    assert first.images.dtype == torch.float32
    assert first.labels.dtype == torch.int64


# ------------------------------------------------------------------ labels in a table


def test_labels_from_a_table(tmp_path):
    for number in range(10):
        save(tmp_path / "p" / f"{number}.png", (number, 0, 0))
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "".join(f"{n},{'odd' if n % 2 else 'even'}\n" for n in range(9)))
    data = load(tmp_path / "p", labels=str(table))
    assert data.label_names == ["even", "odd"]
    for split in data.splits:
        images, labels = everything(data, split)
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long() % 2, labels)
    assert data.notes == ("1 picture without a label, left out",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,x\nb.png\n", r"labels.csv:2: expected two columns, the picture's name and its label, found 1"),
        ("a.png,\n", r"labels.csv:1: expected two columns.*one is empty"),
        ("a.png,x\nb.png,y\nzz.png,y\n", r"labels.csv:3: no picture 'zz.png' below .* \(1 of 3 names have none\)"),
        ("a.png,x\na,y\n", r"labels.csv:2: 'a' is there twice"),
        ("name,label\nsame,x\n", r"labels.csv:2: several pictures are called 'same'; write their folders too"),
        ("", "no names and labels in it"),
        ("name,label\n", "no names and labels in it"),
        (b"a.png,\xff\n", r"not UTF-8 text \(byte 6\)"),
        ('a.png,"' + "x" * 200_000 + '"\n', "labels.csv:1: a cell of more than 1,000 characters|not a CSV file"),
        ("a.png,x\nb.png,x\n", "2 pictures of one class, 'x'"),
    ],
)
def test_a_wrong_table_is_said_with_its_line(tmp_path, text, message):
    for name in ("a.png", "b.png", "d/same.png", "e/same.png"):
        save(tmp_path / "p" / name)
    table = tmp_path / "labels.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load(tmp_path / "p", labels=str(table))


def test_names_without_a_picture_may_be_left_out(tmp_path):
    fill(tmp_path / "p")
    table = tmp_path / "labels.csv"
    table.write_text("".join(f"{label}/{n:03}.png,{label}\n" for label in ("cats", "dogs") for n in range(12)))
    data = load(tmp_path / "p", labels=str(table), on_bad="skip")
    assert sum(sizes(data).values()) == 20
    assert data.notes == ("4 names without a picture",)
    with pytest.raises(DataError, match=r"none.csv: cannot be read \(No such file or directory\)"):
        load(tmp_path / "p", labels=str(tmp_path / "none.csv"))


# ------------------------------------------------------------------ decoding


def one(file: Path, channels: int = 3, size: int = 4, resize: str = "squash"):
    return decode(file, Form(channels, size, resize))


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 90, "png", (90, 90, 90)),
        ("L", 90, "bmp", (90, 90, 90)),
        ("LA", (90, 255), "png", (90, 90, 90)),
        ("LA", (90, 0), "png", (255, 255, 255)),
        ("RGB", (10, 20, 30), "png", (10, 20, 30)),
        ("RGB", (10, 20, 30), "ppm", (10, 20, 30)),
        ("RGB", (10, 20, 30), "tiff", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), "png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "png", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), "tiff", (255, 255, 255)),
        ("P", 7, "png", (7, 7, 7)),
        ("P", 7, "gif", (7, 7, 7)),
        ("I;16", 40 * 257, "png", (40, 40, 40)),
        ("I;16", 40 * 257, "tiff", (40, 40, 40)),
        ("I", 40 * 257, "tiff", (40, 40, 40)),
        ("F", 0.2, "tiff", (51, 51, 51)),
        ("CMYK", (255, 0, 0, 0), "tiff", (0, 255, 255)),
        ("CMYK", (0, 0, 0, 255), "jpg", (0, 0, 0)),
        ("YCbCr", (90, 128, 128), "jpg", (90, 90, 90)),
        ("RGB", (200, 100, 50), "webp", (200, 100, 50)),
    ],
)
def test_every_mode(tmp_path, mode, colour, suffix, expected):
    image = Image.new(mode, (9, 5), colour)
    if mode == "P":
        image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    image.save(tmp_path / f"x.{suffix}")
    pixels = one(tmp_path / f"x.{suffix}")
    assert pixels.shape == (3, 4, 4)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(expected)[:, None, None]).max() <= (
        4 if suffix in ("jpg", "webp") else 1
    )
    assert one(tmp_path / f"x.{suffix}", channels=1).shape == (1, 4, 4)


def test_a_transparent_palette_is_on_white(tmp_path):
    image = Image.new("P", (4, 4), 3)
    image.putpalette([9] * 768)
    image.save(tmp_path / "x.png", transparency=3)
    assert (one(tmp_path / "x.png") == 255).all()


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    for suffix in ("gif", "webp", "tiff", "png"):
        file = tmp_path / f"x.{suffix}"
        frames[0].save(file, save_all=True, append_images=frames[1:])
        assert np.abs(one(file)[:, 0, 0].astype(int) - [255, 0, 0]).max() < 5


def test_exif_orientation_is_followed(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste((255, 255, 255), (0, 0, 20, 20))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right: white is at the top
    image.save(tmp_path / "x.jpg", exif=exif)
    pixels = one(tmp_path / "x.jpg", channels=1)[0]
    assert pixels[0].min() > 200
    assert pixels[-1].max() < 50


def test_resizing_policies(tmp_path):
    image = Image.new("RGB", (12, 4), "black")
    image.paste((255, 255, 255), (4, 0, 8, 4))  # the middle third
    image.save(tmp_path / "x.png")
    assert (one(tmp_path / "x.png", 1, 4, "crop") == 255).all()
    padded = one(tmp_path / "x.png", 1, 12, "pad")[0]
    assert (padded[4:8, 5:7] == 255).all()
    assert (padded[:4] == 0).all()
    assert (padded[8:] == 0).all()
    squashed = one(tmp_path / "x.png", 1, 12, "squash")[0]
    assert (squashed[:, 5:7] == 255).all()
    for shape in ((300, 1), (1, 300)):
        save(tmp_path / "long.png", (255, 255, 255), shape)
        for resize in ("crop", "pad", "squash"):
            assert one(tmp_path / "long.png", 3, 8, resize).max() == 255


def test_large_jpegs_keep_their_look(tmp_path):
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (1200, 1600))).save(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(one(tmp_path / "x.jpg", 1, 16)[0] - expected).max() <= 6


def png(width: int, height: int) -> bytes:
    """A PNG file that says this size and holds one pixel."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "png")
    content = bytearray(stream.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, suffix)
    return stream.getvalue()


DAMAGED = {
    "empty": (b"", "is empty"),
    "text": (b"<html>not found</html>", "is no picture of a known format"),
    "half-png": (encoded("png")[:1500], "is damaged"),
    "short-png": (png(1000, 1000), "is damaged"),
    "half-jpeg": (encoded("jpeg")[:900], "is damaged"),
    "half-gif": (encoded("gif")[:500], "is no picture of a known format|is damaged"),
    "no-width": (png(0, 5), "is no picture of a known format|has no pixels|is damaged"),
    "no-size": (png(0, 0), "is no picture of a known format|has no pixels|is damaged"),
    "bomb": (png(30_000, 30_000), "has more than 89,478,485 pixels"),
    "nearly-a-bomb": (png(10_000, 10_000), "has more than 89,478,485 pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture of a known format"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_pictures_are_named(tmp_path, kind):
    content, message = DAMAGED[kind]
    fill(tmp_path / "p")
    (tmp_path / "p" / "cats" / "zz.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"cats/zz.png: ({message}).*data.on_bad=skip") as caught:
        load(tmp_path / "p")
    assert "\n" not in str(caught.value)


def test_links_to_nothing_and_folders_like_files_are_named(tmp_path):
    fill(tmp_path / "p")
    (tmp_path / "p" / "cats" / "zz.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="zz.png: is a link to nothing"):
        load(tmp_path / "p")
    (tmp_path / "p" / "cats" / "zz.png").unlink()
    (tmp_path / "p" / "cats" / "zz.png").mkdir()
    with pytest.raises(DataError, match="zz.png: is a folder"):
        load(tmp_path / "p")


def test_random_damage_never_ends_the_interpreter(tmp_path):
    """Flipped bytes and cuts in every format, in a process of its own."""
    code = """
import io, random, sys
from pathlib import Path
from PIL import Image
from dlcli.data.decoding import BadPicture, Form, decode_all
folder, rng, files = Path(sys.argv[1]), random.Random(0), []
for suffix in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 60).convert("RGB").save(stream, suffix)
    for number in range(60):
        content = bytearray(stream.getvalue())
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(len(content) if number % 2 else min(100, len(content)))] = rng.randrange(256)
        files.append(folder / f"{suffix}{number}.png")
        files[-1].write_bytes(content[: rng.randint(1, len(content))] if number % 3 == 0 else content)
results = list(decode_all(files, Form(3, 16, "pad")))
print(len(results), sum(isinstance(result, BadPicture) for result in results) > 100)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "420 True"), result.stderr


def test_bad_pictures_are_skipped_up_to_a_hundredth(tmp_path):
    fill(tmp_path, count=60)
    (tmp_path / "cats" / "bad.png").write_bytes(b"nonsense")
    data = load(tmp_path, on_bad="skip")
    assert sum(sizes(data).values()) == 120
    assert data.notes == ("1 of 121 pictures skipped, the first: bad.png is no picture of a known format",)
    assert sum(data.class_counts) == sizes(data)["train"]
    images, labels = everything(data, "train")
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels * 100)
    (tmp_path / "dogs" / "worse.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"bad.png: .*; 2 of 122 pictures cannot be read, more than 1%"):
        load(tmp_path, on_bad="skip")


# ------------------------------------------------------------------ the cache


def test_pictures_are_decoded_once(tmp_path, monkeypatch, own_cache):
    root = fill(tmp_path / "p")
    first = load(root)
    monkeypatch.setattr(pixel_cache, "decode_all", lambda *_: pytest.fail("decoded again"))
    second = load(root, split_seed=3, batch_size=9, normalize=True)
    assert torch.equal(first.pixels, second.pixels)
    monkeypatch.undo()
    monkeypatch.setenv("DLCLI_CACHE", str(own_cache))
    before = set((own_cache / "pictures").iterdir())
    save(root / "cats" / "000.png", (9, 9, 9), (11, 6))
    third = load(root)
    assert not torch.equal(third.pixels, first.pixels)
    assert third.fingerprint != first.fingerprint
    assert len(set((own_cache / "pictures").iterdir()) - before) == 2  # the pixels and their lock


def test_the_fingerprint_is_of_the_content(tmp_path):
    first = load(fill(tmp_path / "a"))
    assert load(fill(tmp_path / "b")).fingerprint == first.fingerprint
    save(tmp_path / "b" / "cats" / "000.png", (1, 2, 3))
    assert load(tmp_path / "b").fingerprint != first.fingerprint


def test_a_damaged_cache_is_made_again(tmp_path, own_cache):
    root = fill(tmp_path / "p")
    pixels = load(root).pixels.clone()
    (file,) = (own_cache / "pictures").glob("*/pixels")
    file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(load(root).pixels, pixels)
    (facts,) = (own_cache / "pictures").glob("*/facts.json")
    facts.write_text("{")
    assert torch.equal(load(root).pixels, pixels)


def test_without_a_cache_pictures_stay_in_memory(tmp_path, monkeypatch, caplog):
    root = fill(tmp_path / "p")
    expected = load(root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLCLI_CACHE", str(tmp_path / "file"))
    data = load(root)
    assert torch.equal(data.pixels, expected.pixels)
    assert data.fingerprint == expected.fingerprint
    assert "cannot be written (Not a directory); the pictures stay in memory" in caplog.text


def test_a_full_disk_leaves_no_half_cache(tmp_path, monkeypatch, own_cache):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_cache, "_write", full)
    assert len(load(fill(tmp_path / "p")).pixels) == 20
    assert [path.suffix for path in (own_cache / "pictures").iterdir()] == [".lock"]


# ------------------------------------------------------------------ archives


def test_an_archive_is_unpacked_once(tmp_path, own_cache):
    fill(tmp_path / "wrap" / "pictures")
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "wrap", "wrap")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as zipped:
        for file in sorted((tmp_path / "wrap").rglob("*.png")):
            zipped.write(file, file.relative_to(tmp_path))
    expected = load(tmp_path / "wrap" / "pictures")
    for name in ("p.tar.gz", "p.zip", "p.zip"):
        assert load(tmp_path / name).fingerprint == expected.fingerprint
    assert len([path for path in (own_cache / "archives").iterdir() if path.is_dir()]) == 2


def test_a_refused_archive_is_a_data_error(tmp_path):
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with pytest.raises(DataError, match="is not a plain relative path"):
        load(tmp_path / "p.tar.gz")


# ------------------------------------------------------------------ what is not there


def test_missing_things_are_named(tmp_path):
    with pytest.raises(DataError, match="none: no such folder; give data.path a folder of pictures or a tar or zip"):
        load(tmp_path / "none")
    file = save(tmp_path / "one.png")
    with pytest.raises(DataError, match="one.png: is a single file, and no archive; give data.path the folder above"):
        load(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no pictures; expected a folder for each class"):
        load(tmp_path / "empty")
    save(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match="flat: holds pictures but no folders; expected a folder for each class"):
        load(tmp_path / "flat")
    fill(tmp_path / "single", ("cats",))
    with pytest.raises(DataError, match="10 pictures of one class, 'cats'; expected at least two classes"):
        load(tmp_path / "single")
    fill(tmp_path / "hollow")
    (tmp_path / "hollow" / "mice").mkdir()
    with pytest.raises(DataError, match="mice: no pictures of class 'mice' in it; known are .bmp"):
        load(tmp_path / "hollow")


def test_splits_that_do_not_fit_are_named(tmp_path):
    fill(tmp_path / "a" / "train")
    fill(tmp_path / "a" / "test", ("cats", "zebras"))
    with pytest.raises(DataError, match="test/zebras: class 'zebras' is not among the training pictures"):
        load(tmp_path / "a")
    for name in ("train", "val", "other"):
        fill(tmp_path / "b" / name)
    with pytest.raises(DataError, match=r"holds folders of splits \(train, val\) and others \(other\)"):
        load(tmp_path / "b")
    for name in ("train", "val", "Validation"):
        fill(tmp_path / "c" / name)
    with pytest.raises(DataError, match=r"two folders for one split \(Validation, train, val\)"):
        load(tmp_path / "c")
    fill(tmp_path / "d", count=2)
    with pytest.raises(DataError, match=r"class 'cats' has 2 pictures to train on, too few to hold out data.val_frac"):
        load(tmp_path / "d")
    with pytest.raises(ConfigError, match=r"expected a sum of at most 0.9"):
        load(tmp_path / "a", val_fraction=0.8, test_fraction=0.15)


# ------------------------------------------------------------------ predictions


def test_other_pictures_are_prepared_in_the_same_way(tmp_path):
    root = fill(tmp_path / "p")
    data = load(root, normalize=True)
    preprocessing = data.preprocessing()
    assert preprocessing["label_names"] == ["cats", "dogs"]
    preprocessing = json.loads(json.dumps(preprocessing))
    (found,) = ImageFolder.prediction_inputs(root, preprocessing)
    names, batch = found
    assert names[0] == "cats/000.png"
    assert len(names) == 20
    expected = data.collate(torch.arange(20))
    torch.testing.assert_close(batch.images, expected.images, rtol=0, atol=0)
    assert set(batch.labels.tolist()) == {-1}
    ((names, batch),) = ImageFolder.prediction_inputs(root / "dogs" / "003.png", preprocessing)
    assert names == ["003.png"]
    torch.testing.assert_close(batch.images[0], expected.images[13], rtol=0, atol=0)


def test_predictions_name_what_they_cannot_read(tmp_path):
    root = fill(tmp_path / "p", count=300)
    preprocessing = load(root).preprocessing()
    sizes = [len(names) for names, _ in ImageFolder.prediction_inputs(root, preprocessing)]
    assert sizes == [256, 256, 88]
    (root / "cats" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match="bad.png: is empty"):
        list(ImageFolder.prediction_inputs(root, preprocessing))
    skipping = {**preprocessing, "on_bad": "skip"}
    inputs = ImageFolder.prediction_inputs(root, skipping)
    assert sum(len(names) for names, _ in inputs) == 600
    assert inputs.notes == {"pictures": "1 of 601 pictures skipped, the first: bad.png is empty"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no pictures in it"):
        list(ImageFolder.prediction_inputs(tmp_path / "empty", preprocessing))


# ------------------------------------------------------------------ real pictures

HOTDOG = Path(os.environ.get("DLCLI_DATA_MIRROR", "nowhere")) / "hotdog"


@pytest.mark.skipif(not HOTDOG.is_dir(), reason="DLCLI_DATA_MIRROR has no hotdog")
def test_real_photographs():
    data = load(HOTDOG, size=32)
    assert sizes(data) == {"train": 112, "val": 28, "test": 60}
    assert data.label_names == ["hot_dog", "not_hot_dog"]
