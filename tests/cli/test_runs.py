"""``dlcli runs`` with ``rm`` and ``prune``, and the records of runs."""

import io
import json
import math
import os
import subprocess
import sys
import time

import psutil
import pytest

from dlcli.cli.runs import age, format_best, format_duration, format_size
from dlcli.errors import ConfigError, DataError
from dlcli.run_records import find, read_json, record, records, write_json


@pytest.fixture
def runs(make_run):
    """Three runs, the oldest first: finished, failed, stopped."""
    return [
        make_run("gru-one", choices={"model": "gru", "data": "shakespeare"}, data_source="stand-in"),
        make_run("lstm-two", status="failed", best=None, steps=12, seconds=4000),
        make_run("lstm-three", status="stopped", seconds=7.7),
    ]


@pytest.mark.usefixtures("runs")
def test_the_table(dlcli):
    code, out, err = dlcli("runs")
    assert (code, err) == (0, "")
    header, *lines = out.rstrip("\n").split("\n")
    assert header.split() == ["run", "data", "model", "best", "steps", "time", "size", "status"]
    assert lines[0].split() == [
        *("gru-one", "shakespeare", "(stand-in)", "gru", "val/loss", "1.5679", "1,200", "1m05s", "200", "kB"),
        "finished",
    ]
    assert lines[1].split() == ["lstm-two", "shakespeare", "lstm", "-", "12", "1h06m", "200", "kB", "failed"]
    assert lines[2].startswith("lstm-three")


@pytest.mark.usefixtures("runs")
def test_json(dlcli):
    _, out, _ = dlcli("runs", "--json")
    rows = json.loads(out)
    assert [row["run"] for row in rows] == ["gru-one", "lstm-two", "lstm-three"]
    assert rows[0]["summary"]["best"]["value"] == 1.56789
    assert rows[1]["status"] == "failed"


def test_no_runs(dlcli):
    assert dlcli("runs") == (0, "no runs in runs; begin one with 'dlcli train'\n", "")
    assert dlcli("runs", "--run-dir", "elsewhere")[1] == "no runs in elsewhere; begin one with 'dlcli train'\n"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"status": "great"}', '{"status": ["running"]}', "\0", "[" * 9999]
)
def test_a_damaged_summary_is_shown_not_raised(dlcli, make_run, text):
    run = make_run("broken")
    (run / "summary.json").write_text(text)
    code, out, _ = dlcli("runs")
    assert code == 0
    assert out.rstrip().endswith("damaged")


def test_odd_values_in_a_summary_are_shown_as_dashes(dlcli, make_run):
    make_run("odd", choices=[], best={"value": "x"}, steps="many", seconds=None, created="yesterday", host=None)
    code, out, _ = dlcli("runs")
    assert code == 0
    assert out.split("\n")[1].split()[1:6] == ["-", "-", "-", "-", "-"]


def test_other_folders_are_not_runs(dlcli, make_run, tmp_path):
    make_run("real")
    for name in ("empty", "configs"):
        os.makedirs(f"runs/{name}")
    (tmp_path / "here" / "runs" / "configs" / "config.yaml").write_text("seed: 0\n")
    assert [found.name for found in records(tmp_path / "here" / "runs")] == ["real"]
    code, _, err = dlcli("runs", "rm", "runs/configs", "--yes")
    assert code == 2
    assert "runs/configs is not a run" in err
    assert (tmp_path / "here" / "runs" / "configs").is_dir()


def test_running_and_killed(make_run):
    alive = make_run("alive", status="running")
    started = psutil.Process().create_time()
    assert record(alive).status == "running"
    assert record(make_run("same", status="running", pid_started=started)).status == "running"
    assert record(make_run("reused", status="running", pid_started=started - 100)).status == "killed"
    assert record(make_run("other", status="running", host="elsewhere", pid=1)).status == "running"
    for pid in (2**22 + 1, 2**70, -1, "x", None):
        assert record(make_run(f"dead{pid}", status="running", pid=pid)).status == "killed"


def test_a_zombie_is_killed(make_run):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        deadline = time.monotonic() + 60
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)
        assert record(make_run("zombie", status="running", pid=child.pid)).status == "killed"


