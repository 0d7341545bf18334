"""``dlcli predict``: from a table to a trained run to predictions, checked by hand with scikit-learn."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from dlcli.api import load_run, train

SHORT = ["trainer.max_epochs=8", "trainer.eval_every=2 epochs", "trainer.checkpoint_every=null", "trainer.device=cpu"]


def write(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """scikit-learn's wine table as a file, with its classes as words, and a run on it whose file is gone."""
    from sklearn.datasets import load_wine

    folder = tmp_path_factory.mktemp("wine")
    raw = load_wine()
    names = ["barolo", "grignolino", "barbera"]
    header = [*raw.feature_names, "grape"]
    rows = [[*features, names[label]] for features, label in zip(raw.data.tolist(), raw.target.tolist(), strict=True)]
    table = write(folder / "wine.csv", header, rows)
    run = train(["data=csv", f"data.path={table}", "data.target=grape", f"run_dir={folder / 'runs'}", *SHORT])
    table.rename(folder / "kept.csv")
    return folder, run, header, rows


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """A regression with large targets, a category and gaps."""
    folder = tmp_path_factory.mktemp("prices")
    random = np.random.RandomState(0)
    rows: list[list[object]] = []
    for _ in range(300):
        size, city = random.rand() * 100, ["Ulm", "Jena", "Bonn"][random.randint(3)]
        price = 1e5 + 3000 * size + 5e4 * (city == "Jena") + 1e3 * random.randn()
        rows.append([f"{size:.3f}" if random.rand() < 0.9 else "", city, f"{price:.2f}"])
    table = write(folder / "prices.csv", ["size", "city", "price"], rows)
    run = train(["data=csv", f"data.path={table}", "data.target=price", f"run_dir={folder / 'runs'}", *SHORT])
    return folder, run, table, rows


def test_classes_with_probabilities(wine, dlcli):
    folder, run, _header, _rows = wine
    output = folder / "predictions.csv"
    code, out, err = dlcli("predict", run.directory, "--input", folder / "kept.csv", "--output", output)
    assert (code, err) == (0, "")
    assert out.startswith(f"{output}: 178 predictions by {run.directory.name} (best weights, step ")
    predictions = read(output)
    assert list(predictions[0]) == [
        *("row", "prediction", "label", "probability_barbera", "probability_barolo", "probability_grignolino")
    ]
    assert [row["row"] for row in predictions] == [str(number) for number in range(1, 179)]
    for row in predictions:
        shares = [float(row[f"probability_{name}"]) for name in run.data.label_names]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert row["label"] == run.data.label_names[int(row["prediction"])]
        assert int(row["prediction"]) == int(np.argmax(shares))


def test_a_run_whose_data_are_built_in_another_way_now(wine, dlcli, tmp_path):
    folder, run, _header, _rows = wine
    old = shutil.copytree(run.directory, tmp_path / "old")
    (old / "config.yaml").write_text((old / "config.yaml").read_text().replace("name: csv", "name: kaggle_house"))
    record = json.loads((old / "spec.json").read_text())
    (old / "spec.json").write_text(json.dumps({**record, "choices": {**record["choices"], "data": "kaggle_house"}}))
    message = (
        "the run was saved when data=kaggle_house was built by 'kaggle_house', and it is built by 'csv' now: "
        "train it again"
    )
    for verb in (
        ["predict", old, "--input", folder / "kept.csv", "--output", tmp_path / "p.csv"],
        ["eval", old],
        ["train", "--resume", old],
    ):
        code, _out, err = dlcli(*verb)
        assert (code, err.strip().removeprefix("dlcli: ")) == (2, message)


