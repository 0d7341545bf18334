"""``dlcli compare``: differing options beside metrics; curves as a picture."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from dlcli.sweep_records import update_job, write_sweep


@pytest.fixture
def trained(make_run):
    """A run folder with a configuration, metrics and a curve."""

    def make(name: str, folder: Path = Path("runs"), **config: object) -> Path:
        value = float(config["optimizer"]["lr"])  # type: ignore[index]
        metrics = {"train": {"loss": 9.0}, "val": {"loss": value, "accuracy": 1 - value}}
        best = {"metric": "val/loss", "value": value, "step": 20}
        directory = make_run(name, folder, metrics=metrics, best=best)
        base = {"seed": 0, "run_dir": str(folder), "trainer": {"monitor": "val/loss"}}
        (directory / "config.yaml").write_text(yaml.safe_dump({**base, **config}))
        lines = [{"step": step, "time": 1.0, "val/loss": value + 1 / step} for step in (1, 10, 20)]
        lines.insert(1, {"step": 5, "time": 1.0, "val/loss": "NaN"})
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')
        return directory

    return make


@pytest.fixture
def two(trained):
    return (
        trained("a", optimizer={"name": "adam", "lr": 0.25}, model={"name": "mlp", "tied": True}),
        trained("b", optimizer={"name": "adam", "lr": 0.5}, model={"name": "mlp"}, seed=0),
    )


@pytest.mark.usefixtures("two")
def test_only_options_that_differ_are_shown(dlcli):
    code, out, err = dlcli("compare", "a", "b")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["run", "model.tied", "optimizer.lr", "val/loss", "val/accuracy", "status"],
        ["a", "true", "0.25", "0.2500", "0.7500", "finished"],
        ["b", "-", "0.5", "0.5000", "0.5000", "finished"],
    ]


def test_many_differences_go_downwards(dlcli, trained):
    trained("a", optimizer={"lr": 0.25}, model={f"option_{number}": 1 for number in range(9)})
    trained("b", optimizer={"lr": 0.5}, model={"other": None})
    _, out, _ = dlcli("compare", "a", "b")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["run", "a", "b"]
    assert ["model.option_3", "1", "-"] in lines
    assert ["model.other", "-", "null"] in lines
    assert lines[-1] == ["status", "finished", "finished"]


@pytest.mark.usefixtures("two")
def test_json(dlcli):
    code, out, _ = dlcli("compare", "a", "b", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["options"] == ["model.tied", "optimizer.lr"]
    assert content["runs"][1]["options"] == {"optimizer.lr": 0.5}
    assert content["runs"][0]["metrics"] == {"val/loss": 0.25, "val/accuracy": 0.75}


@pytest.mark.usefixtures("two")
def test_one_metric(dlcli):
    _, out, _ = dlcli("compare", "a", "b", "--metric", "val/accuracy")
    assert out.splitlines()[0].split() == ["run", "model.tied", "optimizer.lr", "val/accuracy", "status"]
    code, _, err = dlcli("compare", "a", "b", "--metric", "val/acuracy")
    assert (code, err) == (2, "dlcli: --metric val/acuracy: no run has it; did you mean val/accuracy?\n")


@pytest.mark.usefixtures("two")
def test_curves(dlcli, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curves.png"
    code, out, _ = dlcli("compare", "a", "b", "--plot", picture)
    assert (code, out.splitlines()[-1]) == (0, f"{picture}: val/loss")
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = dlcli("compare", "a", "b", "--plot", picture, "--metric", "val/los")
    assert (code, err) == (2, "dlcli: --metric val/los: no run has logged it; did you mean val/loss?\n")
    code, _, err = dlcli("compare", "a", "--plot", tmp_path / "no" / "x.png")
    assert (code, err) == (2, f"dlcli: {tmp_path}/no/x.png: cannot be written (No such file or directory)\n")
    code, _, err = dlcli("compare", "a", "--plot", tmp_path / "x.docx")
    assert code == 2
    assert "x.docx" in err


@pytest.mark.usefixtures("two")
def test_curves_leave_out_what_is_not_a_number():
    from dlcli.comparison import open_runs

    (run,) = open_runs(["a"], Path("runs"))
    assert run.curve("val/loss") == ([1, 10, 20], [1.25, 0.35, 0.3])
    assert run.curve("nothing") == ([], [])


@pytest.mark.usefixtures("two")
def test_without_matplotlib(dlcli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = dlcli("compare", "a", "b", "--plot", "x.png")
    assert code == 2
    assert "pip install 'dlcli[plot]'" in err


def test_a_sweep_is_all_its_runs(dlcli, trained, make_run):
    folder = Path("runs/sweep-1")
    folder.mkdir(parents=True)
    write_sweep(folder, {"jobs": 3}, [{"overrides": [], "config": {}, "choices": {}}] * 3)
    for number, lr in enumerate((0.25, 0.5)):
        trained(f"run-{number}", folder, optimizer={"lr": lr})
        update_job(folder, number, run=f"run-{number}", status="finished")
    code, out, _ = dlcli("compare", "sweep-1")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["run", "optimizer.lr"],
        ["run-0", "0.25"],
        ["run-1", "0.5"],
    ]
    make_run("alone")

    # The table of runs shows them below the sweep, and it is deleted as a whole.
    _, out, _ = dlcli("runs")
    assert [line.split()[0] for line in out.splitlines()] == ["run", "sweep-1", "run-0", "run-1", "alone"]
    assert out.splitlines()[1].endswith("2 of 3 finished")
    assert [(run["run"], run["sweep"]) for run in json.loads(dlcli("runs", "--json")[1])] == [
        ("run-0", "sweep-1"),
        ("run-1", "sweep-1"),
        ("alone", None),
    ]
    (folder / "jobs" / "000.json").write_text("{")
    assert dlcli("runs")[1].splitlines()[1].split() == ["sweep-1", "damaged"]
    assert dlcli("runs", "rm", "sweep-1", "--yes")[0] == 0
    assert not folder.exists()
    assert Path("runs/alone").exists()


def test_runs_that_cannot_be_compared(dlcli, two):
    assert dlcli("compare", "zzz")[0] == 2
    (two[0] / "config.yaml").write_text("3")
    code, _, err = dlcli("compare", "a")
    assert (code, err) == (3, f"dlcli: {two[0] / 'config.yaml'}: not the configuration of a run\n")


@pytest.mark.usefixtures("two")
def test_no_torch(process):
    done = process("compare", "a", "b", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    assert "| torch\n" not in done.stderr
    assert "matplotlib" not in done.stderr


def test_a_result_over_an_option(dlcli, trained, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    for number, lr in enumerate((0.5, 0.001, 0.001, 0.01)):
        trained(f"run-{number}", optimizer={"lr": lr, "name": f"sgd-{number}"}, seed=number)
    drawn = []
    draw = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *data, **how: drawn.append(data) or draw(self, *data, **how))
    names = [f"run-{number}" for number in range(4)]
    code, out, _ = dlcli("compare", *names, "--plot", tmp_path / "rates.png", "--over", "optimizer.lr")
    assert (code, out.splitlines()[-1]) == (0, f"{tmp_path / 'rates.png'}: val/loss")
    assert [list(values) for values in drawn[0]] == [[0.001, 0.01, 0.5]] * 2  # the loss is the rate
    assert [list(values) for values in drawn[1][:2]] == [[0.001, 0.001, 0.01, 0.5]] * 2
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over", "optimizer.lr"], "--over optimizer.lr is for a picture: add --plot FILE.png"),
        (["--plot", "x.png", "--over", "optimizer.l"], "--over optimizer.l: no run has it; did you mean optimizer.lr?"),
        (["--plot", "x.png", "--over", "model.name"], "--over model.name: a has mlp; expected numbers"),
        (
            ["--plot", "x.png", "--over", "optimizer.lr", "--metric", "val/los"],
            "--metric val/los: no run has it; did you mean val/loss?",
        ),
    ],
)
def test_what_cannot_be_drawn_over_an_option(dlcli, options, message):
    pytest.importorskip("matplotlib")
    code, _, err = dlcli("compare", "a", "b", *options)
    assert (code, err) == (2, f"dlcli: {message}\n")
