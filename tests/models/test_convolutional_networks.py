"""The convolutional networks: equal to torchvision's, of the published sizes, and their smallest images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torchvision.models.googlenet import GoogLeNet
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import cfgs, make_layers

from dlcli.catalogue import entries
from dlcli.errors import ConfigError
from dlcli.registry import MODELS
from dlcli.spec import DataSpec

IMAGE_SIDES = {  # model -> the smallest side that its layers leave a pixel of, counted by hand
    "lenet": 12,
    "lenet_batch_norm": 16,
    "alexnet": 63,
    "alexnet_wide": 65,
    "nin": 67,
    "vgg11": 32,
    "vgg13": 32,
    "vgg16": 32,
    "vgg19": 32,
    "vgg_small": 32,
    "googlenet": 15,
    "googlenet_plain": 15,
    "densenet121": 29,
    "densenet_small": 29,
    "resnet18": 1,
    "resnet18_cifar": 1,
    "resnext50": 1,
    "regnet_x32": 1,
}


def build(name: str, side: int = 224, channels: int = 3, outputs: int = 1000, **changes: Any) -> nn.Module:
    config = {**entries("model")[name].content(), **changes}
    return MODELS.build(config, spec=DataSpec(input_shape=(channels, side, side), num_outputs=outputs), label="x")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def adopt(ours: nn.Module, theirs: nn.Module, order=lambda names: names) -> None:
    """Copy all tensors in the order in which they are written; it is the same in both but for ``order``."""
    state = theirs.state_dict()
    values = [state[name] for name in order(list(state))]
    names = list(ours.state_dict())
    assert [tuple(v.shape) for v in values] == [tuple(v.shape) for v in ours.state_dict().values()]
    ours.load_state_dict(dict(zip(names, values, strict=True)))


def shaken(module: nn.Module) -> nn.Module:
    """With statistics and scales that are no zeros and ones, so that a misplaced norm is seen."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
                tensor.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("alexnet", tv.alexnet),
        *((f"vgg{n}", getattr(tv, f"vgg{n}")) for n in (11, 13, 16, 19)),
        *((f"resnet{n}", getattr(tv, f"resnet{n}")) for n in (18, 34, 50, 101, 152)),
        ("resnext50", tv.resnext50_32x4d),
        ("densenet121", tv.densenet121),
        ("regnet_x_400mf", tv.regnet_x_400mf),
        ("googlenet", lambda: GoogLeNet(aux_logits=False, init_weights=False)),
    ],
)
def test_as_many_parameters_as_torchvision(name, reference):
    with torch.device("meta"):
        ours = build(name, init="default")
    with torch.device("cpu" if "regnet" in name else "meta"):  # which computes its widths with tensors
        theirs = reference()
    assert count(ours) == count(theirs)


@pytest.mark.parametrize(
    ("name", "channels", "outputs", "parameters"),
    [
        ("lenet_batch_norm", 1, 10, 44_878),
        ("googlenet_plain", 3, 1000, 6_998_552),
        ("alexnet_wide", 1, 10, 46_764_746),
        ("nin", 1, 10, 1_992_166),
        ("vgg_small", 1, 10, 43_093_322),
        ("densenet_small", 1, 10, 757_322),
        ("regnet_x32", 1, 10, 177_322),
    ],
)
def test_parameters_of_the_books_forms(name, channels, outputs, parameters):
    with torch.device("meta"):
        model = build(name, 28 if name.startswith("lenet") else 224, channels, outputs, init="default")
    assert count(model) == parameters


SMALL = [(1, 64), (2, 128), (1, 256), (1, 512)]


@pytest.mark.parametrize(
    ("name", "changes", "reference"),
    [
        ("resnet18", {"stages": SMALL}, lambda: ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5)),
        ("resnet50", {"stages": SMALL}, lambda: ResNet(Bottleneck, [1, 2, 1, 1], num_classes=5)),
        (
            "resnext50",
            {"stages": [(1, 128), (2, 256), (1, 512), (1, 1024)]},
            lambda: ResNet(Bottleneck, [1, 2, 1, 1], num_classes=5, groups=32, width_per_group=4),
        ),
        ("densenet121", {"depths": [2, 3]}, lambda: tv.DenseNet(32, (2, 3), 64, num_classes=5)),
        ("googlenet", {}, lambda: GoogLeNet(5, aux_logits=False, init_weights=False)),
        ("alexnet", {"init": "default"}, lambda: tv.AlexNet(5)),
    ],
)
def test_outputs_equal_torchvisions(name, changes, reference):
    torch.manual_seed(0)
    theirs = shaken(reference())
    ours = build(name, 70, outputs=5, **changes).eval()
    adopt(ours, theirs)
    images = torch.randn(2, 3, 70, 70)
    torch.testing.assert_close(ours(images), theirs(images))


def test_outputs_equal_torchvisions_regnet():
    torch.manual_seed(0)
    params = BlockParams([1, 2], [32, 64], [16, 16], [1.0, 1.0], [2, 2])
    theirs = shaken(RegNet(params, num_classes=5))
    ours = build("regnet_x32", 40, outputs=5, stages=[(1, 32), (2, 64)]).eval()

    def shortcut_last(names):
        blocks = [name.rpartition(".proj." if ".proj." in name else ".f.")[0] or name for name in names]
        return sorted(names, key=lambda name: (blocks.index(blocks[names.index(name)]), ".proj." in name))

    adopt(ours, theirs, shortcut_last)
    images = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_features_equal_torchvisions_vgg(batch_norm):
    torch.manual_seed(0)
    theirs = shaken(make_layers(cfgs["A"], batch_norm))
    ours = build("vgg11", 64, hidden_size=8, batch_norm=batch_norm).eval()
    adopt(ours.features, theirs)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.features(images), theirs(images))


@pytest.mark.parametrize("name", IMAGE_SIDES)
def test_the_smallest_image_is_known_and_works(name):
    side = IMAGE_SIDES[name]
    light = {"hidden_size": 8} if "hidden_size" in MODELS.signature(entries("model")[name].content()["name"]) else {}
    model = build(name, side, channels=1, outputs=3, **light).eval()
    assert model(torch.rand(2, 1, side, side)).shape == (2, 3)
    if side > 1:
        registered = entries("model")[name].content()["name"]
        message = f"model '{registered}' needs images of at least {side}×{side} pixels, got {side - 1}×{side + 5}; use"
        with pytest.raises(ConfigError, match=message):
            MODELS.build(
                {**entries("model")[name].content(), **light},
                spec=DataSpec(input_shape=(1, side - 1, side + 5), num_outputs=3),
            )


@pytest.mark.parametrize("name", IMAGE_SIDES)
def test_tables_are_refused(name):
    with pytest.raises(ConfigError, match=r"needs images, input_shape \(channels, height, width\), got \(13,\); use"):
        MODELS.build(entries("model")[name].content(), spec=DataSpec(input_shape=(13,), num_outputs=2))


def test_channels_that_groups_cannot_share_are_refused():
    with pytest.raises(ConfigError, match=r"model.groups=32 cannot share the 48 channels of a stage"):
        build("resnext50", stages=[(1, 48)])
    with pytest.raises(ConfigError, match=r"model.group_width=16 does not divide the 24 channels of a stage"):
        build("regnet_x32", stages=[(1, 24)])


def test_a_small_stem_keeps_the_size():
    model = build("resnet18_cifar", 32)
    assert model.stem(torch.rand(1, 3, 32, 32)).shape == (1, 64, 32, 32)
    assert build("resnet18", 32).stem(torch.rand(1, 3, 32, 32)).shape == (1, 64, 8, 8)