def test_predictions_score_as_the_run_was_measured(wine, dlcli):
    from sklearn.metrics import accuracy_score, log_loss

    folder, run, _header, rows = wine
    output = folder / "scored.jsonl"
    assert dlcli("predict", run.directory, "--input", folder / "kept.csv", "--output", output)[0] == 0
    predictions = [json.loads(line) for line in output.read_text().splitlines()]
    for split in ("val", "test"):
        part = run.data.parts[split]
        truth = [rows[row][-1] for row in part]
        shares = [[predictions[row][f"probability_{name}"] for name in run.data.label_names] for row in part]
        normalised = np.array(shares) / np.sum(shares, axis=1, keepdims=True)  # they were rounded to 8 digits
        measured = run.summary["metrics"][split]
        assert accuracy_score(truth, [predictions[row]["label"] for row in part]) == pytest.approx(measured["accuracy"])
        assert log_loss(truth, normalised, labels=run.data.label_names) == pytest.approx(measured["loss"], abs=1e-5)
    assert measured["accuracy"] > 0.9


def test_numbers_in_the_targets_own_unit(prices, dlcli):
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    folder, run, table, rows = prices
    output = folder / "predictions.csv"
    assert dlcli("predict", run.directory, "--input", table, "--output", output)[::2] == (0, "")
    predicted = np.array([float(row["prediction"]) for row in read(output)])
    truth = np.array([float(str(row[-1])) for row in rows])
    for split in ("val", "test"):
        part, measured = run.data.parts[split], run.summary["metrics"][split]
        assert root_mean_squared_error(truth[part], predicted[part]) == pytest.approx(measured["rmse"], rel=1e-4)
        assert mean_absolute_error(truth[part], predicted[part]) == pytest.approx(measured["mae"], rel=1e-4)
        assert r2_score(truth[part], predicted[part]) == pytest.approx(measured["r2"], rel=1e-3, abs=1e-4)
    assert measured["rmse"] > 1000
    _code, out, _ = dlcli("eval", run.directory, "--split", "test", "--json")
    assert json.loads(out)["metrics"]["rmse"] == pytest.approx(measured["rmse"])


def test_columns_are_found_by_name_and_strange_values_reported(prices, dlcli):
    folder, run, _, _ = prices
    rows = [["red", "Ulm", "50"], ["blue", "Rome", "50"], ["red", "Ulm", "fifty"], ["red", "Ulm", ""]]
    new = write(folder / "new.csv", ["colour", "city", "size"], rows)
    output = folder / "new_predictions.csv"
    code, _out, err = dlcli("predict", run.directory, "--input", new, "--output", output)
    assert code == 0
    assert err.split("\n")[:-1] == [
        "note: columns that the run does not know were ignored: colour",
        "note: 'size': 1 value unreadable as a number, taken as missing",
        "note: 'city': 1 value of categories unseen in training, taken as none of them",
    ]
    values = [row["prediction"] for row in read(output)]
    assert values[0] != values[1]
    assert values[2] == values[3]


def test_missing_columns_are_named(prices, dlcli):
    folder, run, _, _ = prices
    new = write(folder / "less.csv", ["price", "x"], [["1", "2"]])
    output = folder / "none.csv"
    assert dlcli("predict", run.directory, "--input", new, "--output", output) == (
        3,
        "",
        f"dlcli: {new}:1: lacks the columns size, city, which the run learned from\n",
    )
    assert not output.exists()
    assert not list(folder.glob(".none*"))


def test_another_table_is_evaluated_with_the_run_s_own_statistics(prices):
    folder, run, _, rows = prices
    half = write(folder / "half.csv", ["price", "size", "city"], [[r[2], r[0], r[1]] for r in rows if r[1] != "Ulm"])
    saved = load_run(run.directory)
    from dlcli.saved_run import SavedRun

    other = SavedRun(Path(run.directory), overrides=[f"data.path={half}"], device="cpu")
    measured = other.evaluate("train")
    predictions = [v for batch in saved.predictions(half) for v in batch["prediction"]]
    truth = [float(str(row[2])) for row in rows if row[1] != "Ulm"]
    part = other.data.parts["train"]
    errors = np.array(predictions)[part] - np.array(truth)[part]
    assert measured["rmse"] == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-4)


