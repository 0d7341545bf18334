"""Reproduction: which runs there are, what the numbers say, and one table from real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dlcli import reproduction
from dlcli.errors import ConfigError, DlcliError, SweepError
from dlcli.experiments import Experiment
from dlcli.reproduction import Row
from dlcli.sweep_records import Job

EXPERIMENT = """# @package _global_
# Linear regression, {what}.
# Source: DLFS chapter 4
# Command: dlcli train experiment={name}
{header}
# Minutes: {minutes}
# Expect: a number
defaults:
  - override /data: synthetic_regression
  - override /model: linear
  - override /optimizer: sgd
data:
  train_size: 64
  val_size: 8
  test_size: 8
trainer:
  max_steps: 12
  eval_every: 10
  log_every: 10
optimizer:
  lr: {lr}
"""


def write(folder: Path, name: str, header: str, minutes: float = 1, lr: float = 0.05) -> None:
    file = folder / "experiment" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(EXPERIMENT.format(what=name, name=name, header=header, minutes=minutes, lr=lr))


def options(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    fixed = {"out": out, "seeds": 2, "max_minutes": 2, "jobs_at_a_time": 1, "directories": [folder], "plugins": []}
    return {**fixed, "command": "dlcli reproduce", "quiet": True, **changes}


def experiment(**changes: Any) -> Experiment:
    fixed = {"description": "", "source": "DLFS chapter 4", "command": "dlcli train experiment=x", "minutes": 1.0}
    return Experiment("x", Path("x.yaml"), **{**fixed, **changes})


@pytest.mark.parametrize(
    ("values", "direction", "cause", "verdict"),
    [
        ([0.895], "max", "", "reproduced"),
        ([0.89, 0.91, 0.90], "max", "", "reproduced"),
        ([0.91], "max", "", "reproduced"),  # exactly a point away
        ([0.88], "max", "", "short"),
        ([0.88, 0.88, 0.881], "max", "", "short"),
        ([0.85, 0.90, 0.80], "max", "", "reproduced"),  # within 3 standard deviations
        ([0.95], "max", "", "unexplained"),
        ([0.95], "max", "the book stops early", "better"),
        ([0.95], "min", "the book stops early", "short"),
        ([0.80], "min", "the book stops early", "better"),
        ([], "max", "", "failed"),
        ([math.nan], "min", "the book stops early", "short"),
        ([0.90, math.nan, 0.90], "max", "the book stops early", "short"),
        ([-math.inf, 0.9], "min", "the book stops early", "short"),
    ],
)
def test_verdicts(values: list[float], direction: str, cause: str, verdict: str) -> None:
    row = Row(
        experiment(reported={"test/accuracy": 0.9}, better_because=cause),
        *("test/accuracy", 0.9, values),
        direction=direction,
    )
    assert row.verdict == verdict
    assert verdict in reproduction.VERDICTS


def test_a_seed_without_a_result_is_no_reproduction(tmp_path: Path) -> None:
    row = Row(experiment(reported={"val/loss": 1.0}), "val/loss", 1.0, [1.0, 1.0], wanted=3)
    assert row.verdict == "failed"
    assert reproduction.cells(row)[4] == "1.0000 ± 0.0000 (2 of 3)"
    with pytest.raises(SweepError, match="results are missing for x"):
        reproduction.check([row], tmp_path)


def test_seeds_far_apart_are_marked() -> None:
    apart = Row(experiment(reported={"test/accuracy": 0.9}), "test/accuracy", 0.9, [0.8, 0.9, 1.0])
    assert reproduction.cells(apart)[6] == "reproduced (wide)"
    assert "- wide: " in reproduction.markdown([apart])
    near = Row(experiment(reported={"test/accuracy": 0.9}), "test/accuracy", 0.9, [0.88, 0.9, 0.92])
    assert reproduction.cells(near)[6] == "reproduced"
    assert "wide" not in reproduction.markdown([near])


def test_an_exact_number_cannot_be_better(tmp_path: Path) -> None:
    exact = experiment(reported={"train/loss": 0.5}, tolerances={"": 1e-6}, exact=True, better_because="luck")
    assert Row(exact, "train/loss", 0.5, [0.5 + 9e-7]).verdict == "reproduced"
    differing = [Row(exact, "train/loss", 0.5, [value]) for value in (0.4, 0.6)]
    assert [row.verdict for row in differing] == ["differs", "differs"]
    with pytest.raises(DlcliError, match=r"x \(differs\)"):
        reproduction.check(differing, tmp_path)


def test_without_a_number_there_is_nothing_to_fall_short_of() -> None:
    row = Row(experiment(), "val/loss", None, [0.1])
    assert (row.verdict, row.tolerance) == ("no number", None)
    assert reproduction.cells(row)[3] == "-"


def test_the_exit_code_tells_what_went_wrong(tmp_path: Path) -> None:
    right = Row(experiment(reported={"val/loss": 1.0}), "val/loss", 1.0, [1.0])
    short = Row(experiment(reported={"val/loss": 1.0}), "val/loss", 1.0, [2.0])
    failed = Row(experiment(reported={"val/loss": 1.0}), "val/loss", 1.0, [])
    reproduction.check([right], tmp_path)
    with pytest.raises(DlcliError, match=r"1 of 2 numbers are not reproduced: x \(short\)") as caught:
        reproduction.check([right, short], tmp_path)
    assert caught.value.exit_code == 1
    with pytest.raises(SweepError, match="results are missing for x; the causes are in") as failure:
        reproduction.check([right, short, failed], tmp_path)
    assert failure.value.exit_code == 6


def test_values_come_from_the_summary_or_from_a_step_of_the_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    log = [{"step": 10, "val/loss": 3.0}, {"step": 20, "val/loss": 2.0}, {"step": 20, "train/loss": 9.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (run / "summary.json").write_text(json.dumps({"metrics": {"val": {"loss": 1.5}}}))
    job = Job(tmp_path, {"number": 0, "run": "run", "status": "finished"})
    found = [reproduction.measured(job, f"val/loss{at}") for at in ("", "@10", "@20", "@last", "@30")]
    assert found == [1.5, 3.0, 2.0, 2.0, None]
    assert reproduction.measured(job, "val/accuracy") is None


def test_experiments_are_left_out_by_name_by_minutes_and_without_a_gpu(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "gpus", list)
    write(config_dir, "test/quick", "# Reported: none")
    write(config_dir, "test/slow", "# Reported: none", minutes=10)
    write(config_dir, "test/large", "# Reported: none\n# Needs: gpu")
    write(config_dir, "test/unknown", "# Reported: none")
    unknown = config_dir / "experiment" / "test" / "unknown.yaml"
    unknown.write_text(unknown.read_text().replace("# Minutes: 1\n", ""))
    found, left_out = reproduction.select("test/*", max_minutes=5, directories=[config_dir])
    assert [one.name for one in found] == ["test/large", "test/quick", "test/slow", "test/unknown"]
    assert left_out == {
        "test/slow": "takes 10 minutes",
        "test/large": "needs a GPU",
        "test/unknown": "its header has no 'Minutes:'",
    }
    assert list(reproduction.select("test/*", max_minutes=None, directories=[config_dir])[1]) == ["test/large"]
    with pytest.raises(ConfigError, match="no experiment matches 'nothing/"):
        reproduction.select("nothing/*", max_minutes=None, directories=[config_dir])


def test_one_seed_for_what_is_exact() -> None:
    assert reproduction.overrides_of(experiment(exact=True), 3, []) == [["experiment=x", "seed=0"]]
    assert len(reproduction.overrides_of(experiment(), 3, [])) == 3


def test_the_value_of_a_seed_is_the_mean_over_the_sweep(config_dir: Path, tmp_path: Path) -> None:
    write(config_dir, "test/swept", "# Reported: val/loss@10 1\n# Sweep: data.data_seed=range(2)")
    out = tmp_path / "out"
    (row,) = reproduction.reproduce("test/swept", **options(config_dir, out))
    jobs = [reproduction.read_job(out, number) for number in range(4)]
    assert [job.content["overrides"][1:] for job in jobs] == [
        [f"seed={seed}", f"data.data_seed={data}"] for seed in range(2) for data in range(2)
    ]
    first, second, third, fourth = [reproduction.measured(job, "val/loss@10") or 0.0 for job in jobs]
    assert len({first, second, third, fourth}) == 4
    assert row.values == pytest.approx([(first + second) / 2, (third + fourth) / 2])
    jobs[3].content["status"] = "failed"  # a seed with a failed job has no value
    (row,) = reproduction.rows_of(row.experiment, jobs, "", [config_dir])
    assert (len(row.values), row.wanted, row.verdict) == (1, 2, "failed")


def test_a_folder_of_something_else_is_refused(config_dir: Path, tmp_path: Path) -> None:
    write(config_dir, "test/quick", "# Reported: none")
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="there are other files in it; name a new folder"):
        reproduction.reproduce("test/*", **options(config_dir, out))


def test_runs_become_a_table_and_are_not_run_twice(
    config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write(config_dir, "test/quick", "# Reported: val/rmse 1\n# Tolerance: 5\n# Reported: val/loss@10 1")
    write(config_dir, "test/wrong", "# Reported: test/rmse 0.9\n# Exact: true", lr=1e30)
    write(config_dir, "test/slow", "# Reported: none", minutes=10)
    rows = reproduction.reproduce("test/*", **options(config_dir, out))
    table = {(row.experiment.name, row.metric): row for row in rows}
    assert table["test/slow", "val/loss"].verdict == "not run"
    assert table["test/wrong", "test/rmse"].verdict == "failed"  # a loss that is not finite
    quick = table["test/quick", "val/rmse"]
    assert (len(quick.values), quick.verdict) == (2, "reproduced")
    assert quick.values[0] != quick.values[1]
    assert len(table["test/quick", "val/loss@10"].values) == 2
    report = json.loads((out / "reproduce.json").read_text())
    assert set(report[0]) >= {"experiment", "book", "section", "metric", "reported", "measured", "tolerance", "verdict"}
    assert report[0]["measured"]["mean"] == pytest.approx(sum(quick.values) / 2)
    assert "| test/quick | DLFS chapter 4 | val/rmse | 1 |" in (out / "reproduce.md").read_text()

    # What is finished stays; what has changed is run again.
    runs = {path.name for path in out.glob("test-quick-*")}
    write(config_dir, "test/wrong", "# Reported: test/rmse 0.9\n# Exact: true")
    again = reproduction.reproduce("test/*", **options(config_dir, out))
    assert {path.name for path in out.glob("test-quick-*")} == runs
    wrong = next(row for row in again if row.experiment.name == "test/wrong")
    assert len(wrong.values) == 1

    # Another spelling of the folder is the same folder; other code is another result.
    runs = {path.name for path in out.glob("test-quick-*")}
    monkeypatch.chdir(tmp_path)
    reproduction.reproduce("test/quick", **options(config_dir, Path("elsewhere/../out")))
    assert {path.name for path in out.glob("test-quick-*")} == runs
    monkeypatch.setattr(reproduction, "source_digest", lambda: "other code")
    reproduction.reproduce("test/quick", **options(config_dir, out, seeds=1))
    assert len(list(out.glob("test-quick-*"))) == len(runs) + 1


def test_the_digest_is_that_of_the_code() -> None:
    assert reproduction.source_digest() == reproduction.source_digest()
    assert len(reproduction.source_digest()) == 64
