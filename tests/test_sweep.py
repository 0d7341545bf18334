"""Sweeps: every job checked before one starts, nothing that a file names is executed, failures recorded, resuming."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

from dlcli import sweep, sweep_expansion, sweep_processes
from dlcli.__main__ import run
from dlcli.config import compose
from dlcli.errors import ConfigError
from dlcli.hydra_composition import compose_choices
from dlcli.sweep_progress import SweepProgress, latest
from dlcli.sweep_records import Group, Job, find_sweep, format_mean, read_job, results, update_job, write_sweep

ROOT = Path(__file__).parents[1]
SABOTEUR = '''
import os
import signal
import time

import torch
from torch import Tensor, nn

from dlcli.hyperparameters import Natural
from dlcli.registry import MODELS


@MODELS.register("saboteur")
class Saboteur(nn.Module):
    """A linear model; some numbers end badly unless HEALED is set. model(x (B, ...)) -> (B, num_outputs)."""

    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int, number: Natural):
        super().__init__()
        self.number = number
        self.layer = nn.Linear(torch.Size(input_shape).numel(), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(float(os.environ.get("SLOW", "0")))
        if "HEALED" not in os.environ:
            if self.number == 3:
                raise RuntimeError("the third one trips")
            if self.number == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.number == 6:
                raise MemoryError
        return self.layer(x.flatten(1))
'''
TINY = ["data=synthetic_regression", "model=saboteur", "trainer.max_epochs=null", "trainer.max_steps=20"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "here"


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    folder = tmp_path / "plugin"
    (folder / "model").mkdir(parents=True)
    (folder / "saboteur.py").write_text(SABOTEUR)
    (folder / "model" / "saboteur.yaml").write_text("# A model that may fail.\nname: saboteur\nnumber: 0\n")
    return str(folder)


def only_sweep() -> Path:
    (folder,) = Path("runs").glob("sweep-*")
    return folder


# ---------------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["seed=0,1"], [["seed=0"], ["seed=1"]]),
        (["model=mlp,linear", "seed=0"], [["model=mlp", "seed=0"], ["model=linear", "seed=0"]]),
        (["seed=0,1", "optimizer.lr=1e-3,3e-3"], 4),
        (["seed=range(5)"], [[f"seed={number}"] for number in range(5)]),
        (["seed=range(1,8,3)"], [["seed=1"], ["seed=4"], ["seed=7"]]),
        (["optimizer.lr=range(0.25,1,0.25)"], [["optimizer.lr=0.25"], ["optimizer.lr=0.5"], ["optimizer.lr=0.75"]]),
        (["optimizer.lr=logspace(1e-2,1,3)"], [["optimizer.lr=0.01"], ["optimizer.lr=0.1"], ["optimizer.lr=1"]]),
        (["optimizer.lr=logspace(8, 1, 4)"], [[f"optimizer.lr={value}"] for value in (8, 4, 2, 1)]),
        (["optimizer.lr=logspace(1e-6,1e-2,20)", "seed=0,1"], 40),
        (["seed=choice(3,4)"], [["seed=3"], ["seed=4"]]),
        (["seed=sort(3,1,2)"], [["seed=1"], ["seed=2"], ["seed=3"]]),
        (["model=glob(l*)"], lambda jobs: ["model=lenet"] in jobs and ["model=mlp"] not in jobs),
        (["model=glob(*,exclude=l*)"], lambda jobs: ["model=mlp"] in jobs and ["model=lenet"] not in jobs),
        (["model.hidden_sizes=[8],[8,8]"], [["model.hidden_sizes=[8]"], ["model.hidden_sizes=[8,8]"]]),
        (["run_dir='a,b'"], [["run_dir='a,b'"]]),
        (["seed=1", "seed=2,3"], [["seed=2"], ["seed=3"]]),
        ([], [[]]),
    ],
)
def test_grammar(overrides, jobs):
    found = sweep_expansion.expand(overrides, [])
    if callable(jobs):
        assert jobs(found)
    else:
        assert len(found) == jobs if isinstance(jobs, int) else found == jobs


def test_glob_finds_people_s_own_entries(plugin):
    assert sweep_expansion.expand(["model=glob(sab*)"], [Path(plugin)]) == [["model=saboteur"]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=interval(0,1)"], r"'optimizer.lr=interval\(0,1\)' has no countable values; write choice"),
        (["seed=range(0,0)"], "'seed=range\\(0,0\\)' stands for no value"),
        (["seed=range(0,1,0)"], "'seed=range\\(0,1,0\\)'"),
        (["seed=shuffle(range(0,1000000000))"], "a sweep of more than 10,000 jobs"),
        (["seed=range(100001)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(1000000000)", "optimizer.lr=range(1000000000)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(1e12)"], "a sweep of more than 10,000 jobs"),
        (["seed=sort(range(1e12))"], "a sweep of more than 10,000 jobs"),
        (["optimizer.lr=range(0,1,1e-300)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(-1e308,1e308)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(inf)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(nan,3)"], r"'seed=range\(nan,3\)': these values cannot be counted; write choice"),
        (["seed=choice(choice(1,2),3)"], r"'seed=choice\(choice\(1,2\),3\)': these values cannot be counted"),
        (["seed=range(1,2),range(3,4)"], "these values cannot be counted"),
        (["optimizer.lr=tag(x,interval(0,1))"], "has no countable values"),
        (
            ["seed=" + ",".join(map(str, range(1_000_000)))],
            "an override of 6,888,894 characters; expected at most 2,000",
        ),
        (["seed=" + "choice(" * 500 + "1" + ")" * 500], "an override of 4,006 characters; expected at most 2,000"),
        (["model=glob(zzz*)"], "stands for no value"),
        (
            ["optimizer.lr=logspace(0,1,9)"],
            r"'optimizer.lr=logspace\(0,1,9\)': expected logspace\(first,last,count\), two",
        ),
        (["optimizer.lr=logspace(1e-4,1,1)"], "a whole number from 2 to 10,000, such as"),
        (["optimizer.lr=logspace(1e-4,1,1e9)"], "a whole number from 2 to 10,000, such as"),
        (["optimizer.lr=logspace(a,nan,3)"], "two numbers above 0"),
        (["model=glob(/etc/*)"], "stands for no value"),
        (["model=glob(../../*)"], "stands for no value"),
        (["model=glob(" + "*" * 60 + "a)"], "stands for no value"),
    ],
)
def test_what_has_no_countable_values(overrides, message):
    with pytest.raises(ConfigError, match=message):
        sweep_expansion.expand(overrides, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=choice(1,2", "cannot read 'seed=choice(1,2'"),
        ("seed=choice(1,2))", "cannot read 'seed=choice(1,2))'"),
        ("seed=[1,2", "cannot read 'seed=[1,2'"),
        ("seed=choice()", "cannot read 'seed=choice()'"),
        ("seed=1\n,2", "cannot read 'seed=1\\n,2'"),
        ("seed=1,\x07", "cannot read 'seed=1,\\x07'"),
        ("seed=sort(1,a,b)", "cannot read 'seed=sort(1,a,b)'"),
        ("model=../../../etc/passwd,mlp", "no model '../../../etc/passwd'"),
        ("seed=${oc.env:HOME},1", "resolvers are not allowed in a configuration that is saved"),
        ("seed=choice(${oc.env:HOME},2)", "resolvers are not allowed in a configuration that is saved"),
        ("seed=${hydra:job.num},1", "resolvers are not allowed"),
        ("optimizer.lr=choice({_target_:os.system,x:1},1)", "expected a number greater than 0"),
        ("optimizer={lr:0.1},adam", "expected the name of one optimizer"),
        ("optimizer.lr=1e400,2", "optimizer.lr=inf: expected a number greater than 0"),
    ],
)
def test_hostile_values_are_one_line_each(override, message):
    with pytest.raises(ConfigError) as caught:
        sweep.plan(["data=digits", override], [])
    assert any(message in problem for problem in caught.value.problems)
    assert all("\n" not in problem and len(problem) < 300 for problem in caught.value.problems)


# ---------------------------------------------------------------------- before anything starts


def test_problems_of_all_jobs_are_reported_together(capsys, monkeypatch):
    monkeypatch.setattr("dlcli.processes.Server.start", lambda *_: pytest.fail("a job was started"))
    code = run(["train", "-m", "data=digits", "model=mlp,mpl,gpt", "optimizer.lrr=1", "seed=0,-1"])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert "dlcli: unknown option 'optimizer.lrr' of optimizer 'adamw'; did you mean optimizer.lr?" in lines
    assert "dlcli: no model 'mpl'; did you mean mlp? (job 2: model=mpl seed=0 and 1 more)" in lines
    assert any(line.startswith("dlcli: seed=-1: expected") and "(job 1: model=mlp seed=-1" in line for line in lines)
    assert any(line.startswith("dlcli: model 'gpt' needs vocab_size") for line in lines)
    assert not Path("runs").exists()


def test_a_dry_run_lists_the_jobs(capsys):
    assert run(["train", "-m", "--dry-run", "data=digits", "model=mlp,linear", "seed=range(2)"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "job 0  data=digits model=mlp seed=0",
        "job 1  data=digits model=mlp seed=1",
        "job 2  data=digits model=linear seed=0",
        "job 3  data=digits model=linear seed=1",
        "4 jobs, well composed; nothing was trained and nothing was written",
    ]
    assert not Path("runs").exists()


def test_without_m_several_values_are_refused(capsys):
    assert run(["train", "seed=0,1"]) == 2
    assert "'seed=0,1' names several values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.callbacks.x._target_=os.system", "of Hydra's own settings, only hydra/launcher"),
        ("+hydra.callbacks={x:{_target_:os.system}}", "of Hydra's own settings"),
        ("hydra.sweep.dir=/tmp/elsewhere", "of Hydra's own settings"),
        ("hydra.searchpath=[file:///tmp]", "of Hydra's own settings"),
        ("hydra.job.chdir=true", "of Hydra's own settings"),
        ("hydra.launcher._target_=os.system", "of Hydra's own settings"),
        ("+hydra.launcher.x={_target_:os.system}", "of Hydra's own settings"),
        ("++hydra.launcher.x.y._target_=os.system", "of Hydra's own settings"),
        ("hydra.launcher={_target_:os.system}", "of Hydra's own settings"),
        ("~hydra.launcher.n_jobs", "of Hydra's own settings"),
        ("hydra/callbacks=evil", "of Hydra's own settings"),
        ("+hydra/callbacks=evil", "of Hydra's own settings"),
        ("hydra/sweeper=basic", "of Hydra's own settings"),
        ("hydra/launcher@x=basic", "of Hydra's own settings"),
        ("hydra/launcher=jolib", "no launcher 'jolib' that a sweep may use; did you mean joblib?"),
        ("hydra/launcher=submitit_slurm", "submitit_slurm is not installed: pip install hydra-submitit-launcher"),
        ("hydra.launcher.n_jobs=0", "n_jobs=0: expected a whole number of at least 1"),
        ("hydra.launcher.n_jobs=two", "hydra.launcher.n_jobs=two"),
        ("hydra.launcher.n_jobs=1,2", "Sweeping over Hydra's configuration is not supported"),
        ("hydra.launcher.njobs=2", "hydra.launcher.njobs"),
    ],
)
def test_settings_of_hydra_that_are_refused(override, message, capsys):
    assert run(["train", "-m", "data=digits", "seed=0,1", override]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("runs").exists()


EVIL = "{{_target_: os.system, command: touch {canary}, _args_: ['touch {canary}']}}"
HOSTILE = {
    "model/evil.yaml": "# @package _global_\nhydra:\n  callbacks:\n    x: {evil}\nmodel:\n  name: mlp\n",
    "data/evil.yaml": "# @package hydra.callbacks\nx: {evil}\n",
    "optimizer/evil.yaml": "# @package _global_\nhydra:\n  launcher: {evil}\n",
    "task/evil.yaml": "# @package _global_\nhydra:\n  sweeper: {evil}\n",
    "trainer/evil.yaml": "# @package hydra\njob:\n  env_set: {{LD_PRELOAD: x}}\n",
    "experiment/evil.yaml": (
        "# @package _global_\nhydra:\n  job_logging:\n    version: 1\n    handlers:\n      x: {{'()': {evil}}}\n"
    ),
    "scheduler/evil.yaml": "name: constant\nx: {evil}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("swept", [True, False])
def test_nothing_in_a_yaml_file_is_executed(name, swept, tmp_path, config_dir, capsys):
    """Neither where the file is one of several choices, nor where it is in every job."""
    canary = tmp_path / "canary"
    evil = EVIL.format(canary=canary)
    file = config_dir / name
    file.parent.mkdir(parents=True)
    file.write_text(HOSTILE[name].format(evil=evil))
    group = name.partition("/")[0]
    fine = {"model": "mlp", "data": "digits", "optimizer": "adamw", "task": "classification", "experiment": "null"}
    other = {"scheduler": "cosine", "trainer": "minibatch"}
    value = f"evil,{({**fine, **other})[group]}" if swept else "evil"
    data = [] if group == "data" else ["data=digits"]
    code = run(["train", "-m", "--config-dir", str(config_dir), *data, f"{group}={value}", "seed=0,1"])
    err = capsys.readouterr().err
    assert code == 2, err
    if group in ("model", "data", "trainer", "experiment"):  # the others do not even compose
        assert f"{file}: hydra." in err
        assert "cannot be set in a YAML file" in err
    assert not canary.exists()
    assert not Path("runs").exists()


def test_files_in_place_of_hydra_s_own_are_not_read(tmp_path, config_dir, capsys):
    canary = tmp_path / "canary"
    for name in ("launcher/basic", "launcher/dlcli", "sweeper/basic", "sweeper/dlcli", "callbacks/evil"):
        file = config_dir / "hydra" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(EVIL.format(canary=canary))
    code = run(["train", "-m", "--config-dir", str(config_dir), "data=digits", "seed=0,1"])
    assert code == 2
    assert f"{config_dir / 'hydra'}: would replace Hydra's own settings" in capsys.readouterr().err
    assert not canary.exists()


def test_ordinary_files_of_one_s_own_are_welcome(config_dir):
    (config_dir / "model").mkdir()
    (config_dir / "model" / "wide.yaml").write_text("# Wide.\ndefaults:\n  - mlp\nhidden_sizes: [9]\n")
    composed = compose(["data=digits", "model=wide"], [config_dir])
    assert composed.config["model"]["hidden_sizes"] == [9]


# ---------------------------------------------------------------------- running


def test_an_option_names_a_run_as_seen_from_the_folder_of_runs() -> None:
    other = Path("runs/judge-1")
    other.mkdir(parents=True)
    for name in ("config.yaml", "spec.json"):
        (other / name).write_text("{}")
    jobs = [["data=gaussian_2d", f"seed={seed}", "task.classifier=judge", "init_from=judge-1"] for seed in (0, 1)]
    composed = sweep_expansion.compose_jobs(jobs, [])
    folder = sweep.create(jobs, composed, plugins=[], command="", launcher="dlcli")
    for number in range(2):
        config = read_job(folder, number).content["config"]
        assert config["task"]["classifier"] == config["init_from"] == str(other.resolve())
    composed[0].config["task"]["classifier"] = "nobody"
    with pytest.raises(ConfigError, match=r"task.classifier: no run .*nobody.* \(or task.classifier=null\)"):
        sweep.create(jobs, composed, plugins=[], command="", launcher="dlcli")


def test_three_of_eight_jobs_fail_and_are_run_again(plugin, monkeypatch, capsys):
    command = ["train", "-m", *TINY, "model.number=range(8)", "hydra.launcher.n_jobs=2", "--plugin", plugin]
    before = os.getcwd()
    assert run(command) == 6
    out, err = capsys.readouterr()
    folder = only_sweep()
    assert err == (f"dlcli: 3 of 8 jobs without a result; run again with: dlcli train --resume {folder}\n"), err
    assert os.getcwd() == before
    found = results(folder)
    assert [job.status for job in found.jobs].count("finished") == 5
    causes = {job.number: (job.status, job.cause) for job in found.failed}
    assert causes[3] == ("failed", "RuntimeError: the third one trips")
    assert causes[5] == ("killed", "killed by signal 9 (SIGKILL)")
    assert causes[6][0] == "failed"
    assert causes[6][1].startswith("out of memory with model 'saboteur'")
    assert all(
        f"job {number}  model.number={number}  {status}: {cause}" in out for number, (status, cause) in causes.items()
    )
    assert [job.content["exit_code"] for job in found.failed] == [1, -9, 5]
    assert "the third one trips" in found.jobs[3].log.read_text()
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"jobs", *(job.run.name for job in found.jobs)}
    written = json.loads((folder / "sweep.json").read_text())
    assert [job["status"] for job in written["results"]["jobs"]].count("finished") == 5

    # Again: only the three, without the fault.
    monkeypatch.setenv("HEALED", "1")
    runs = {job.number: job.run for job in found.jobs}
    assert run(["train", "--resume", str(folder), "--plugin", plugin]) == 0
    out = capsys.readouterr().out
    assert [number for number in range(8) if f"job {number}  model.number={number}  started" in out] == [3, 5, 6]
    found = results(folder)
    assert found.unfinished == []
    assert all(found.jobs[number].run == runs[number] for number in (0, 1, 2, 4, 7))
    with (folder / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["finished"] * 8
    assert float(rows[3]["val/loss"]) == found.jobs[3].metrics["val/loss"]

    # Nothing is left to do.
    monkeypatch.setattr("dlcli.processes.Server.start", lambda *_: pytest.fail("a job was started"))
    assert run(["train", "--resume", folder.name, "--plugin", plugin]) == 0


def test_an_interrupted_sweep_is_completed_later(plugin):
    command = [sys.executable, "-m", "dlcli", "train", "-m", *TINY, "model.number=0,1,2", "seed=0", "--plugin", plugin]
    command.append("hydra.launcher.n_jobs=2")
    process = subprocess.Popen(
        command, env={**os.environ, "SLOW": "0.5"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if len(list(Path("runs").glob("sweep-*/*/metrics.jsonl"))) or len(list(Path("runs").glob("*/*/last.pt"))) == 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    folder = only_sweep()
    assert process.returncode == 130, out + err
    assert err == f"dlcli: stopped with 3 of 3 jobs left; continue with: dlcli train --resume {folder}\n"
    assert [job.status for job in results(folder).jobs] == ["stopped", "stopped", "waiting"]
    assert (folder / "sweep.csv").exists()
    stopped = {job.number: job.run for job in results(folder).jobs}
    assert run(["train", "--resume", folder.name[:8], "--plugin", plugin, "hydra.launcher.n_jobs=3"]) == 0
    found = results(folder)
    assert [job.status for job in found.jobs] == ["finished"] * 3
    assert [job.run for job in found.jobs][:2] == [stopped[0], stopped[1]]  # they went on
    assert all(job.summary["steps"] == 20 for job in found.jobs)


def test_another_launcher(plugin, capsys):
    """Hydra's basic one runs the jobs in this process, one after the other; records and table are the same."""
    command = ["train", "-m", *TINY, "model.number=2,3", "hydra/launcher=basic", "--plugin", plugin]
    assert run(command) == 6
    folder = only_sweep()
    assert [job.status for job in results(folder).jobs] == ["finished", "failed"]
    assert "the third one trips" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "jobs").iterdir()) == ["000.json", "000.log", "001.json", "001.log"]