@pytest.mark.parametrize("target_first", [True, False])
def test_without_a_header_columns_stand_in_their_order(tmp_path, dlcli, target_first):
    random = np.random.RandomState(0)
    x = random.randn(80, 2)
    y = x @ [3, -1] + 0.25
    columns = [y, *x.T] if target_first else [*x.T, y]
    np.savetxt(tmp_path / "t.csv", np.stack(columns, 1), delimiter=",")
    np.savetxt(tmp_path / "new.csv", x, delimiter=",")
    target = "c0" if target_first else "c2"
    run = train(["data=csv", f"data.path={tmp_path / 't.csv'}", f"data.target={target}", f"run_dir={tmp_path}", *SHORT])
    outputs = []
    for name in ("t", "new"):
        output = tmp_path / f"{name}_out.csv"
        assert dlcli("predict", run.directory, "--input", tmp_path / f"{name}.csv", "--output", output)[0] == 0
        outputs.append(output.read_text())
    assert outputs[0] == outputs[1]


@pytest.fixture(scope="module", params=["char", "word", "byte"])
def text_run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "book.txt").write_text("the cat sat on the mat\nthe dog ate the cat\n" * 60)
    options = [
        "data.sequence_length=8",
        "data.batch_size=4",
        f"data.tokenization={request.param}",
        "trainer.max_steps=60",
    ]
    overrides = ["data=text", f"data.path={folder / 'book.txt'}", "model=rnn", *options, "task.sample.length=5"]
    return folder, train([*overrides, f"run_dir={folder / 'runs'}", "trainer.eval_every=30"])


def test_lines_of_a_text(text_run, dlcli):
    folder, run = text_run
    (folder / "lines.txt").write_text("the cat sat on the mat\n\ntam eht no tas tac eht\nthe dog\n")
    output = folder / "lines.csv"
    code, _, err = dlcli("predict", run.directory, "--input", folder / "lines.txt", "--output", output)
    assert (code, err) == (0, "")
    rows = read(output)
    assert [row["line"] for row in rows] == ["1", "3", "4"]
    assert float(rows[0]["loss"]) < float(rows[1]["loss"])
    for row in rows:
        assert float(row["perplexity"]) == pytest.approx(math.exp(float(row["loss"])), rel=1e-5)
    if run.data.vocabulary.kind != "word":
        bits = float(rows[0]["loss"]) / math.log(2)
        assert float(rows[0]["bits_per_character"]) == pytest.approx(bits, rel=1e-5)
        assert rows[0]["tokens"] == "22"
    # a line's loss does not depend on the lines beside it
    (folder / "one.txt").write_text("the dog\n")
    assert dlcli("predict", run.directory, "--input", folder / "one.txt", "--output", output)[0] == 0
    assert float(read(output)[0]["loss"]) == pytest.approx(float(rows[2]["loss"]), rel=1e-5)


def test_characters_that_a_text_model_does_not_know(text_run, dlcli):
    folder, run = text_run
    if run.data.vocabulary.kind != "char":
        pytest.skip("bytes and words have no unknown characters")
    (folder / "odd.txt").write_text("the ÄÖ cat\n")
    code, _, err = dlcli("predict", run.directory, "--input", folder / "odd.txt", "--output", folder / "odd.jsonl")
    assert (code, err) == (0, "note: 2 characters that the run does not know were left out\n")


