"""The projector's files, read by TensorBoard's own plug-in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlcli.tensorboard_projector import CONFIG, FOLDER, Embedding, sheet, write
from dlcli.tracking import Tracker


def read(directory: Path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    return text_format.Parse((directory / CONFIG).read_text(), ProjectorConfig())


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    Tracker(tmp_path).embedding("val/codes", Embedding(vectors, ["a", "b\tc", "d\ne", "ä", ""], images))
    (entry,) = read(tmp_path).embeddings
    assert entry.tensor_name == "val/codes"
    np.testing.assert_allclose(np.loadtxt(tmp_path / entry.tensor_path, delimiter="\t"), vectors, rtol=1e-5)
    assert (tmp_path / entry.metadata_path).read_text() == "a\nb c\nd e\nä\n\n"
    assert list(entry.sprite.single_image_dim) == [6, 4]
    with Image.open(tmp_path / entry.sprite.image_path) as picture:
        sprite = np.asarray(picture)
    assert sprite.shape == (3 * 4, 3 * 6, 3)
    for number in range(5):
        row, column = divmod(number, 3)
        tile = sprite[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6]
        np.testing.assert_array_equal(tile, images[number].transpose(1, 2, 0))


def test_the_plug_in_finds_the_run(tmp_path: Path) -> None:
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

    write(tmp_path, "codes", Embedding(np.eye(3), ["a", "b", "c"]))
    plugin = ProjectorPlugin.__new__(ProjectorPlugin)
    configs, _ = plugin._read_latest_config_files([("run", str(tmp_path))])
    assert configs["run"].embeddings[0].tensor_path == f"{FOLDER}/tensors.tsv"


def test_a_full_sheet_has_no_empty_row() -> None:
    assert sheet(np.zeros((4, 3, 2, 2), np.uint8)).shape == (4, 4, 3)


def test_what_cannot_be_written_does_not_end_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FOLDER).write_text("a file in the way")
    Tracker(tmp_path).embedding("codes", Embedding(np.eye(2), ["a", "b"]))
    assert "no vectors for the projector (File exists); training goes on" in caplog.text
    Tracker(None).embedding("codes", Embedding(np.eye(2), ["a", "b"]))
