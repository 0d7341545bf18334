"""torchvision's networks with a new last layer, and weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision.models as networks

from dlcli.api import load_run, train
from dlcli.cli.train import resume_run
from dlcli.errors import ConfigError, DataError
from dlcli.models.torchvision_network import TorchvisionNetwork


def build(architecture="resnet18", weights=None, input_shape=(3, 64, 64)):
    return TorchvisionNetwork(input_shape=input_shape, num_outputs=5, architecture=architecture, weights=weights)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The weights of a small network of torchvision's with 1,000 classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(networks.squeezenet1_1().state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        ("resnet18", "fc"),
        ("vgg11", "classifier.6"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("vit_b_16", "heads.head"),
        ("googlenet", "fc"),
        ("inception_v3", "fc"),
    ],
)
def test_the_last_layer_is_a_new_one(architecture, head):
    side = {"vit_b_16": 224, "inception_v3": 96}.get(architecture, 64)
    with torch.device("meta"):
        model = build(architecture, input_shape=(3, side, side)).train()
        assert model.head_name == head
        assert model(torch.empty(2, 3, side, side)).shape == (2, 5)


def test_weights_from_a_file(file):
    model, saved = build("squeezenet1_1", str(file)), torch.load(file, weights_only=True)
    own = model.network.state_dict()
    equal = [name for name in saved if own[name].shape == saved[name].shape and torch.equal(own[name], saved[name])]
    assert set(saved) - set(equal) == {"classifier.1.weight", "classifier.1.bias"}


def test_weights_that_cannot_be_used(file, tmp_path):
    with pytest.raises(DataError, match=r"holds the weights of another network than 'squeezenet1_0' \(.* does not fit"):
        build("squeezenet1_0", str(file))
    with pytest.raises(DataError, match=r"none.pth: cannot be read \(No such file or directory\)"):
        build("resnet18", str(tmp_path / "none.pth"))
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"not a file of weights")
    with pytest.raises(DataError, match="bad.pth: expected tensors by name, as torch.save"):
        build("resnet18", str(bad))
    torch.save({"model": [1, 2]}, bad)
    with pytest.raises(DataError, match="bad.pth: expected tensors by name"):
        build("resnet18", str(bad))


def test_trained_weights_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(DataError, match=r"pretrained: https://.* cannot be fetched \(no route to host\)"):
        build("squeezenet1_1", "pretrained")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="model.architecture=resnet19: torchvision has no such network; did you mean"):
        build("resnet19")
    with pytest.raises(ConfigError, match=r"needs colour images, input_shape \(3, height, width\), got \(1, 28, 28\)"):
        build(input_shape=(1, 28, 28))


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_in_the_cache_of_torch_executes_nothing(legacy, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(networks.get_model_weights("squeezenet1_1").DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(Planted(tmp_path / "executed"), file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=rf"{file.name}: expected tensors by name; remove it"):
        build("squeezenet1_1", "pretrained")
    assert not (tmp_path / "executed").exists()


def test_what_torch_says_of_a_download_is_no_output(monkeypatch, capsys):
    state = networks.squeezenet1_1().state_dict()

    def fetch(*_, **__):
        print("Downloading")
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    build("squeezenet1_1", "pretrained")
    assert capsys.readouterr() == ("", "Downloading\n")


def test_a_run_is_opened_and_resumed_without_the_file_of_its_first_weights(file, tmp_path, monkeypatch):
    """The checkpoint holds every tensor; relative paths are those of the folder where the run began."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    rows = ["file,label"]
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 200, 0)).save(tmp_path / "pictures" / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "first.pth").write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    options = ["data=image_folder", "data.path=pictures", "data.labels=labels.csv", "data.size=32", "data.channels=3"]
    options += ["data.batch_size=4", "model=torchvision", "model.architecture=squeezenet1_1", "model.weights=first.pth"]
    run = train([*options, "trainer.max_epochs=null", "trainer.max_steps=1", "trainer.device=cpu"])
    config = run.config
    assert config["model"]["weights"] == str(tmp_path / "first.pth")
    assert config["data"]["labels"] == str(tmp_path / "labels.csv")
    assert config["model"]["architecture"] == "squeezenet1_1"
    directory = run.directory.absolute()

    (tmp_path / "first.pth").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    saved = load_run(directory, checkpoint="last")
    assert saved.evaluate("val")["loss"] > 0
    resumed = resume_run(directory, ["trainer.max_steps=2"], config_dirs=[], plugins=[], quiet=True)
    resumed.train()
    assert resumed.summary["steps"] == 2
    assert resumed.config["model"]["weights"] == str(tmp_path / "first.pth")