def test_usage(wine, dlcli, tmp_path):
    folder, run, _, _ = wine
    kept = folder / "kept.csv"
    cases = [
        (
            (kept, "out.txt"),
            2,
            "--output out.txt: its suffix is not .csv or .jsonl; name it so, or add --format csv|jsonl",
        ),
        ((folder / "no.csv", "out.csv"), 3, f"{folder / 'no.csv'}: no such file or folder"),
        ((kept, kept), 2, f"--output {kept}: expected a new file, beside the input"),
        ((kept, tmp_path / "no" / "out.csv"), 2, "cannot be written (No such file or directory)"),
        ((folder, "out.csv"), 3, "a folder; give data.path one file"),
    ]
    for (source, output), expected, message in cases:
        code, out, err = dlcli("predict", run.directory, "--input", source, "--output", output)
        assert (code, out) == (expected, "")
        assert message in err
        assert err.count("\n") == 1
    out = tmp_path / "out.txt"
    assert dlcli("predict", run.directory, "--input", kept, "--output", out, "--format", "csv")[0] == 0
    assert len(read(out)) == 178


def test_data_without_predictions(tmp_path, dlcli):
    run = train(["data=synthetic_regression", f"run_dir={tmp_path}", "trainer.max_steps=2"])
    (tmp_path / "x.csv").write_text("1,2\n")
    code, _, err = dlcli("predict", run.directory, "--input", tmp_path / "x.csv", "--output", tmp_path / "out.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "predictions are made for own tables, texts and folders of pictures" in err


def test_balanced_class_weights(tmp_path):
    rows: list[list[object]] = [[n, "rare" if n % 10 == 0 else "common"] for n in range(100)]
    table = write(tmp_path / "t.csv", ["x", "y"], rows)
    options = ["data=csv", f"data.path={table}", "data.target=y", "task.class_weights=balanced", f"run_dir={tmp_path}"]
    run = train([*options, "trainer.max_steps=2"])
    counts = run.data.tensors["train"][2].bincount().double()
    weights = run.task.class_weights.double()
    assert weights.tolist() == pytest.approx((counts.sum() / (2 * counts)).tolist())
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)


def test_a_submission_has_the_rows_names_and_the_target_alone(tmp_path, dlcli):
    rows = [[f"house {row}", row, 3 * row + 1] for row in range(40)]
    table = write(tmp_path / "houses.csv", ["house", "size", "price"], rows)
    options = ["data=csv", f"data.path={table}", "data.target=price", "data.identity=house", "data.submission=true"]
    run = train([*options, "model=linear_closed_form", "trainer=fit", f"run_dir={tmp_path / 'runs'}"])
    assert run.data.spec.input_shape == (1,)  # nothing is learned from names
    new = write(tmp_path / "new.csv", ["house", "size"], [["villa", 100], ["hut", 2]])
    dlcli("predict", str(run.directory), "--input", str(new), "--output", str(tmp_path / "submission.csv"))
    found = read(tmp_path / "submission.csv")
    assert [list(row) for row in found] == [["house", "price"]] * 2
    assert [row["house"] for row in found] == ["villa", "hut"]
    assert [float(row["price"]) for row in found] == pytest.approx([301, 7], rel=1e-4)
    write(tmp_path / "nameless.csv", ["size"], [[100]])
    code, _, said = dlcli("predict", str(run.directory), "--input", str(tmp_path / "nameless.csv"), "--output", "o.csv")
    assert code == 3
    assert "lacks the column house, which names the rows" in said


def test_eval_draws_what_is_no_number(tmp_path, dlcli):
    options = ["data=digits", "model=linear", "trainer.max_epochs=null", "trainer.max_steps=3"]
    run = train([*options, f"run_dir={tmp_path / 'runs'}"])
    names = {"confusion_matrix.png", "most_confident_mistakes.png"}
    assert {f"test_{name}" for name in names} <= {file.name for file in run.directory.iterdir()}
    drawn = tmp_path / "drawn"
    code, _, _ = dlcli("eval", str(run.directory), "--split", "val", "--pictures", str(drawn))
    assert code == 0
    assert {file.name for file in drawn.iterdir()} == {f"val_{name}" for name in names}
    (tmp_path / "file").touch()
    code, _, said = dlcli("eval", str(run.directory), "--pictures", str(tmp_path / "file" / "x"))
    assert code == 2
    assert "--pictures" in said
    assert "no folder can be made there (Not a directory)" in said
