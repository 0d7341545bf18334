"""``dlcli data list, info, fetch, verify``."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dlcli.cli.data import app, half_blocks
from dlcli.data import sources
from dlcli.errors import ConfigError, DataError

runner = CliRunner()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DLCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DLCLI_DATA_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def small_file(tmp_path, monkeypatch):
    """A mirror that holds one small file as the data set time_machine."""
    content = b"the time machine " * 50
    digest = hashlib.sha256(content).hexdigest()
    file = sources.RemoteFile("time-machine/timemachine.txt", digest, len(content), ())
    monkeypatch.setitem(sources.SOURCES, "time_machine", sources.Dataset("a novel", "", "none", (file,)))
    path = tmp_path / "mirror" / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(tmp_path / "mirror"))
    return path


def call(*arguments):
    return runner.invoke(app, list(arguments), catch_exceptions=False)


def test_list_names_every_data_set():
    result = call("list")
    assert result.exit_code == 0
    for name in sources.SOURCES:
        assert name in result.output
    assert "to be fetched" in result.output
    assert "no download" in result.output


@pytest.mark.usefixtures("small_file")
def test_list_says_what_is_here():
    assert "in the mirror" in call("list").output


def test_info_says_where_data_come_from():
    output = call("info", "mnist").output
    assert "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609" in output
    assert "9,912,422 bytes" in output
    assert "train, val, test" in output
    assert "val_size=5000" in output
    assert "not here yet" in output
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" in output


@pytest.mark.parametrize("verb", ["info", "fetch", "verify"])
def test_an_unknown_name_is_answered_with_the_nearest(verb):
    with pytest.raises(ConfigError, match=r"no data 'minst'; did you mean mnist\?"):
        call(verb, "minst")


def test_fetch_verifies(small_file):
    output = call("fetch", "time_machine").output
    assert f"{small_file}  850 bytes, SHA-256 verified, mirror" in output


def test_fetch_of_what_nobody_has(small_file):
    small_file.unlink()
    with pytest.raises(DataError, match=r"time-machine/timemachine.txt cannot be downloaded"):
        call("fetch", "time_machine")


def test_verify(small_file):
    assert f"{small_file}  ok (mirror)" in call("verify", "time_machine").output
    small_file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"timemachine.txt: SHA-256 .*, expected .*; remove it and fetch it again"):
        call("verify", "time_machine")
    small_file.unlink()
    with pytest.raises(DataError, match=r"not here: time-machine/timemachine.txt; 'dlcli data fetch time_machine'"):
        call("verify", "time_machine")


@pytest.mark.parametrize("name", ["digits", "text", "synthetic_regression"])
def test_data_without_files(name):
    assert "nothing to fetch" in call("fetch", name).output
    assert "nothing to verify" in call("verify", name).output


@pytest.mark.usefixtures("small_file")
def test_preview_of_a_text():
    output = call("info", "time_machine", "--preview").output
    assert "765 tokens" in output
    assert "the time machine the time machine" in output


def test_preview_of_pictures():
    output = call("info", "digits", "--preview").output
    assert "1,257 examples" in output
    assert "█" in output


def test_preview_of_a_table():
    output = call("info", "synthetic_regression", "--preview").output
    assert "2 features | 1 targets" in output


def test_preview_of_your_own_text_needs_a_path():
    with pytest.raises(ConfigError, match=r"needs data.path"):
        call("info", "text", "--preview")


def test_a_preview_draws_what_training_sees(tmp_path):
    file = tmp_path / "digits.png"
    assert call("preview", "digits", "--output", str(file)).output == f"{file}: 32 pictures of 216×216 in all\n"
    plain = Image.open(file).tobytes()
    call("preview", "digits", "data.augmentation.rotation=30", "--output", str(file))
    changed = Image.open(file).tobytes()
    call("preview", "digits", "data.augmentation.rotation=30", "--epoch", "1", "--output", str(file))
    assert len({plain, changed, Image.open(file).tobytes()}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic_regression"], "data 'synthetic_regression' holds no pictures; see 'dlcli data info"),
        (["digits", "--output", "/nowhere/digits.png"], "/nowhere/digits.png: cannot be written"),
        (["digits", "data.augmentation.blur=1"], "unknown option 'data.augmentation.blur'"),
        (["digit"], "no data 'digit'; "),
    ],
)
def test_a_preview_that_cannot_be_drawn(arguments, message):
    with pytest.raises(ConfigError, match=message):
        call("preview", *arguments)


def test_half_blocks():
    image = torch.tensor([[0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 0]], dtype=torch.uint8)
    assert half_blocks(image) == " ▀▄\n▀█"


@pytest.mark.parametrize("verb", ["list", "info", "preview", "fetch", "verify"])
def test_help_ends_with_an_example(verb):
    output = call(verb, "--help").output
    assert output.strip().splitlines()[-1].strip().startswith(f"Example: dlcli data {verb}")


def test_torch_is_not_imported():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from dlcli.cli.data import app\n"
        "for arguments in (['list'], ['info', 'mnist'], ['fetch', 'digits'], ['verify', 'digits']):\n"
        "    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0\n"
        "print([name for name in ('torch', 'hydra', 'pooch', 'numpy') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"
