"""Cross-validation: a fold is an index set that depends on seed and fold alone, for every supervised data set."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from dlcli import train
from dlcli.catalogue import load_yaml
from dlcli.data.base import DataModule
from dlcli.data.published_pictures import held_out
from dlcli.data.splits import divide, random_order
from dlcli.errors import ConfigError, DataError
from dlcli.registry import DATA

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def build(name: str, **options: object) -> DataModule:
    config = {key: value for key, value in load_yaml(CONFIGS / f"{name}.yaml").items() if key != "defaults"}
    built: DataModule = DATA.build({**config, **options})
    return built


def houses(folder: Path, rows: int = 60) -> Path:
    """A table of houses with a price, a gap and a text."""
    random = np.random.RandomState(0)
    file = folder / "houses.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["size", "street", "price"])
        for row in range(rows):
            size = int(random.randint(50, 250))
            writer.writerow([size if row % 9 else "NA", "AB"[row % 2], 1000 * size + 5000 * (row % 2) + 700])
    return file


def test_without_folds_no_fold_can_be_named() -> None:
    with pytest.raises(ConfigError, match="data.fold=2: say with data.folds how many parts there are"):
        divide(random_order(30, 0), 0.2, 0.2, None, 2)
    with pytest.raises(ConfigError, match="data.fold=3: with data.folds=3, expected 0 to 2"):
        divide(random_order(30, 0), 0.2, 0.2, 3, 3)
    with pytest.raises(ConfigError, match="data.folds=30: only 24 rows left beside the test"):
        divide(random_order(30, 0), 0.2, 0.2, 30, 0)


def test_without_a_validation_part_the_test_rows_validate_or_else_those_that_train() -> None:
    parts = divide(random_order(30, 0), 0.0, 0.2, None, 0)
    assert sorted(parts["val"]) == sorted(parts["test"])
    assert sorted([*parts["train"], *parts["test"]]) == list(range(30))
    parts = divide(random_order(30, 0), 0.0, 0.0, None, 0)
    assert "test" not in parts
    assert sorted(parts["val"]) == sorted(parts["train"]) == list(range(30))


def test_the_folds_of_digits_share_the_test_and_cover_the_rest_once() -> None:
    folds = [build("digits", folds=4, fold=fold) for fold in range(4)]
    tests = {fold.tensors["test"][0].numpy().tobytes() for fold in folds}
    assert len(tests) == 1
    assert tests == {build("digits").tensors["test"][0].numpy().tobytes()}
    sizes = [len(fold.tensors["val"][0]) for fold in folds]
    assert sum(sizes) == 1797 - 360
    assert max(sizes) - min(sizes) <= 1
    validated = torch.cat([fold.tensors["val"][0] for fold in folds]).flatten(1)
    assert sorted(map(bytes, validated.numpy())) == sorted(
        map(bytes, torch.cat([folds[0].tensors[s][0] for s in ("train", "val")]).flatten(1).numpy())
    )
    for fold in folds:  # stratified
        counts = fold.tensors["val"][1].bincount()
        assert counts.min() > 25
        assert torch.equal(fold.tensors["val"][1], build("digits", folds=4, fold=folds.index(fold)).tensors["val"][1])


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", ["airfoil", "boston_housing"])
def test_the_folds_of_a_table_are_standardised_by_their_own_training_rows(name: str) -> None:
    one, two = build(name, folds=3, fold=0), build(name, folds=3, fold=1)
    assert torch.isclose(one.tensors["train"][0].mean(0), torch.zeros(1), atol=1e-4).all()
    assert not torch.equal(one.tensors["test"][0], two.tensors["test"][0])  # the same rows, by other statistics
    assert torch.equal(one.tensors["test"][0], build(name, folds=3, fold=0).tensors["test"][0])


@pytest.mark.usefixtures("mirror")
def test_folds_classes_and_noise_of_fashion_mnist() -> None:
    data = build("fashion_mnist", folds=5, fold=4, classes=[1, 0], label_noise=0.1)
    assert data.label_names == ["trouser", "T-shirt"]
    assert len(data.tensors["train"][0]) + len(data.tensors["val"][0]) == 12_000
    clean = build("fashion_mnist", folds=5, fold=4, classes=[1, 0])
    assert torch.equal(clean.tensors["val"][1], data.tensors["val"][1])
    changed = (clean.tensors["train"][1] != data.tensors["train"][1]).float().mean()
    assert changed.item() == pytest.approx(0.1, abs=1e-3)


def test_with_folds_nothing_else_is_held_out() -> None:
    train = torch.arange(10.0).reshape(10, 1, 1, 1), torch.arange(10)
    parts = held_out(train, train, None, 10, 0, folds=5, fold=1)  # val_size, which counts for nothing
    assert [len(parts[split][1]) for split in ("train", "val")] == [8, 2]
    with pytest.raises(ConfigError, match="data.val_size=10: expected less than the 10 training pictures"):
        held_out(train, train, None, 10, 0, folds=None, fold=0)


def test_the_predictions_of_several_folds_are_their_mean(tmp_path: Path) -> None:
    table = houses(tmp_path)
    from dlcli.saved_run import Predictions, SavedRun

    options = [f"data.path={table}", "data.target=price", "data.log_target=true", "model=linear_closed_form"]
    options += ["data=csv", "trainer=fit", "data.folds=3", "data.test_fraction=0"]
    runs = [train([*options, f"data.fold={fold}", f"run_dir={tmp_path / 'runs'}"]) for fold in range(3)]
    saved = [SavedRun(run.directory, device="cpu") for run in runs]
    alone = [next(iter(Predictions([run], table)))["prediction"] for run in saved]
    together = next(iter(Predictions(saved, table)))
    assert together["row"] == [str(row) for row in range(1, 61)]
    assert together["prediction"] == pytest.approx(np.mean(alone, axis=0).tolist())
    assert np.median(np.abs(np.array(alone[0]) / alone[1] - 1)) < 0.2
    assert 50_000 < np.median(alone[0]) < 250_000, "in the prices' unit, not in logarithms"


def test_folds_of_pictures_predict_together(tmp_path: Path) -> None:
    from PIL import Image

    from dlcli.saved_run import Predictions, SavedRun

    for number in range(24):  # the redder, the higher the number; red and blue ones
        kind = "red" if number % 2 else "blue"
        (tmp_path / "pictures" / kind).mkdir(parents=True, exist_ok=True)
        colour = (150 + number, 0, 100) if number % 2 else (100 - number, 0, 150)
        Image.new("RGB", (6, 6), colour).save(tmp_path / "pictures" / kind / f"{number:02}.png")
    options = [f"data.path={tmp_path / 'pictures'}", "data=image_folder", "data.size=4", "model=linear"]
    options += ["data.folds=3", "trainer.max_steps=2", f"run_dir={tmp_path / 'runs'}"]
    saved = [SavedRun(train([*options, f"data.fold={fold}"]).directory, device="cpu") for fold in range(3)]
    alone = [next(iter(Predictions([run], tmp_path / "pictures")))["probability_red"] for run in saved]
    together = next(iter(Predictions(saved, tmp_path / "pictures")))
    assert len(together["file"]) == 24
    assert together["probability_red"] == pytest.approx(np.mean(alone, axis=0).tolist(), abs=1e-6)
    assert not np.allclose(alone[0], alone[1])


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", ["hotdog", "kaggle_cifar10_tiny"])
def test_published_folders_of_pictures_have_folds(name: str) -> None:
    folds = [build(name, folds=5, fold=fold, size=32) for fold in range(5)]
    validated = torch.cat([fold.tensors["val"][0] for fold in folds]).tolist()  # type: ignore[attr-defined]
    assert len(validated) == len(set(validated)) == {"hotdog": 140, "kaggle_cifar10_tiny": 100}[name]


def test_runs_that_predict_together_say_one_thing_about_each_column(tmp_path: Path) -> None:
    from dlcli.saved_run import Predictions, SavedRun

    table, strange = tmp_path / "table.csv", tmp_path / "strange.csv"
    table.write_text("x1,x2,y\n" + "".join(f"{row},{row % 7},{row + row % 3}.5\n" for row in range(40)))
    strange.write_text("x1,x2\nmany,1\nmany,few\n3,few\n4,few\n")
    options = ["data=csv", f"data.path={table}", "data.target=y", "data.folds=2", "data.test_fraction=0"]
    options += ["model=linear_closed_form", "trainer=fit", f"run_dir={tmp_path / 'runs'}"]
    predictions = Predictions(
        [SavedRun(train([*options, f"data.fold={fold}"]).directory) for fold in range(2)], strange
    )
    assert len(list(predictions)) == 1
    assert predictions.notes == [
        "'x1': 2 values unreadable as a number, taken as missing",
        "'x2': 3 values unreadable as a number, taken as missing",
    ]


def test_a_logarithm_needs_positive_numbers(tmp_path: Path) -> None:
    file = houses(tmp_path)
    file.write_text(file.read_text().replace("A,", "A,-"))
    with pytest.raises(DataError, match=r"houses.csv:2: the target 'price' is -\d+; a logarithm needs more than 0"):
        train(["data=csv", f"data.path={file}", "data.target=price", "data.log_target=true", f"run_dir={tmp_path}"])


@pytest.mark.usefixtures("mirror")
def test_kaggle_houses_have_the_books_rows_and_a_file_to_submit(mirror: Path, tmp_path: Path) -> None:
    from dlcli.saved_run import Predictions, SavedRun

    data = build("kaggle_house", folds=5, fold=1)
    assert len(data.tensors["train"][0]) == len(data.tensors["val"][0]) * 4 == 1168
    assert data.spec.num_targets == 1
    assert data.target_scale is not None
    assert data.target_scale.log
    run = train(
        ["data=kaggle_house", "model=linear_closed_form", "model.l2=30", "trainer=fit", f"run_dir={tmp_path / 'runs'}"]
    )
    rows = next(iter(Predictions([SavedRun(run.directory)], mirror / "kaggle-house" / "kaggle_house_pred_test.csv")))
    assert list(rows) == ["Id", "SalePrice"]
    assert rows["Id"][:2] == ["1461", "1462"]
    assert len(rows["SalePrice"]) == 1459
    assert 100_000 < np.median(rows["SalePrice"]) < 250_000