def test_resuming_asks_for_the_plug_in_and_refuses_other_options(plugin, capsys):
    composed = compose([*TINY], sweep_directories(plugin))
    folder = sweep.create([TINY], [composed], plugins=[plugin], command="dlcli train -m", launcher="dlcli")
    from dlcli import registry

    registry._plugin_files.clear()
    assert run(["train", "--resume", str(folder)]) == 2
    assert f"the sweep was started with --plugin {plugin}" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder), "seed=1", "--plugin", plugin]) == 2
    assert "'seed=1': a sweep is resumed as it was begun" in capsys.readouterr().err
    from dlcli.run_records import process_record

    update_job(folder, 0, status="running", **process_record())
    assert run(["train", "--resume", str(folder), "--plugin", plugin]) == 2
    assert "job 0 is running" in capsys.readouterr().err


def test_jobs_of_an_earlier_version_are_resumed_like_runs(monkeypatch, capsys):
    composed = compose(["data=digits", "model=mlp"])
    folder = sweep.create([["data=digits"]], [composed], plugins=[], command="dlcli train -m", launcher="dlcli")
    whole = read_job(folder, 0).content["config"]
    earlier = {key: value for key, value in whole.items() if key != "lr_factors"}
    earlier["data"] = {key: value for key, value in whole["data"].items() if key not in ("folds", "fold")}
    update_job(folder, 0, config=earlier)
    monkeypatch.setattr(sweep, "job_server", contextlib.nullcontext)
    monkeypatch.setattr(sweep, "launch", lambda *_: None)
    assert run(["train", "--resume", str(folder)]) == 0
    assert read_job(folder, 0).content["config"] == whole, "the defaults of new options are what held before"
    update_job(folder, 0, config={**whole, "model": {**whole["model"], "name": "perceptron"}})
    assert run(["train", "--resume", str(folder)]) == 2
    assert "was saved when model=mlp was built by 'perceptron', and it is built by 'mlp' now" in capsys.readouterr().err
    update_job(folder, 0, config={**whole, "model": 3})
    assert run(["train", "--resume", str(folder)]) == 2
    assert "model is 3; expected one model by name" in capsys.readouterr().err


