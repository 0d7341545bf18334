"""The built wheel, unpacked and run on its own: what people install is the whole program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "dlcli", "configs", "hydra_plugins", "tests")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with a Hydra plug-in added, so that building writes nothing into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    plugin = folder / "hydra_plugins" / "dlcli_probe"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the unpacked wheel and the installed dependencies, and without any editable install of a checkout."""
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sorted(packages)])}
    command = [sys.executable, "-S", *arguments]  # without site, no .pth file adds a checkout's folder
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_content_is_the_checkouts(source: Path, wheel: Path):
    expected = {
        file.relative_to(source).as_posix()
        for folder in ("dlcli", "hydra_plugins")
        for file in (source / folder).rglob("*")
        if file.is_file()
    }
    configs = {f"dlcli/{file.relative_to(source).as_posix()}" for file in (source / "configs").rglob("*.yaml")}
    assert "dlcli/configs/config.yaml" in configs
    assert "hydra_plugins/dlcli_probe/__init__.py" in expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "dlcli = dlcli.__main__:main" in archive.read(metadata).decode()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    assert names == expected | configs  # among them no tests, no scripts


def test_hydra_plugins_stays_a_namespace(wheel: Path):
    """An ``__init__.py`` there would hide the plug-ins of every other distribution."""
    with zipfile.ZipFile(wheel) as archive:
        assert "hydra_plugins/__init__.py" not in archive.namelist()


def test_configurations_are_found_in_the_package(installed: Path, tmp_path: Path):
    code = (
        "import dlcli.catalogue as c, hydra_plugins.dlcli_probe as p, sys;"
        "print(c.CONFIGS, p.__file__, sep='\\n'); print((c.CONFIGS / 'config.yaml').is_file())"
    )
    done = run(installed, tmp_path, "-c", code)
    plugin = installed / "hydra_plugins" / "dlcli_probe" / "__init__.py"
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(installed / "dlcli" / "configs"), str(plugin), "True"]


def test_the_checkout_is_out_of_reach(installed: Path, tmp_path: Path):
    done = run(installed, tmp_path, "-c", "import sys; print(*sys.path, sep='\\n')")
    checkouts = [folder for folder in done.stdout.splitlines() if folder and (Path(folder) / "pyproject.toml").exists()]
    assert checkouts == []


@pytest.mark.skipif(not (ROOT / "dlcli" / "__main__.py").exists(), reason="no command line yet")
class TestCommandLine:
    def test_help_and_version(self, installed: Path, tmp_path: Path):
        from dlcli import __version__

        done = run(installed, tmp_path, "-m", "dlcli", "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "train" in done.stdout
        done = run(installed, tmp_path, "-m", "dlcli", "--version")
        assert done.returncode == 0
        assert __version__ in done.stdout

    def test_list_shows_every_entry(self, source: Path, installed: Path, tmp_path: Path):
        done = run(installed, tmp_path, "-m", "dlcli", "list", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        listed = {f"{entry['group']}/{entry['name']}" for entry in json.loads(done.stdout)}
        files = (source / "configs").glob("*/**/*.yaml")
        assert listed == {file.relative_to(source / "configs").with_suffix("").as_posix() for file in files}
        assert list(tmp_path.iterdir()) == []
