"""The points of gaussian_2d have the moments that their options say."""

import torch

from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.registry import DATA


def make(**options):
    config = load_yaml(CONFIGS / "data" / "gaussian_2d.yaml")
    config.pop("defaults")
    return DATA.build({**config, **options})


def test_mean_and_covariance_are_those_of_the_distribution() -> None:
    data = make(train_size=200_000)
    points = data.tensors["train"][0]
    matrix = torch.tensor([[1.0, 2.0], [-0.1, 0.5]])
    torch.testing.assert_close(points.mean(0), torch.tensor([1.0, 2.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(points.T.cov(), matrix.T @ matrix, rtol=0, atol=0.05)


def test_the_parts_are_drawn_once() -> None:
    data, again, other = make(), make(), make(data_seed=1)
    assert {split: len(tensors[0]) for split, tensors in data.tensors.items()} == {
        "train": 1000,
        "val": 10_000,
        "test": 10_000,
    }
    assert torch.equal(data.tensors["val"][0], again.tensors["val"][0])
    assert not torch.equal(data.tensors["val"][0], other.tensors["val"][0])
    assert (data.fingerprint == again.fingerprint, data.fingerprint == other.fingerprint) == (True, False)
    assert data.batches("train", order="shuffled")[0].points.shape == (8, 2)
