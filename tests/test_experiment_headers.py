"""The headers of experiments: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlcli import catalogue, experiments
from dlcli.errors import ConfigError

HEADER = """# @package _global_
# Softmax regression on digits.
# Source: Somebody 1998; DLFS chapter 4 (04_extensions)
# Command: dlcli train experiment=mine
# Reported: test/accuracy 0.9101
# Reported: val/loss@20 1.5e-3
# Reported: val/rmse@last -2.5
# Tolerance: 0.02
# Tolerance: val/rmse@last .5
# Minutes: 1.5
# Needs: gpu
# Exact: true
# Sweep: data.fold=range(5)
# Better because: the book stops early,
#   and we do not
# Expect: 92 %
name: x
"""


def read(folder: Path, text: str) -> experiments.Experiment:
    file = folder / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return experiments.read_all([folder])["mine"]


def test_every_key_is_read(config_dir: Path) -> None:
    found = read(config_dir, HEADER)
    assert (found.description, found.book, found.section) == (
        "Softmax regression on digits.",
        "DLFS",
        "chapter 4 (04_extensions)",
    )
    assert found.command == "dlcli train experiment=mine"
    assert found.reported == {"test/accuracy": 0.9101, "val/loss@20": 0.0015, "val/rmse@last": -2.5}
    assert [found.tolerance(metric) for metric in found.reported] == [0.02, 0.02, 0.5]
    assert (found.minutes, found.needs_gpu, found.exact) == (1.5, True, True)
    assert found.sweep == "data.fold=range(5)"
    assert found.better_because == "the book stops early, and we do not"
    assert found.expect == "92 %"
    assert found.summary() == "test/accuracy 0.9101, val/loss@20 0.0015, val/rmse@last -2.5, 1.5 min, gpu"


def test_without_a_tolerance_a_point_or_a_hundredth(config_dir: Path) -> None:
    found = read(config_dir, "# X.\n# Source: mine\n# Reported: test/accuracy 0.9\n# Reported: test/rmse 5\n")
    assert found.tolerance("test/accuracy") == 0.01
    assert found.tolerance("test/rmse") == pytest.approx(0.05)
    assert (found.book, found.section, found.exact) == ("", "mine", False)


def test_a_person_needs_no_header_for_an_experiment(config_dir: Path) -> None:
    found = read(config_dir, "# mine: quick trial\nseed: 1\n")
    assert (found.reported, found.minutes, found.summary()) == ({}, None, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Reported: 0.91", "'Reported: 0.91': expected a metric and a number, such as 'test/accuracy 0.91'"),
        ("Reported: test/accuracy 91 %", "expected a metric and a number"),
        ("Reported: val/loss@first 1", "expected a metric and a number"),
        ("Reported: test/accuracy 0.9", "test/accuracy is reported twice"),
        ("Reported: none", "'Reported: none' beside a number"),
        ("Tolerance: 5%", "expected a number, or a metric and a number"),
        ("Tolerance: -1", "expected a number, or a metric and a number"),
        ("Tolerance: test/mae 1", "'Tolerance: test/mae …': no such metric is reported"),
        ("Minutes: two", "'Minutes: two': expected a number of minutes"),
        ("Minutes: 0", "expected a number of minutes"),
        ("Minutes: 4", "'Minutes' stands there twice"),
        ("Needs: cuda", "'Needs: cuda': expected 'gpu'"),
        ("Exact: yes", "'Exact: yes': expected 'true' or 'false'"),
        ("Sweep: data.fold=5", "expected an option other than seed and its values, such as 'data.fold=range(5)'"),
        ("Sweep: seed=range(5)", "expected an option other than seed"),
        ("Reportd: test/loss 1", "'Reportd: test/loss 1': did you mean 'Reported:'?"),
        ("minutes: 1", "'minutes: 1': did you mean 'Minutes:'?"),
    ],
)
def test_a_malformed_line_is_refused(config_dir: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(config_dir, f"# X.\n# Reported: test/accuracy 0.91\n# Minutes: 1\n# {line}\n")
    assert any(message in problem and "mine.yaml: " in problem for problem in caught.value.problems)


def test_our_experiments_are_read_all_at_once() -> None:
    assert set(experiments.read_all()) == set(catalogue.entries("experiment"))


def test_the_table_of_measured_numbers_agrees_with_the_headers() -> None:
    """Each row of docs/reproduced.md: the book's number is the header's, the difference is that of the two numbers."""
    known = experiments.read_all()
    lines = (Path(__file__).parents[1] / "docs" / "reproduced.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| `")]
    assert len(rows) > 100
    for name, _, metric, reported, ours, difference, verdict, _, command in rows:
        experiment = known[name.strip(" `")]
        number = experiment.reported.get(metric)
        assert reported == ("–" if number is None else f"{number:.6g}"), (experiment.name, metric)
        assert command.strip(" `") == experiment.command
        assert (verdict == "no number") == (number is None)
        if number is not None:
            mean = float(ours.partition(" ±")[0])
            assert float(difference) == pytest.approx(mean - number, abs=1e-3 * abs(mean - number) + 1e-5 * abs(mean))