def test_a_record_that_names_anything_else_executes_nothing(plugin, tmp_path, capsys):
    composed = compose([*TINY], sweep_directories(plugin))
    folder = sweep.create([TINY], [composed], plugins=[], command="dlcli train -m", launcher="dlcli")
    canary = tmp_path / "canary"
    config = {**composed.config, "model": {"_target_": "os.system", "command": f"touch {canary}"}}
    update_job(folder, 0, config=config)
    assert run(["train", "--resume", str(folder), "--plugin", plugin]) == 2
    assert not canary.exists()
    update_job(folder, 0, overrides=3)
    assert run(["train", "--resume", str(folder), "--plugin", plugin]) == 3
    assert "damaged, not the record of job 0" in capsys.readouterr().err


def sweep_directories(plugin: str) -> list[Path]:
    from dlcli import plugins

    return plugins.load([plugin])


def test_a_stranger_s_run_dir_that_cannot_be_made(capsys):
    Path("file").write_text("")
    assert run(["train", "-m", "data=digits", "seed=0,1", "run_dir=file"]) == 2
    assert "run_dir=file: cannot be written to" in capsys.readouterr().err
    assert run(["train", "-m", "data=digits", "run_dir=a,b"]) == 2
    assert "run_dir has several values" in capsys.readouterr().err


