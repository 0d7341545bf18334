"""People's own models: a file, a folder, a module, a package with an entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlcli import load_run, plugins, train
from dlcli.config import compose
from dlcli.errors import ConfigError

CODE = '''
from torch import nn

from dlcli.hyperparameters import Count
from dlcli.registry import MODELS


@MODELS.register("{name}")
class TwoLayers(nn.Module):
    """Two layers of one's own."""

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, width: Count):
        super().__init__()
        size = 1
        for length in input_shape:
            size *= length
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, num_outputs))

    def forward(self, inputs):
        return self.layers(inputs)
'''
YAML = "# Two layers of my own\n# Source: mine\nname: {name}\nwidth: 12\n"


def write(folder: Path, name: str) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / f"{name}.py").write_text(CODE.format(name=name))
    (folder / "model" / f"{name}.yaml").write_text(YAML.format(name=name))
    return folder


def test_one_python_file_and_one_yaml_are_enough(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "two_layers")
    overrides = ["data=digits", "model=two_layers", "trainer.max_epochs=6", "optimizer.lr=0.01"]
    run = train([*overrides, f"run_dir={tmp_path / 'runs'}"], plugins=[str(folder)])
    assert run.summary["metrics"]["test"]["accuracy"] > 0.85
    assert run.summary["plugins"] == [str(folder)]
    assert run.directory is not None
    assert load_run(run.directory, plugins=[str(folder)]).evaluate("val")["accuracy"] > 0.8


def test_a_file_brings_the_folder_of_yaml_files_beside_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "from_file")
    directories = plugins.load([str(folder / "from_file.py")])
    assert compose(["data=digits", "model=from_file"], directories).config["model"]["width"] == 12


def test_a_module_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_own_package"
    write(package, "from_module")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    directories = plugins.load(["some_own_package"])
    assert compose(["data=digits", "model=from_module"], directories).config["model"]["name"] == "from_module"


def test_an_installed_package_announces_itself(tmp_path: Path) -> None:
    """A package on the path with metadata for the entry-point group, seen by a new process."""
    package = write(tmp_path / "announced_package", "announced")
    (package / "__init__.py").write_text("")
    metadata = tmp_path / "announced_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: announced-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dlcli.plugins]\nannounced = announced_package\n")
    command = [sys.executable, "-m", "dlcli", "train", "data=digits", "model=announced", "trainer.max_steps=2"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "model  announced: " in result.stdout


def test_opening_a_run_asks_for_its_plugin_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "asked_for")
    overrides = ["data=digits", "model=asked_for", "trainer.max_steps=1", f"run_dir={tmp_path / 'runs'}"]
    run = train(overrides, plugins=[str(folder)])
    command = [sys.executable, "-m", "dlcli", "eval", str(run.directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "model 'asked_for' is not registered" in result.stderr
    assert f"was trained with --plugin {folder}" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", "no such file"),
        ("no_such_module_anywhere", "no such file, folder or importable module"),
    ],
)
def test_a_plugin_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--plugin {name}: {message}"):
        plugins.load([name])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds neither Python files nor a folder such as model/"):
        plugins.load([str(tmp_path)])


def test_a_plugin_that_fails_to_import_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "broken")
    file = folder / "broken.py"
    file.write_text(file.read_text().replace("from torch import nn", "from torch import nn\nimport not_a_module"))
    with pytest.raises(ConfigError, match=r"plug-in .*broken.py: ModuleNotFoundError: No module named 'not_a_module'"):
        train(["data=digits", "model=broken", f"run_dir={tmp_path}"], plugins=[str(folder)])


def test_a_plugin_with_a_syntax_error_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "unreadable")
    (folder / "unreadable.py").write_text('@MODELS.register("unreadable")\nclass Broken(:\n')
    with pytest.raises(ConfigError, match=r"plug-in \S+unreadable.py: invalid syntax"):
        plugins.load([str(folder)])


def test_a_yaml_file_outside_a_group_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "loose")
    (folder / "model" / "loose.yaml").rename(folder / "loose.yaml")
    (folder / "model").rmdir()
    with pytest.raises(ConfigError, match=r"loose.yaml is not in a group's folder; move it, .*model/loose"):
        plugins.load([str(folder)])


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "lstm")
    with pytest.raises(ConfigError, match="model 'lstm' is registered twice"):
        plugins.load([str(folder)])


def test_an_unknown_annotation_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "annotated")
    file = folder / "annotated.py"
    file.write_text(file.read_text().replace("width: Count", "width: MyOwnType"))
    directories = plugins.load([str(folder)])
    with pytest.raises(ConfigError, match=r"annotated.py: parameter 'width' of model 'annotated' is annotated with"):
        compose(["data=digits", "model=annotated"], directories)
