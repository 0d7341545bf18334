"""``dlcli train``, ``eval`` and ``sample`` as people type them: output and exit code."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest

from dlcli.__main__ import run

DIGITS = ["train", "data=digits", "trainer.max_steps=20"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "book.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    small = ["model.hidden_size=8", "data.sequence_length=8", "data.batch_size=4", "trainer.max_steps=4"]
    assert run(["train", "data=text", "data.path=book.txt", *small, "--quiet"]) == 0
    return "latest"


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("dlcli: ")]
    assert lines, error
    return lines[-1]


def test_train_says_what_it_does_and_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DIGITS) == 0
    out = capsys.readouterr().out
    assert "model  mlp: 19,210 parameters, fp32 on cpu" in out
    assert "data   digits: train 1,257 examples, val 180 examples, test 360 examples" in out
    assert "run    runs/mlp-digits-" in out
    assert "done   " in out
    assert "test   loss " in out


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_dry_run_builds_tries_a_batch_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "hidden_sizes:" in out
    assert "19,210" in out
    assert re.search(r"one batch: loss \d\.\d{4}\n", out)
    assert not Path("runs").exists()


def test_a_dry_run_loads_initial_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "model.hidden_sizes=[7]", "--quiet"]) == 0
    assert run([*DIGITS, "model.hidden_sizes=[7]", "init_from=latest", "--dry-run"]) == 0
    assert "4 of 4 tensors loaded" in capsys.readouterr().out
    assert len(list(Path("runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_from={first}", "model.hidden_sizes=[3,5,4]", "data.resize=9"], "fits the model"),
        (["trainer.devices=2", "data.batch_size=1"], "data.batch_size=1 cannot be divided among trainer.devices=2"),
        (["run_dir=file/runs"], "run_dir=file/runs: cannot be written to"),
        (["init_from=nowhere"], "init_from: no run"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    Path("file").touch()
    if "{first}" in overrides[0]:
        assert run(["train", "data=synthetic_regression", "model=linear", "trainer.max_steps=1", "--quiet"]) == 0
        overrides = [overrides[0].format(first="latest"), *overrides[1:]]
    for flags in ([], ["--dry-run"]):
        assert run([*DIGITS, *overrides, *flags]) == 2
        assert message in last_error(capsys)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=digits", "optimizer.lr=fast"], "dlcli: optimizer.lr=fast: expected a number greater than 0"),
        (["data=digits", "model=lenet"], "dlcli: model 'lenet' needs images of at least 12×12"),
        (["model=lstm", "data=digits"], "dlcli: model 'lstm' needs vocab_size, which data 'digits' does not define"),
        (["data=text"], "dlcli: data.path must be given"),
        (["data=text", "data.path=nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert run(["train", *overrides]) in (2, 3)
    assert message in last_error(capsys)
    assert not list(tmp_path.glob("runs/*"))


def test_resume_continues_to_the_new_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["train", "--resume", "latest", "trainer.max_steps=30"]) == 0
    assert "30 steps" in capsys.readouterr().out
    (directory,) = Path("runs").iterdir()
    assert json.loads((directory / "summary.json").read_text())["steps"] == 30


def test_resume_below_the_step_that_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["train", "--resume", "latest", "trainer.max_steps=5"]) == 2
    assert "has 20 steps behind it already, more than trainer.max_steps=5" in last_error(capsys)
    (directory,) = Path("runs").iterdir()
    assert json.loads((directory / "summary.json").read_text())["status"] == "finished", "a refusal changes no run"
    assert run(["train", "--resume", "latest", "--quiet"]) == 0


def test_resume_with_another_runs_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "run_dir=a", "--quiet"]) == 0
    assert run([*DIGITS, "run_dir=b", "model.hidden_sizes=[3]", "--quiet"]) == 0
    (one,), (other,) = Path("a").iterdir(), Path("b").iterdir()
    (one / "last.pt").write_bytes((other / "last.pt").read_bytes())
    assert run(["train", "--resume", str(one), "trainer.max_steps=30"]) == 3
    assert "the checkpoint is that of another model or optimizer" in last_error(capsys)


def test_runs_of_a_version_without_an_option_stay_usable() -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    (directory,) = Path("runs").iterdir()
    config = directory / "config.yaml"
    lines = [line for line in config.read_text().splitlines() if "sync_batch_norm" not in line]
    config.write_text("\n".join(lines) + "\n")
    assert run(["eval", "latest"]) == 0
    assert run(["train", "--resume", "latest", "trainer.max_steps=30", "--quiet"]) == 0


@pytest.mark.parametrize("name", ["a book.txt", "mein büchlein.txt", "it's.txt", "a,b.txt", "(x).txt"])
def test_paths_are_taken_as_typed(name: str) -> None:
    Path(name).write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    small = ["data.sequence_length=8", "data.batch_size=4", "trainer.max_steps=1", "model.hidden_size=4", "--quiet"]
    assert run(["train", "data=text", f"data.path={name}", *small]) == 0
    assert run(["eval", "latest", f"data.path={name}"]) == 0


def test_what_is_no_regular_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "data=text", "data.path=/dev/zero"]) == 3
    assert "/dev/zero: not a regular file" in last_error(capsys)
    assert run(["train", "data=text", "data.path="]) == 2
    assert "data.path=: expected text" in last_error(capsys)


def test_eval_refuses_overrides_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["eval", "latest", "optimizer.lr=3"]) == 2
    assert "'optimizer.lr' has no effect on saved weights" in last_error(capsys)
    assert run(["eval", "latest", "--checkpoint", "bogus"]) == 2
    assert last_error(capsys) == "dlcli: --checkpoint bogus: expected best, last or the path of a checkpoint"


def test_eval_of_other_parts_of_the_runs_own_data_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["eval", "latest", "data.split_seed=4", "--split", "test"]) == 0
    assert "examples that it was trained on may be among them" in caplog.text


def test_resume_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--resume", "latest"]) == 2
    assert "there are no runs in runs" in last_error(capsys)


def test_eval_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["eval", "latest", "--split", "test"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert run(["eval", "latest", "--split", "test", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    (directory,) = Path("runs").iterdir()
    summary = json.loads((directory / "summary.json").read_text())
    assert record["metrics"] == pytest.approx(summary["metrics"]["test"])
    assert record["run"] == directory.name


def test_eval_refuses_an_unknown_split_and_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["eval", "latest", "--split", "dev"]) == 2
    assert last_error(capsys) == "dlcli: --split dev: data 'digits' has train, val, test"


def test_eval_on_other_data_changes_that_group_only(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.txt").write_text("the lazy dog jumps over the quick brown fox\n" * 60)
    assert run(["eval", text, "data.path=other.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["loss"] > 0
    (tmp_path / "digits.txt").write_text("0123456789" * 60)
    assert run(["eval", text, "data.path=digits.txt"]) == 2
    assert "vocab" in last_error(capsys)


def test_sample_streams_text_and_is_reproducible(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", text, "prompt=the ", "length=30", "seed=3"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("the ")
    assert len(first) == len("the ") + 30 + 1
    assert run(["sample", text, "prompt=the ", "length=30", "seed=3"]) == 0
    assert capsys.readouterr().out == first
    assert run(["sample", text, "prompt=the ", "length=30", "seed=4"]) == 0
    assert capsys.readouterr().out != first


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lenght=3", "unknown option 'lenght' of sampling; did you mean length?"),
        ("length=0", "length=0: expected a whole number at least 1"),
        ("top_p=2", "top_p=2: expected a number greater than 0 and at most 1"),
        ("prompt=ÄÖ", "the character 'Ä' is not in the vocabulary"),
        ("length", "cannot read 'length'; expected key=value"),
    ],
)
def test_bad_sampling_options(text: str, capsys: pytest.CaptureFixture[str], option: str, message: str) -> None:
    assert run(["sample", text, option]) == 2
    assert message in last_error(capsys)


def test_sampling_from_a_classifier_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["sample", "latest"]) == 2
    assert "task 'classification' cannot generate" in last_error(capsys)


def test_an_ambiguous_prefix_and_an_unknown_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    assert run([*DIGITS, "--quiet"]) == 0
    assert run(["eval", "mlp"]) == 2
    assert "run 'mlp' is ambiguous" in last_error(capsys)
    assert run(["eval", "nothing"]) == 2
    assert "no run 'nothing'" in last_error(capsys)


class Gadget:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch canary",)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Gadget())], ids=["empty", "text", "pickle"])
def test_a_damaged_or_hostile_checkpoint_is_refused(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "--quiet"]) == 0
    (directory,) = Path("runs").iterdir()
    (directory / "best.pt").write_bytes(content)
    assert run(["eval", "latest"]) == 3
    assert "best.pt" in last_error(capsys)
    assert not Path("canary").exists()


def test_an_unwritable_run_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert run([*DIGITS, "run_dir=file/runs"]) == 2
    assert "run_dir=file/runs: cannot be written to" in last_error(capsys)


def test_a_run_works_in_odd_folders(tmp_path: Path) -> None:
    odd = tmp_path / "a folder with späces" / ("x" * 150)
    odd.mkdir(parents=True)
    assert run([*DIGITS, f"run_dir='{odd}'", "--quiet"]) == 0
    (directory,) = odd.iterdir()
    assert run(["eval", str(directory)]) == 0


def test_pictures_are_sampled_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    def width_of(file: Path) -> int:
        with Image.open(file) as picture:
            return picture.width

    assert run([*DIGITS, "task=reconstruction", "model=autoencoder", "--quiet"]) == 0
    assert run(["sample", "latest", "num_samples=9", f"output={tmp_path / 'nine.png'}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'nine.png'}\n"
    assert run(["sample", "latest", "num_samples=16"]) == 0
    file = Path(capsys.readouterr().out.strip())
    assert file.name == "sample.png"
    assert width_of(file) * 3 == width_of(tmp_path / "nine.png") * 4
    assert (file.parent / "projector_config.pbtxt").is_file()
    assert run(["sample", "latest", "scale=0"]) == 2
    assert "scale=0: expected a number greater than 0" in last_error(capsys)
    assert run(["sample", "latest", f"output={tmp_path / 'no' / 'x.png'}"]) == 2
    assert "x.png: cannot be written (No such file or directory)" in last_error(capsys)


def test_random_codes_of_an_autoencoder_are_no_generator(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DIGITS, "model=autoencoder", "task=reconstruction", "--quiet"]) == 0
    assert run(["sample", "latest"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("sample.png\n")
    assert "note: an autoencoder learns to rebuild, not to generate" in captured.err


def test_an_option_that_only_other_data_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "book.txt").write_text("the quick brown fox\n" * 60)
    assert run(["train", "data=text", "data.path=book.txt", "data.augmentation={horizontal_flip:0.5}"]) == 2
    assert "of data 'text'; those that have it: data=cifar10, " in last_error(capsys)
