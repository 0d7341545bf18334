"""``dlcli doctor``: what it finds, what it says about it, and the exit code."""

import builtins
import importlib.util
import os
import shutil
import sys
from collections import namedtuple

from dlcli.cli.doctor import extras
from dlcli.data.sources import SOURCES


def test_a_good_machine(dlcli):
    code, out, err = dlcli("doctor")
    assert (code, err) == (0, "")
    subjects = {line.split()[1] for line in out.split("\n") if line.startswith(("ok", "warning"))}
    assert {"dlcli", "Python", "torch", "CPU", "memory", "runs", "cache", "mirror", "extra", "terminal"} <= subjects
    assert out.rstrip().split("\n")[-1].startswith("dlcli can be used here")
    assert not os.listdir()


def test_an_extra_is_there_if_all_its_modules_are(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dp_accounting" else name)
    assert [finding.text for finding in extras()] == [
        "matplotlib",
        "gpytorch",
        "without dp_accounting (pip install 'dlcli[federated]')",
    ]


def test_a_run_folder_that_cannot_be_made(dlcli, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, _ = dlcli("doctor", "--run-dir", tmp_path / "file" / "runs")
    assert code == 1
    assert f"FAILURE: runs: {tmp_path}/file/runs cannot be written" in out
    assert "run_dir=DIR" in out
    assert out.endswith("dlcli cannot be used here yet: 1 failure.\n")


def test_folders_of_data(dlcli, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLCLI_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(tmp_path / "none"))
    code, out, _ = dlcli("doctor")
    assert code == 0
    assert "cannot be written\n  name another folder in DLCLI_CACHE" in out
    assert f"mirror: {tmp_path}/none is not a folder\n  correct or unset DLCLI_DATA_MIRROR" in out

    mirror = tmp_path / "mirror"
    for file in SOURCES["airfoil"].files:
        (mirror / file.path).parent.mkdir(parents=True)
        (mirror / file.path).write_bytes(b"\0" * file.size)
    monkeypatch.setenv("DLCLI_DATA_MIRROR", str(mirror))
    assert f"{mirror}: airfoil\n" in dlcli("doctor")[1]


def test_torch_that_is_broken(dlcli, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    code, out, _ = dlcli("doctor")
    assert code == 1
    assert "FAILURE: devices: torch cannot be imported: libtorch_cpu.so: cannot open shared object file" in out
    assert "pip install --force-reinstall torch" in out


def test_little_room_and_too_many_threads(dlcli, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**9, 10**9))
    monkeypatch.setenv("OMP_NUM_THREADS", "9999")
    code, out, _ = dlcli("doctor")
    assert code == 0
    assert "1.0 GB free\n  make room: 'dlcli runs prune' deletes runs" in out
    assert "OMP_NUM_THREADS=9999 is more than the cores" in out
