"""torchvision's networks with a new last layer, and weights from files."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as networks

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
    with pytest.raises(ConfigError, match=r"pretrained: https://.* cannot be fetched \(no route to host\)"):
        build("squeezenet1_1", "pretrained")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="model.architecture=resnet19: torchvision has no such network; did you mean"):
        build("resnet19")
    with pytest.raises(ConfigError, match=r"needs colour images, input_shape \(3, height, width\), got \(1, 28, 28\)"):
        build(input_shape=(1, 28, 28))