def test_share_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr("dlcli.sweep_processes.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert sweep_processes.environment(0, 3, [])["OMP_NUM_THREADS"] == "2"
    assert sweep_processes.environment(0, 20, [])["OMP_NUM_THREADS"] == "1"
    found = [sweep_processes.environment(slot, 4, ["0", "1"])["CUDA_VISIBLE_DEVICES"] for slot in range(4)]
    assert found == ["0", "1"] * 2
    assert sweep_processes.default_n_jobs(4) == 4
    assert 1 <= sweep_processes.default_n_jobs(0) <= 8
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sweep_processes.gpus(tmp_path) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-7")
    assert sweep_processes.gpus(tmp_path) == ["3", "GPU-7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sweep_processes.gpus(tmp_path) == []


# ---------------------------------------------------------------------- the table


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two learning rates with three seeds each; the second one is better in a metric that should be large."""
    folder = tmp_path / "sweep-mlp-1"
    folder.mkdir()
    jobs = [[f"optimizer.lr={lr}", f"seed={seed}", "data=digits"] for lr in ("0.1", "0.2") for seed in range(3)]
    records = [{"overrides": job, "config": {}, "choices": {}} for job in jobs]
    write_sweep(folder, {"monitor": "val/accuracy", "direction": "max", "jobs": len(jobs)}, records)
    for number in range(len(jobs)):
        directory = folder / f"run-{number}"
        directory.mkdir()
        accuracy = 0.5 + 0.1 * (number // 3) + 0.013 * (number % 3) ** 2
        best = {"metric": "val/accuracy", "value": accuracy, "step": 3}
        metrics = {"val": {"accuracy": accuracy, "loss": 1.0}, "test": {"accuracy": accuracy - 0.1, "f1": None}}
        summary = {"status": "finished", "best": best, "metrics": metrics, "steps": 3, "seconds": 2.0}
        (directory / "summary.json").write_text(json.dumps(summary))
        update_job(folder, number, status="finished", run=directory.name)
    return folder


def test_mean_and_deviation_over_seeds(finished):
    found = results(finished)
    assert [group.options for group in found.groups] == [{"optimizer.lr": "0.2"}, {"optimizer.lr": "0.1"}]  # best first
    for group in found.groups:
        values = group.values("val/accuracy")
        assert len(values) == 3
        assert group.mean("val/accuracy") == pytest.approx(numpy.mean(values), rel=1e-12)
        assert group.std("val/accuracy") == pytest.approx(numpy.std(values, ddof=1), rel=1e-12)
    assert found.best is not None
    assert found.best.number == 5
    header, rows = found.rows()
    assert header == ["optimizer.lr", "val/accuracy", "test/accuracy", "val/loss", "jobs", "seconds"]
    assert rows[0] == ["0.2", "0.6217 ± 0.0271", "0.5217 ± 0.0271", "1.0000 ± 0.0000", "3", "2"]
    found.write()
    written = json.loads((finished / "sweep.json").read_text())["results"]
    assert written["best"] == 5
    assert written["groups"][0]["metrics"]["val/accuracy"]["std"] == pytest.approx(0.02706, abs=1e-5)
    with (finished / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["optimizer.lr"], row["seed"]) for row in rows[:2]] == [("0.1", "0"), ("0.1", "1")]
    assert "data" not in rows[0]  # the same in all


def test_the_table_counts_finished_jobs_only(finished):
    update_job(finished, 4, status="failed", cause="a\nb")
    update_job(finished, 0, status="running", pid=2**22 + 1, host=os.uname().nodename)
    found = results(finished)
    assert [row[-2] for row in found.rows()[1]] == ["2 of 3", "2 of 3"]
    assert [(job.status, job.cause) for job in found.failed] == [("killed", "its process is gone"), ("failed", "a b")]
    assert len(found.groups[0].values("val/accuracy")) == 2


def test_no_deviation_of_one_value(finished):
    group = Group({}, [read_job(finished, 0)])
    assert group.std("val/accuracy") is None
    assert format_mean(group.mean("val/accuracy"), None) == "0.5000"
    assert format_mean(None, None) == format_mean(float("nan"), 1.0) == "-"


def test_a_run_outside_of_the_sweep_is_not_its(finished):
    assert Job(finished, {"number": 0, "run": "../elsewhere"}).run is None


def test_finding_a_sweep(finished):
    parent = finished.parent
    assert find_sweep(str(finished), Path("nowhere")) == finished
    assert find_sweep("sweep-mlp-1", parent) == find_sweep("sweep-m", parent) == finished
    assert find_sweep("latest", parent) is None
    (parent / "sweep-mlp-12").mkdir()
    (parent / "sweep-mlp-12" / "sweep.json").write_text("{}")
    assert find_sweep("sweep-mlp-1", parent) == finished
    with pytest.raises(ConfigError, match="sweep 'sweep-m' is ambiguous: it may be sweep-mlp-1, sweep-mlp-12"):
        find_sweep("sweep-m", parent)


def test_runs_that_differ_in_more_than_a_repetition_have_no_mean_prediction(finished, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert run(["predict", str(finished), "--input", str(tmp_path), "--output", str(output)]) == 2
    message = "sweep-mlp-1: its runs differ in optimizer.lr, not only in seed or data.fold"
    assert message in " ".join(capsys.readouterr().err.split())
    assert not output.exists()


# ---------------------------------------------------------------------- what a person sees


def test_a_live_table_on_a_terminal(finished, capsys):
    (finished / "run-1" / "metrics.jsonl").write_text('{"step": 1200, "val/loss": 2.5}\n{"step": 13')
    progress = SweepProgress(finished, quiet=False, terminal=True)
    jobs = results(finished).jobs
    progress.start(jobs, 2)
    progress.started(jobs[1])
    progress.ended(jobs[0])
    progress.update([1])
    progress.stop()
    out = capsys.readouterr().out
    assert "job 0  optimizer.lr=0.1 seed=0  finished  val/accuracy 0.5000  test/accuracy 0.4000" in out
    assert latest(jobs[1]) == (1200, "val/loss 2.5000")
    assert latest(jobs[0]) == (None, "")


def test_quiet(finished, capsys):
    progress = SweepProgress(finished, quiet=True, terminal=True)
    jobs = results(finished).jobs
    progress.start(jobs, 2)
    progress.ended(jobs[0])
    progress.report(results(finished))
    assert capsys.readouterr().out == ""


def test_the_report_names_causes_and_the_best_run(finished, capsys):
    update_job(finished, 1, status="failed", cause="it tripped")
    SweepProgress(finished, quiet=False, terminal=False).report(results(finished))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["optimizer.lr", "val/accuracy"]
    assert f"job 1  optimizer.lr=0.1 seed=1  failed: it tripped; see {finished / 'jobs' / '001.log'}" in lines
    assert lines[-2:] == [f"best   {finished / 'run-5'}", f"table  {finished / 'sweep.csv'}"]


def test_two_jobs_that_end_at_once_leave_one_for_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last waiting job is started once, however many slots are free."""
    from types import SimpleNamespace

    ended = SimpleNamespace(poll=lambda: 0)
    started: list[int] = []
    jobs = sweep_processes.Jobs.__new__(sweep_processes.Jobs)
    jobs.folder, jobs.numbers, jobs.received = Path(), [0, 1, 2], None
    jobs.server = SimpleNamespace(listen=lambda _: None, prepare=lambda *_: None)  # type: ignore[assignment]
    jobs.progress = SimpleNamespace(start=lambda *_: None, stop=lambda: None, update=lambda _: None)  # type: ignore[assignment]
    monkeypatch.setattr(sweep_processes, "read_job", lambda *_: SimpleNamespace(content={"config": {}}))
    monkeypatch.setattr(jobs, "_start", lambda number, _: started.append(number) or ended, raising=False)
    monkeypatch.setattr(jobs, "_settle", lambda *_: None, raising=False)
    jobs.launch(range(3), 2)
    assert started == [0, 1, 2]


def test_jobs_that_make_the_same_choices_share_what_hydra_composes(monkeypatch):
    """Each job equals what composing it alone gives, values with interpolations included."""
    calls = []
    monkeypatch.setattr(
        sweep_expansion, "compose_choices", lambda *given: calls.append(given) or compose_choices(*given)
    )
    jobs = sweep_expansion.expand(["model=mlp,linear", "data=digits", "seed=1,2", "optimizer.lr=0.1"], [])
    composed = sweep_expansion.compose_jobs(jobs, [])
    assert len(composed) == 4
    assert len(calls) == 2
    assert [job.config for job in composed] == [compose(job).config for job in jobs]
