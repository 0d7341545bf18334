"""Tables: splits, standardisation, and the real data sets where their files are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dlcli.data import airfoil, boston_housing
from dlcli.data.airfoil import Airfoil
from dlcli.data.boston_housing import BostonHousing
from dlcli.data.synthetic_regression import SyntheticRegression
from dlcli.data.tables import column_statistics, read_table, split_rows
from dlcli.errors import ConfigError, DataError

MIRROR = Path(os.environ.get("DLCLI_DATA_MIRROR", "nowhere"))
OPTIONS = {
    "batch_size": 23,
    "val_fraction": 0.1,
    "test_fraction": 0.3,
    "split_seed": 80718,
    "folds": None,
    "fold": 0,
    "standardize_targets": False,
}
BOSTON = {**OPTIONS, "standardize_by": "train"}


@pytest.fixture
def small_tables(tmp_path, monkeypatch):
    """Replaces the two files by 100 random rows each."""
    random = np.random.RandomState(0)
    np.savetxt(tmp_path / "boston.csv", random.rand(100, 14) * 9 + 3, delimiter=",")
    np.savetxt(tmp_path / "airfoil.dat", random.rand(100, 6) * 9 + 3, delimiter="\t")
    monkeypatch.setattr(boston_housing, "fetch_all", lambda _: ([tmp_path / "boston.csv"], "mirror"))
    monkeypatch.setattr(airfoil, "fetch_all", lambda _: ([tmp_path / "airfoil.dat"], "mirror"))
    return tmp_path


@pytest.mark.usefixtures("small_tables")
@pytest.mark.parametrize(("kind", "features"), [(BostonHousing, 13), (Airfoil, 5)])
def test_features_are_standardised_by_the_training_rows(kind, features):
    data = kind(**(BOSTON if kind is BostonHousing else OPTIONS))
    rows, targets = data.tensors["train"]
    assert data.spec.defined() == {"input_shape": (features,), "num_outputs": 1, "num_targets": 1}
    assert rows.dtype == targets.dtype == torch.float32
    assert torch.allclose(rows.mean(0), torch.zeros(features), atol=1e-6)
    assert torch.allclose(rows.std(0, correction=0), torch.ones(features), atol=1e-5)
    assert not torch.allclose(data.tensors["test"][0].mean(0), torch.zeros(features), atol=1e-3)
    assert float(targets.min()) >= 3
    batch = data.batches("train", order="shuffled", seed=1)[0]
    assert batch.features.shape == (23, features)
    assert batch.targets.shape == (23, 1)


@pytest.mark.usefixtures("small_tables")
def test_targets_are_standardised_when_asked():
    data = BostonHousing(**{**BOSTON, "standardize_targets": True})
    plain = BostonHousing(**BOSTON)
    targets, own = data.tensors["train"][1], plain.tensors["train"][1]
    assert abs(float(targets.mean())) < 1e-6
    assert torch.allclose(targets * own.std(correction=0) + own.mean(), own, atol=1e-4)
    assert torch.equal(data.tensors["train"][0], plain.tensors["train"][0])


@pytest.mark.usefixtures("small_tables")
def test_features_are_standardised_over_all_rows_when_asked():
    data = BostonHousing(**{**BOSTON, "standardize_by": "all"})
    rows = torch.cat([data.tensors[split][0] for split in ("train", "val", "test")])
    assert torch.allclose(rows.mean(0), torch.zeros(rows.shape[1]), atol=1e-5)
    assert torch.allclose(rows.std(0, correction=0), torch.ones(rows.shape[1]), atol=1e-5)


def test_a_constant_column_is_only_shifted():
    mean, deviation = column_statistics(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2, 5]
    assert deviation.tolist() == [1, 1]


def test_the_test_rows_are_those_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    rows = torch.arange(506.0, dtype=torch.float64).unsqueeze(1)
    parts = split_rows((rows, rows), 0.1, 0.3, 80718, None, 0)
    train, test = train_test_split(np.arange(506), test_size=0.3, random_state=80718)
    assert parts["test"][0][:, 0].tolist() == test.tolist()
    assert [*parts["train"][0][:, 0].tolist(), *parts["val"][0][:, 0].tolist()] == train.tolist()
    assert {name: len(part[0]) for name, part in parts.items()} == {"train": 319, "val": 35, "test": 152}


def test_without_a_validation_part_the_test_rows_validate():
    rows = torch.arange(10.0).unsqueeze(1)
    parts = split_rows((rows, rows), 0, 0.3, 1, None, 0)
    assert parts["val"][0].equal(parts["test"][0])
    assert sorted([*parts["train"][0][:, 0].tolist(), *parts["test"][0][:, 0].tolist()]) == list(range(10))
    assert len(parts["test"][0]) == 3
    with pytest.raises(ConfigError, match="of 10 rows, 10 test, 0 validate and 0 train"):
        split_rows((rows, rows), 0, 1.0, 1, None, 0)


def test_a_part_without_rows_is_refused():
    rows = torch.zeros(10, 1)
    with pytest.raises(ConfigError, match=r"of 10 rows, 3 test, 0 validate and 7 train; expected at least 1 each"):
        split_rows((rows, rows), 0.01, 0.3, 0, None, 0)
    with pytest.raises(ConfigError, match="of 10 rows, 10 test"):
        split_rows((rows, rows), 0.5, 1.0, 0, None, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [("1,2,3\n4,5\n", "not a table of numbers"), ("1,2\n", "2 columns, expected 3"), ("a,b,c\n", "not a table of num")],
)
def test_bad_tables_are_named(tmp_path, content, message):
    file = tmp_path / "bad.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=rf"bad.csv: {message}"):
        read_table(file, ",", columns=3, num_targets=1)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.csv"):
        read_table(tmp_path / "none.csv", ",", columns=3, num_targets=1)


SYNTHETIC = {
    "copies": 1,
    "batch_size": 32,
    "weights": [2.0, -3.4],
    "bias": 4.2,
    "noise": 0.01,
    "train_size": 1000,
    "val_size": 500,
    "test_size": 250,
    "data_seed": 0,
}


def test_the_synthetic_weights_are_found_again():
    data = SyntheticRegression(**SYNTHETIC)
    assert {split: len(tensors[0]) for split, tensors in data.tensors.items()} == {
        "train": 1000,
        "val": 500,
        "test": 250,
    }
    for features, targets in data.tensors.values():
        design = torch.cat([features, torch.ones(len(features), 1)], 1).double()
        solution = torch.linalg.lstsq(design, targets.double()).solution[:, 0]
        assert torch.allclose(solution, torch.tensor([2, -3.4, 4.2], dtype=torch.float64), atol=3e-3)
        residual = targets.double()[:, 0] - design @ solution
        assert float(residual.std()) == pytest.approx(0.01, rel=0.15)
    assert data.source == "generated"


def test_synthetic_data_depend_on_their_seed_alone():
    torch.manual_seed(5)
    first, second = SyntheticRegression(**SYNTHETIC), SyntheticRegression(**SYNTHETIC)
    other = SyntheticRegression(**{**SYNTHETIC, "data_seed": 1})
    assert torch.equal(first.tensors["val"][1], second.tensors["val"][1])
    assert not torch.equal(first.tensors["val"][1], other.tensors["val"][1])
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert SyntheticRegression(**{**SYNTHETIC, "weights": [1.0, 2.0, 3.0]}).spec.input_shape == (3,)


@pytest.mark.skipif(not (MIRROR / "boston-housing").is_dir(), reason="DLCLI_DATA_MIRROR has no boston-housing")
def test_the_book_s_linear_regression_on_boston_housing():
    """DLFS chapter 2: least squares on 354 rows, RMSE 5.0476 on the other 152."""
    data = BostonHousing(**BOSTON)
    rows = {split: torch.cat([f, torch.ones(len(f), 1)], 1).double() for split, (f, _) in data.tensors.items()}
    targets = {split: t.double() for split, (_, t) in data.tensors.items()}
    known = torch.cat([rows["train"], rows["val"]])
    solution = torch.linalg.lstsq(known, torch.cat([targets["train"], targets["val"]])).solution
    error = (rows["test"] @ solution - targets["test"]).square().mean().sqrt()
    assert float(error) == pytest.approx(5.0476, abs=1e-3)


@pytest.mark.skipif(not (MIRROR / "airfoil").is_dir(), reason="DLCLI_DATA_MIRROR has no airfoil")
def test_the_real_airfoil():
    data = Airfoil(**OPTIONS)
    assert sum(len(tensors[0]) for tensors in data.tensors.values()) == 1503
