"""People's own tables: what is read, what is inferred, what the training rows decide, and what is refused."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlcli import catalogue
from dlcli.config import compose
from dlcli.data.csv_file import CsvTable
from dlcli.errors import ConfigError, DataError
from dlcli.registry import DATA

DEFAULTS = {key: value for key, value in catalogue.entries("data")["csv"].content().items() if key != "name"}
ROOT = Path(catalogue.__file__).parent.parent


def write(path: Path, rows: list[list[Any]], delimiter: str = ",", encoding: str = "utf-8", end: str = "\n") -> Path:
    path.write_bytes("".join(delimiter.join(map(str, row)) + end for row in rows).encode(encoding))
    return path


def load(path: Path, target: str = "y", **options: Any) -> CsvTable:
    return DATA.build({"name": "csv", **DEFAULTS, "path": str(path), "target": target, **options})


def mixed(count: int = 60) -> list[list[Any]]:
    """A table with a column of every kind, and some values missing."""
    random = np.random.RandomState(0)
    rows: list[list[Any]] = [["size", "kind", "open", "day", "y"]]
    for number in range(count):
        size = "NA" if number % 10 == 3 else f"{random.randn():.4f}"
        kind = ["red", "green", "blue", ""][number % 4]
        rows.append([size, kind, ["yes", "no"][number % 2], f"2024-01-{1 + number % 28:02d}", f"{random.randn():.3f}"])
    return rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "table.csv", mixed())


def fitted(data: CsvTable) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in data.encoding.columns}


# ---------------------------------------------------------------------- kinds and features


def test_a_column_of_every_kind(table: Path):
    data = load(table)
    columns = fitted(data)
    assert {name: column["form"] for name, column in columns.items()} == {
        "size": "number",
        "kind": "category",
        "open": "boolean",
        "day": "iso",
    }
    assert columns["size"]["indicator"]
    assert columns["kind"]["categories"] == ["blue", "green", "red"]
    assert columns["kind"]["missing"]
    # size, open, 5 numbers of the day, size's indicator, 3 colours and none
    assert data.spec.input_shape == (1 + 1 + 5 + 1 + 4,)
    assert (data.spec.num_targets, data.spec.num_classes) == (1, None)


def test_features_by_hand(table: Path):
    data = load(table, standardize_targets=False)
    rows = mixed()[1:]
    train = data.parts["train"]
    features, targets = data.batches("train", order="sequential")[0]
    first = rows[train[0]]
    sizes = [float(rows[row][0]) for row in train if rows[row][0] != "NA"]
    expected = 0.0 if first[0] == "NA" else (float(first[0]) - np.mean(sizes)) / np.std(sizes)
    assert features[0, 0].item() == pytest.approx(expected, rel=1e-5)
    for row, position in zip(features, train, strict=False):
        assert row[7] == (rows[position][0] == "NA")
        colour = ["blue", "green", "red", ""].index(rows[position][1])
        assert row[8:].tolist() == [float(colour == place) for place in range(4)]
    assert targets[0].item() == pytest.approx(float(first[4]), rel=1e-6)
    everything = torch.cat([data.batches("train", order="sequential")[i].features for i in range(2)])
    assert everything[:, 1:7].mean(0).abs().max() < 1e-6
    assert (everything[:, 1:7].std(0, correction=0) - 1).abs().max() < 1e-5


def test_statistics_come_from_the_training_rows_only(tmp_path: Path):
    rows = mixed()
    data = load(write(tmp_path / "a.csv", rows))
    for row in [*data.parts["val"], *data.parts["test"]]:
        rows[1 + row][0], rows[1 + row][1], rows[1 + row][4] = "1e6", "violet", "1e6"
    changed = load(write(tmp_path / "b.csv", rows))
    assert changed.encoding.columns == data.encoding.columns
    assert changed.target_scale == data.target_scale
    violet = changed.batches("val", order="sequential")[0].features[:, 8:]
    assert (violet == 0).all()  # no training row is violet


def test_rare_categories_share_a_feature(tmp_path: Path):
    texts = ["a"] * 40 + ["b"] * 30 + ["c", "d", "e", "f"] * 2
    rows = [["text", "y"], *([text, number % 7 + 0.5] for number, text in enumerate(texts))]
    data = load(write(tmp_path / "t.csv", rows), max_categories=2)
    assert fitted(data)["text"]["categories"] == ["a", "b", None]
    assert all((data.batches(split, order="sequential")[0].features.sum(1) == 1).all() for split in data.splits)


def test_columns_of_no_use_are_left_out_with_a_note(tmp_path: Path):
    rows = [["empty", "same", "id", "x", "y"]]
    rows += [["NaN", "7", f"person number {n}", n * 1.5, n % 9 + 0.5] for n in range(60)]
    data = load(write(tmp_path / "t.csv", rows))
    assert list(fitted(data)) == ["x"]
    assert data.unused == {"empty": "empty", "same": "constant", "id": "free text"}
    assert "not used, since empty in the training rows: empty" in data.notes
    with pytest.raises(DataError, match="no column to learn from beside the target 'y'; 'empty' is empty"):
        load(tmp_path / "t.csv", ignore=["x"])


def test_a_kind_that_later_rows_contradict(tmp_path: Path):
    rows = [["late", "date", "y"]]
    for n in range(10_500):  # the first chunk holds 10,000 rows
        late = "" if n < 10_000 else ["x", "z"][n % 2]
        rows.append([late if n != 9_000 else "5", f"{1 + n % 12}/{1 + n % 12}/2020" if n < 10_400 else "12/25/2020", n])
    data = load(write(tmp_path / "t.csv", rows), split_seed=1)
    assert fitted(data)["late"]["form"] == "category"
    assert set(fitted(data)["late"]["categories"]) <= {"5", "x", "z"}
    assert fitted(data)["date"]["form"] == "month/day"


def test_numbers_that_are_categories_if_people_say_so(tmp_path: Path):
    rows = [["code", "y"], *([n % 3, n + 0.5] for n in range(60))]
    path = write(tmp_path / "t.csv", rows)
    assert load(path).spec.input_shape == (1,)
    assert load(path, categories=["code"]).spec.input_shape == (3,)


@pytest.mark.parametrize("text", ["1_000", "abc", "12 apples"])
def test_what_is_no_number(tmp_path: Path, text: str):
    rows = [["x", "y"], *([text if n % 2 else "z", n + 0.5] for n in range(60))]
    assert fitted(load(write(tmp_path / "t.csv", rows)))["x"]["form"] == "category"


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_encodings_and_line_ends(tmp_path: Path, delimiter: str, encoding: str, end: str):
    rows = [["größe", "y"], *([n * 1.25, n + 0.5] for n in range(30))]
    data = load(write(tmp_path / "t.csv", rows, delimiter, encoding, end))
    assert list(fitted(data)) == ["größe"]
    assert any("read as Windows-1252" in note for note in data.notes) == (encoding == "cp1252")


def test_gzip_quotes_and_decimal_commas(tmp_path: Path):
    lines = ['"a; ""quoted"" name";y', *(f'"{n},5";{n},25' for n in range(30))]
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    data = load(file, standardize_targets=False)
    assert fitted(data)['a; "quoted" name']["form"] == "number"
    assert sorted(data.goal.values) == [n + 0.25 for n in range(30)]
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged gzip file"):
        load(file)


def test_without_a_header(tmp_path: Path):
    rows = [[n, n % 4 * 1.5, n + 0.25] for n in range(40)]
    path = write(tmp_path / "t.csv", rows)
    data = load(path, "c2")
    assert len(data.goal.values) == 40
    assert len(load(path, "c2", header=False).goal.values) == 40
    assert len(load(path, "0.25", header=True).goal.values) == 39
    years = write(tmp_path / "y.csv", [["2019", "2020", "y"], *rows])
    assert len(load(years).goal.values) == 40  # the target's name shows that the numbers above are names


def test_columns_aligned_with_spaces(tmp_path: Path):
    file = tmp_path / "t.data"
    file.write_text("".join(f"  {n:4d}   {n * 1.5:6.2f}  {n + 0.5}\n" for n in range(40)))
    assert len(load(file, "c2").goal.values) == 40


# ---------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (lambda n: n + 0.5, "number"),
        (lambda n: n, "number"),
        (lambda n: n % 3, "class"),
        (lambda n: ["ham", "spam"][n % 2], "class"),
        (lambda n: ["yes", "no"][n % 2], "class"),
        (lambda n: n % 7, "class"),
    ],
)
def test_the_target_decides_the_task(tmp_path: Path, values: Any, found: str):
    path = write(tmp_path / "t.csv", [["x", "y"], *([n, values(n)] for n in range(60))])
    composed = compose(["data=csv", f"data.path={path}", "data.target=y"])
    assert composed.config["data"]["target_type"] == found
    assert composed.config["task"]["name"] == {"number": "regression", "class": "classification"}[found]
    assert composed.choices["trainer"] == "minibatch_small_data"
    data = load(path)
    assert (data.label_names is None) == (found == "number")


def test_a_named_task_wins(tmp_path: Path):
    path = write(tmp_path / "t.csv", [["x", "y"], *([n, n % 3] for n in range(60))])
    arguments = ["data=csv", f"data.path={path}", "data.target=y"]
    composed = compose([*arguments, "task=regression", "trainer=minibatch"])
    assert (composed.config["task"]["name"], composed.config["data"]["target_type"]) == ("regression", "number")
    assert composed.choices["trainer"] == "minibatch"
    assert compose([*arguments, "data.target_type=number"]).choices["task"] == "regression"
    with pytest.raises(ConfigError, match="task 'classification' needs num_classes, which data 'csv' does not define"):
        compose([*arguments, "data.target_type=number", "task=classification"])


def test_a_data_file_or_an_experiment_may_name_the_task(tmp_path: Path, config_dir: Path):
    path = write(tmp_path / "t.csv", [["x", "y"], *([n, n % 3] for n in range(60))])
    (config_dir / "data").mkdir()
    mine = "defaults:\n  - csv\n  - override /task@_global_.task: regression\npath: {}\ntarget: y\n"
    (config_dir / "data" / "mine.yaml").write_text("# Mine\n" + mine.format(path) + "name: csv\n")
    (config_dir / "experiment").mkdir()
    recipe = "# @package _global_\n# Mine\ndefaults:\n  - override /data: csv\n  - override /task: {}\n"
    text = recipe + f"data:\n  path: {path}\n  target: y\n"
    (config_dir / "experiment" / "numbers.yaml").write_text(text.format("regression"))
    (config_dir / "experiment" / "classes.yaml").write_text(text.format("classification"))
    assert compose(["data=mine"], [config_dir]).config["data"]["target_type"] == "number"
    assert compose(["experiment=numbers"], [config_dir]).config["data"]["target_type"] == "number"
    assert compose(["experiment=classes"], [config_dir]).config["data"]["target_type"] == "class"


def test_classes_keep_their_names_and_shares(tmp_path: Path):
    names = ["c", "a", "a", "b"]
    data = load(write(tmp_path / "t.csv", [["x", "y"], *([n, names[n % 4]] for n in range(100))]))
    assert data.label_names == ["a", "b", "c"]
    for split in data.splits:
        counts = data.tensors[split][2].bincount().tolist()
        assert counts[0] == pytest.approx(2 * counts[1], abs=1)
        assert counts[1] == pytest.approx(counts[2], abs=1)


def test_looking_at_the_target_imports_no_torch(table: Path):
    code = (
        "import sys; from dlcli.config import compose\n"
        f"compose(['data=csv', 'data.path={table}', 'data.target=y'])\nprint('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_everything_else_that_is_wrong_is_reported_before_a_bad_file(tmp_path: Path):
    arguments = ["data=csv", f"data.path={tmp_path}/none.csv", "data.target=y"]
    with pytest.raises(DataError, match="none.csv: no such file"):
        compose(arguments)
    with pytest.raises(ConfigError, match="unknown option 'model.x'"):
        compose([*arguments, "model.x=1"])
    with pytest.raises(ConfigError, match="data.path must be given"):
        compose(["data=csv"])


# ---------------------------------------------------------------------- parts


def test_parts_by_a_column(tmp_path: Path):
    words = ["train", "Train", "valid", "test", "training"]
    rows = [["x", "part", "y"], *([n, words[n % 5], n + 0.5] for n in range(50))]
    path = write(tmp_path / "t.csv", rows)
    data = load(path, split_column="part")
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 30, "val": 10, "test": 10}
    assert list(fitted(data)) == ["x"]
    rows[7][1] = "later"
    with pytest.raises(DataError, match=r"t.csv:8: data.split_column=part holds 'later'; expected train, val or test"):
        load(write(path, rows), split_column="part")


def test_parts_by_time(tmp_path: Path):
    days = np.random.RandomState(0).permutation(50)
    rows = [["day", "x", "y"], *([f"{1 + d % 28:02d}.{1 + d // 28:02d}.2024", d, d + 0.5] for d in days)]
    data = load(write(tmp_path / "t.csv", rows), time_column="day")
    assert days[data.parts["test"]].tolist() == list(range(40, 50))
    assert days[data.parts["val"]].tolist() == list(range(32, 40))
    rows[4][0] = ""
    with pytest.raises(DataError, match=r"t.csv:5: data.time_column=day has no value here"):
        load(write(tmp_path / "t.csv", rows), time_column="day")


def test_features_are_standardised_by_the_training_rows_or_by_all(tmp_path: Path):
    rows = [["x", "y"], *([number**2, number] for number in range(1, 41))]
    table = write(tmp_path / "squares.csv", rows)
    own, all_rows = (load(table, standardize_by=by, target_type="number") for by in ("train", "all"))
    values = np.arange(1, 41.0) ** 2
    for data, seen in ((own, values[own.parts["train"]]), (all_rows, values)):
        assert fitted(data)["x"]["means"] == pytest.approx([seen.mean()])
        assert fitted(data)["x"]["deviations"] == pytest.approx([seen.std()])
    assert own.target_scale == all_rows.target_scale  # the target's is always of the training rows


def test_folds_are_a_pure_function_of_seed_and_fold(table: Path):
    folds = [load(table, folds=5, fold=fold) for fold in range(5)]
    tests = {tuple(data.parts["test"]) for data in folds}
    assert len(tests) == 1
    validated = np.concatenate([data.parts["val"] for data in folds])
    assert sorted([*validated, *folds[0].parts["test"]]) == list(range(60))
    for data in folds:
        assert not set(data.parts["train"]) & {*data.parts["val"], *data.parts["test"]}
    again = load(table, folds=5, fold=2)
    assert (again.parts["val"] == folds[2].parts["val"]).all()
    assert (load(table, folds=5, fold=2, split_seed=1).parts["val"] != folds[2].parts["val"]).any()
    with pytest.raises(ConfigError, match="data.fold=5: with data.folds=5, expected 0 to 4"):
        load(table, folds=5, fold=5)
    assert load(table, test_fraction=0.0).splits == ("train", "val")


def test_options_that_exclude_each_other(table: Path):
    with pytest.raises(ConfigError, match="exclude each other"):
        load(table, folds=5, time_column="day")
    with pytest.raises(ConfigError, match="data.split=stratified: the target 'y' is a number"):
        load(table, split="stratified")
    with pytest.raises(ConfigError, match="expected at least 1 each"):
        load(table, val_fraction=1.0)


# ---------------------------------------------------------------------- what is refused

GOOD = "x,y\n" + "".join(f"{n},{n}.5\n" for n in range(30))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.csv: the file is empty"),
        (b"\n\n \n", "bad.csv: the file is empty"),
        (b"x,y\n", "bad.csv: a header and no rows"),
        (b"x,y\n1,2\n1,2,3\n", "bad.csv:3: 3 fields, expected 2"),
        (GOOD.encode() + b"7\n", "bad.csv:32: 1 field, expected 2"),
        (b"x,z\n1,2\n", "bad.csv: data.target=y: no such column; known: x, z"),
        (b"x,yy\n1,2\n", "bad.csv: data.target=y: no such column; did you mean yy"),
        (b"1,2\n3,4\n", "the file has no header, so its columns are named c0, c1"),
        (b"x,y,x\n1,2,3\n", "bad.csv:1: two columns are named 'x'"),
        ("\n".join(GOOD.split("\n")[:11]).encode(), "bad.csv: 10 rows; to train, validate and test.*at least 20"),
        (GOOD.replace("7,7.5", "7,NA").encode(), r"bad.csv:9: the target 'y' has no value here \(in 1 of 30 rows\)"),
        (b"x,y\n" + b"1,5\n" * 30, "the target 'y' is '5' in all 30 rows"),
        (b"x,y\n" + b"1,cat\n" * 30, "the target 'y' is 'cat' in all 30 rows"),
        (b"x,y\n" + b"".join(b"1,name %d\n" % n for n in range(30)), "30 different texts such as 'name 0' in 30 rows"),
        (GOOD.encode() + b"\0\0", "bad.csv:32: not text: byte 224 is NUL"),
        (b"x,y\n\x81,2\n", "bad.csv: not utf-8 text: byte 4 is 0x81; name its encoding with data.encoding"),
        (b'x,y\n1,"2\n' + b"3,4\n" * 400_000, "bad.csv:.*is a quote missing"),
        (bytes(range(1, 256)) * 9, "bad.csv"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_other_things_than_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such file; give data.path a table"):
        load(tmp_path / "none.csv")
    with pytest.raises(DataError, match="a folder; give data.path one file"):
        load(tmp_path)
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "dangling.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        load(tmp_path / "pipe.csv")


def test_bad_options_are_refused(table: Path):
    for encoding in ("klingon", "base64"):
        with pytest.raises(ConfigError, match=f"data.encoding={encoding}: not an encoding"):
            load(table, encoding=encoding)
    with pytest.raises(DataError, match="not in data.encoding=ascii: byte 0 is 0xc3"):
        load(write(table, [["é", "y"]]), encoding="ascii")
    with pytest.raises(ConfigError, match="data.delimiter=::: expected one character"):
        load(table, delimiter="::")
    table.write_text(GOOD)
    with pytest.raises(DataError, match="data.ignore=z: no such column"):
        load(table, ignore=["z"])


def test_texts_are_no_numbers_and_numbers_few_classes(tmp_path: Path):
    path = write(tmp_path / "t.csv", [["x", "y"], *([n, "ab"[n % 2]] for n in range(60))])
    with pytest.raises(DataError, match="has texts such as 'a', not numbers; predict it as a class"):
        load(path, target_type="number")
    path = write(tmp_path / "t.csv", [["x", "y"], *([n, n / 7] for n in range(1500))])
    with pytest.raises(DataError, match="1,500 different numbers, and at most 1,000 can be classes"):
        load(path, target_type="class")


def test_a_line_of_a_gigabyte_takes_little_memory(tmp_path: Path):
    """As a gzip file of 1 MB; the limit is well below what the line would need."""
    file = tmp_path / "long.csv.gz"
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(b"x,y\n1,")
        for _ in range(1024):
            stream.write(b"2" * (1 << 20))
    code = (
        "import re; from pathlib import Path; from dlcli.data.delimited import scan\n"
        "from dlcli.errors import DataError\n"
        f"try: scan(Path({str(file)!r}))\nexcept DataError as error: print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    message, peak = done.stdout.strip().split("\n")
    assert message.endswith("long.csv.gz:2: a line of more than 1,048,576 bytes; this is not a table of rows")
    assert int(peak) < 200_000  # kB


def test_boston_s_table_gives_the_rows_of_its_own_entry(mirror: Path):
    path = mirror / "boston-housing" / "housing.csv"
    own = DATA.build(catalogue.entries("data")["boston_housing"].content())
    options = {"val_fraction": 0.2, "test_fraction": 0.3, "split_seed": 80718, "standardize_targets": False}
    data = load(path, "c13", **options)
    for split in ("train", "val", "test"):
        ours, theirs = (d.batches(split, order="sequential")[0] for d in (data, own))
        assert torch.allclose(ours.targets[:8], theirs.targets[:8])
        assert torch.allclose(ours.features[:8], theirs.features[:8], atol=1e-5)


def test_a_column_of_owners_is_no_feature_and_says_who_has_which_row(tmp_path: Path):
    rows = [["id", "x", "y"], *([["ada", "bob", "7"][number % 3], number, 2 * number] for number in range(30))]
    file = tmp_path / "owned.csv"
    file.write_text("\n".join(",".join(map(str, row)) for row in rows))
    data = load(file, client_column="id")
    assert data.spec.input_shape == (1,)
    assert data.owners is not None
    assert data.owners.tolist() == [number % 3 for number in data.parts["train"]]
    assert load(file).owners is None
    file.write_text(file.read_text().replace("ada,3,", ",3,"))
    with pytest.raises(DataError, match=r"owned.csv:5: data.client_column=id names nobody here"):
        load(file, client_column="id")