@pytest.mark.usefixtures("runs")
def test_find(tmp_path):
    folder = tmp_path / "here" / "runs"
    assert find("latest", folder) == folder / "lstm-three"
    assert find("gru", folder) == folder / "gru-one"
    assert find("lstm-two", folder) == folder / "lstm-two"
    assert find(str(folder / "gru-one"), tmp_path) == folder / "gru-one"
    assert find("runs/gru-one", tmp_path).name == "gru-one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lstm", "run 'lstm' is ambiguous: it may be lstm-two, lstm-three"),
        ("gru-onee", "no run 'gru-onee' in .*; did you mean gru-one"),
        ("zzz", "no run 'zzz' in .*; there are gru-one, lstm-two, lstm-three"),
        ("", "no run '' in"),
        ("..", r"\.\. is not a run"),
        ("../..", r"\.\./\.\. is not a run"),
        ("runs/none", "no run 'runs/none' in"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_find_says_what_is_wrong(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        find(text, tmp_path / "here" / "runs")


def test_find_without_runs(tmp_path):
    with pytest.raises(ConfigError, match="there are no runs in"):
        find("latest", tmp_path / "none")


def test_an_exact_name_wins_over_longer_ones(make_run, tmp_path):
    make_run("a")
    make_run("ab")
    assert find("a", tmp_path / "here" / "runs").name == "a"


def test_rm_asks_first(dlcli, runs, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, out, _ = dlcli("runs", "rm", "gru")
    assert (code, out) == (0, "Delete gru-one (200 kB)? [y/N] nothing was deleted\n")
    assert runs[0].exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert dlcli("runs", "rm", "gru")[1].endswith("deleted runs/gru-one\n")
    assert not runs[0].exists()


def test_rm_without_an_answer_is_refused(dlcli, runs, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = dlcli("runs", "rm", "gru")
    assert (code, err) == (2, "dlcli: deleting needs a yes; where nobody can answer, give --yes\n")
    assert runs[0].exists()


def test_rm_of_several_reports_all_problems_and_deletes_none(dlcli, runs, make_run):
    make_run("busy", status="running")
    code, _, err = dlcli("runs", "rm", "gru", "lstm", "busy", "--yes")
    assert code == 2
    ambiguous, running = err.rstrip("\n").split("\n")
    assert "ambiguous" in ambiguous
    assert running.startswith(f"dlcli: busy is running (process {os.getpid()} on ")
    assert all(run.exists() for run in runs)


def test_rm_takes_a_run_named_twice_once_and_only_the_link_of_a_link(dlcli, runs, tmp_path):
    (tmp_path / "here" / "runs" / "link").symlink_to(runs[0].resolve())
    assert dlcli("runs", "rm", "link", "link", "--yes") == (0, "deleted runs/link\n", "")
    assert (runs[0] / "config.yaml").exists()


@pytest.mark.usefixtures("runs")
def test_prune(dlcli, make_run):
    make_run("busy", status="running")
    make_run("old", created=time.time() - 10 * 86400)
    make_run("new", created=time.time() - 60)
    code, _, err = dlcli("runs", "prune")
    assert (code, err) == (2, "dlcli: say which runs: --status failed, --older-than 7d, or both\n")
    assert dlcli("runs", "prune", "--status", "failed", "--yes") == (0, "deleted runs/lstm-two\n", "")
    assert dlcli("runs", "prune", "--status", "failed", "--yes")[1] == "no such runs; nothing was deleted\n"
    _, out, _ = dlcli("runs", "prune", "--status", "finished", "--older-than", "9d", "--yes")
    assert out == "deleted runs/gru-one\ndeleted runs/old\n"
    dlcli("runs", "prune", "--older-than", "0m", "--yes")
    assert os.listdir("runs") == ["busy"]


def test_prune_refuses_what_it_does_not_know(dlcli):
    message = "dlcli: no runs of status 'faild' can be pruned; did you mean failed?\n"
    assert dlcli("runs", "prune", "--status", "faild") == (2, "", message)
    assert "no runs of status 'running' can be pruned" in dlcli("runs", "prune", "--status", "running")[2]
    message = "dlcli: --older-than 7 days: expected a number and m, h, d or w, for example 7d\n"
    assert dlcli("runs", "prune", "--older-than", "7 days") == (2, "", message)


def test_the_folder_may_stand_before_or_after_the_verb(dlcli, make_run, tmp_path):
    make_run("one", folder=tmp_path / "other")
    make_run("two", folder=tmp_path / "other")
    assert dlcli("runs", "rm", "one", "--yes", "--run-dir", tmp_path / "other")[0] == 0
    assert dlcli("runs", "--run-dir", tmp_path / "other", "rm", "two", "--yes")[0] == 0
    assert not list((tmp_path / "other").iterdir())


def test_formats():
    assert [age(text) for text in ("30m", "1.5h", "7d", "2w")] == [1800, 5400, 604800, 1209600]
    assert [format_size(size) for size in (0, 999, 1000, 123_456, 999_999, 5.26e9, 7e15)] == [
        *("0 B", "999 B", "1.0 kB", "123 kB", "1.0 MB", "5.3 GB", "7000 TB"),
    ]
    assert [format_duration(seconds) for seconds in (0.2, 59.4, 60, 3661, True, "x", -1)] == [
        *("0s", "59s", "1m00s", "1h01m", "-", "-", "-"),
    ]
    assert format_best({"metric": "val/loss", "value": 2}) == "val/loss 2.0000"


def test_json_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "summary.json"
    write_json(file, {"a": 1, "nested": [{"nan": math.nan, "inf": (math.inf, 2.5)}], "text": "é"})
    content = {"a": 1, "nested": [{"nan": None, "inf": [None, 2.5]}], "text": "é"}
    assert read_json(file) == content

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, {"a": 2})
    assert read_json(file) == content
    assert set(os.listdir(tmp_path)) == {"here", "summary.json"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"{", "damaged, not JSON"),
        (b"\xff\xfe", "damaged"),
        (b"[1]", "damaged, not a JSON object"),
    ],
)
def test_json_files_that_cannot_be_used(tmp_path, content, message):
    file = tmp_path / "spec.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=f"spec.json: {message}"):
        read_json(file)
