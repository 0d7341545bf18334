"""Checkpoints under crashes, corruption, hostile files and a full disk."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlcli import checkpoint
from dlcli.checkpoint import FORMAT_VERSION, load, load_latest, save
from dlcli.errors import DataError, ResourceError
from tests.support.kill_server import start_in_fork


def state_at(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    return {
        "model": OrderedDict(
            weight=torch.randn(30, 20, generator=generator), bias=torch.randn(30, generator=generator)
        ),
        "optimizer": {"model": {"state": {0: {"step": step, "average": torch.randn(30, 20, generator=generator)}}}},
        "scheduler": {"model": {"step": step, "best": None}},
        "loop": {"step": step, "metrics": {"val/loss": 0.5}, "history": [1, (2, 3.0)], ("a", 1): b"key", "on": True},
        "rng": {"torch": generator.get_state(), "python": random.Random(step).getstate()},
    }


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_equal(a, b)
    else:
        assert left == right


def in_child(function: Callable[[], int]) -> int:
    """Exit status of ``function`` in a forked process; it may call ``os._exit`` itself."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        signal.alarm(60)  # a child that hangs is an error, not a wait
        torch.set_num_threads(1)  # the parent's OpenMP threads do not exist here, and work for them would hang
        try:
            status = function()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def with_trailer(content: bytes, version: int = 1) -> bytes:
    head = content + checkpoint._HEAD.pack(checkpoint._MAGIC, version)
    return head + hashlib.sha256(head).digest()


def assert_one_line(error: pytest.ExceptionInfo[Any], file: Path) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert str(file) in message
    assert ";" in message, "says what to do"


# What comes back


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save(file, state_at(3), keep_previous=True)
    assert_equal(load(file), {**state_at(3), "format_version": FORMAT_VERSION})
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_load_reads_the_file(tmp_path: Path, mmap: bool) -> None:
    file = tmp_path / "last.pt"
    save(file, state_at(3), keep_previous=False)
    assert_equal(torch.load(file, weights_only=True, mmap=mmap), {**state_at(3), "format_version": 1})


def test_model_state_keeps_its_metadata_and_loads(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2))
    save(tmp_path / "last.pt", {"model": model.state_dict()}, keep_previous=False)
    state = load(tmp_path / "last.pt")["model"]
    assert state._metadata == model.state_dict()._metadata
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2))
    other.load_state_dict(state)
    assert_equal(other.state_dict(), model.state_dict())


def test_shared_tensors_stay_shared(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    save(tmp_path / "last.pt", {"model": {"a": weight, "b": weight}}, keep_previous=False)
    state = load(tmp_path / "last.pt")["model"]
    assert state["a"].data_ptr() == state["b"].data_ptr()


def test_a_large_state_is_mapped_not_copied(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save(file, {"model": {f"w{i}": torch.full((2_000_000,), float(i)) for i in range(12)}}, keep_previous=False)

    def child() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        state = load(file, mmap=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert grown < 48_000_000, grown  # the file has 96 MB
        assert state["model"]["w7"][5] == 7
        state["model"]["w7"].fill_(1.0)  # private to the reader
        assert load(file)["model"]["w7"][5] == 7
        return 0

    assert in_child(child) == 0


def test_previous_is_one_save_older(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / "last.pt", state_at(step), keep_previous=True)
    assert load(tmp_path / "last.pt")["loop"]["step"] == 3
    assert load(tmp_path / "previous.pt")["loop"]["step"] == 2
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "previous.pt"]
    state, file, note = load_latest(tmp_path)
    assert (state["loop"]["step"], file, note) == (3, tmp_path / "last.pt", None)


def test_previous_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", link)
    for step in (1, 2, 3):
        save(tmp_path / "last.pt", state_at(step), keep_previous=True)
    assert load(tmp_path / "last.pt")["loop"]["step"] == 3
    assert load(tmp_path / "previous.pt")["loop"]["step"] == 2


def test_a_damaged_last_never_replaces_a_good_previous(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / "last.pt", state_at(step), keep_previous=True)
    content = bytearray((tmp_path / "last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "last.pt").write_bytes(content)
    save(tmp_path / "last.pt", state_at(3), keep_previous=True)
    assert load(tmp_path / "last.pt")["loop"]["step"] == 3
    assert load(tmp_path / "previous.pt")["loop"]["step"] == 1


def test_a_file_of_another_process_is_rotated_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)
    monkeypatch.setattr(checkpoint, "_known_good", set())
    save(tmp_path / "last.pt", state_at(2), keep_previous=True)
    assert load(tmp_path / "previous.pt")["loop"]["step"] == 1


# What may be saved


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"loop": {"best": np.float64(0.5)}}, "loop.best is a numpy.float64"),
        ({"loop": {"best": np.int64(5)}}, "loop.best is a numpy.int64"),
        ({"loop": {"history": [1, (2, np.zeros(3))]}}, r"loop.history\[1\]\[1\] is a numpy.ndarray"),
        ({"loop": {"seen": {1, 2}}}, "loop.seen is a builtins.set"),
        ({"loop": {"folder": Path("x")}}, "loop.folder is a pathlib"),
        ({"loop": defaultdict(int)}, "loop is a collections.defaultdict"),
        ({"model": nn.Linear(1, 1)}, "model is a torch.nn.modules.linear.Linear"),
        ({"model": {"shape": torch.Size([1])}}, "model.shape is a torch.Size"),
        ({"optimizer": {"state": {np.int64(0): 1}}}, "optimizer.state has the key .* of type int64"),
        ({"optimizer": {(1, np.int64(0)): 1}}, "optimizer has the key .* of type int64"),
    ],
)
def test_other_types_are_refused_by_path(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "last.pt", state, keep_previous=True)
    assert os.listdir(tmp_path) == []


# R2: a crash at every point

CRASH = 77


def crash_at(point: int, monkey: pytest.MonkeyPatch, log: list[str]) -> None:
    """Count the moments before and after every call that touches the disk, and end the process at number ``point``."""

    def event(name: str) -> None:
        log.append(name)
        if len(log) - 1 == point:
            os._exit(CRASH)

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if name == "write" and len(log) == point:  # half of it arrives
                original(arguments[0], arguments[1][: len(arguments[1]) // 2])
            event(f"before {name}")
            result = original(*arguments, **options)
            if name != "write":  # after one write is before the next
                event(f"after {name}")
            return result

        monkey.setattr(os, name, call)

    for name in ("open", "write", "fsync", "link", "replace", "unlink"):
        wrap(name)


@pytest.mark.parametrize("saves_before", [0, 2])
def test_a_crash_at_any_point_leaves_a_checkpoint_at_most_one_save_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves_before: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and a process that ends loses nothing without it
    start = tmp_path / "start"
    start.mkdir()
    for step in range(1, saves_before + 1):
        save(start / "last.pt", state_at(step), keep_previous=True)
    points, finished = 0, False
    while not finished:
        folder = tmp_path / str(points)
        shutil.copytree(start, folder)

        def child(folder: Path = folder, point: int = points) -> int:
            with pytest.MonkeyPatch.context() as monkey:
                crash_at(point, monkey, [])
                save(folder / "last.pt", state_at(saves_before + 1), keep_previous=True)
            return 0

        status = in_child(child)
        assert status in (0, CRASH)
        finished = status == 0
        if saves_before == 0 and not (folder / "last.pt").exists():
            with pytest.raises(DataError, match="no checkpoint yet"):
                load_latest(folder)
        else:
            state, file, note = load_latest(folder)
            step = state["loop"]["step"]
            assert_equal(state, {**state_at(step), "format_version": 1})
            assert (file.name, note) == ("last.pt", None), "rotation never leaves a gap"
            assert step in (saves_before, saves_before + 1)
        # Whoever goes on saves again, and nothing of the dead process stays.
        save(folder / "last.pt", state_at(9), keep_previous=True)
        assert load(folder / "last.pt")["loop"]["step"] == 9
        assert set(os.listdir(folder)) <= {"last.pt", "previous.pt"}
        shutil.rmtree(folder)
        points += 1
    assert points > 30


def save_for_ever(folder: Path) -> None:
    """Go on from the newest checkpoint, and note each save that has returned."""
    step = load_latest(folder)[0]["loop"]["step"] if (folder / "last.pt").exists() else 0
    done = os.open(folder / "done", os.O_WRONLY | os.O_CREAT)
    while True:
        step += 1
        save(folder / "last.pt", {**state_at(step), "ballast": torch.full((200_000,), float(step))}, keep_previous=True)
        os.pwrite(done, f"{step:9}".encode(), 0)  # at once: a reader never sees a part


def test_kills_at_random_moments(tmp_path: Path) -> None:
    generator, kills, torn, step, done = random.Random(0), 30, 0, 0, tmp_path / "done"
    done.touch()
    for _ in range(kills):
        process = start_in_fork(save_for_ever, tmp_path)
        while int(done.read_text() or 0) <= step:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(generator.random() * 0.05)
        process.kill()
        process.join()
        torn += any(".tmp-" in file.name for file in tmp_path.iterdir())
        returned = int(done.read_text())
        state, file, note = load_latest(tmp_path)
        assert (file.name, note) == ("last.pt", None)
        assert state["loop"]["step"] >= returned > step, "every kill finds progress, and no save that returned is lost"
        step = state["loop"]["step"]
        assert_equal(state["ballast"], torch.full((200_000,), float(step)))
    assert torn >= kills / 4, "the kills hit the writing"
    save(tmp_path / "last.pt", state_at(0), keep_previous=True)
    assert sorted(os.listdir(tmp_path)) == ["done", "last.pt", "previous.pt"]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)
    log: list[str] = []
    crash_at(-1, monkeypatch, log)
    save(tmp_path / "last.pt", state_at(2), keep_previous=True)
    monkeypatch.undo()
    names = [entry.split()[1] for entry in log if entry.startswith("before") and "unlink" not in entry]
    first, last = names.index("write"), len(names) - 1 - names[::-1].index("write")
    assert names[:first] == ["open"]
    assert set(names[first:last]) == {"write"}
    assert names[last + 1 :] == ["fsync", "link", "replace", "replace", "open", "fsync"]


def test_temporary_files_of_dead_processes_only_are_swept(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    mine, dead, alive = (f"last.pt.tmp-{process}" for process in (os.getpid(), child.pid, os.getppid()))
    for name in (mine, dead, alive, "notes.tmp-1x", "previous.pt.tmp-99999999999999999999"):
        (tmp_path / name).write_bytes(b"half")
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)
    assert set(os.listdir(tmp_path)) == {"last.pt", alive, "notes.tmp-1x"}


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)

    def fsync(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "last.pt", state_at(2), keep_previous=True)
    assert os.listdir(tmp_path) == ["last.pt"]
    assert load(tmp_path / "last.pt")["loop"]["step"] == 1


# R5: corruption


def test_200_bit_flips_are_all_refused(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save(file, state_at(1), keep_previous=True)
    whole = file.read_bytes()
    generator = random.Random(0)
    positions = [generator.randrange(8 * len(whole)) for _ in range(150)]
    positions += [8 * (len(whole) - 44) + generator.randrange(8 * 44) for _ in range(50)]  # the trailer itself
    for position in positions:
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        file.write_bytes(content)
        with pytest.raises(DataError) as error:
            load(file)
        assert_one_line(error, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "the checkpoint is empty"),
        (lambda whole: whole[:1], "cut short"),
        (lambda whole: whole[: len(whole) // 2], "cut short"),
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[1:], "damaged"),
        (lambda whole: whole + b"x", "cut short"),
        (lambda whole: bytes(len(whole)), "not a checkpoint of dlcli"),
        (lambda _: b"To be, or not to be" * 50, "not a checkpoint of dlcli"),
        (lambda whole: whole[:-44], "no checksum at its end"),
        (lambda _: pickle.dumps({"model": {}}), "not a checkpoint of dlcli"),
        (lambda _: with_trailer(b"To be, or not to be" * 50), "not an archive of torch.save"),
        (lambda _: with_trailer(b"PK\x03\x04" + bytes(500)), "a broken archive"),
        (lambda whole: with_trailer(whole[:-44], version=2), "needs a newer dlcli"),
        (lambda whole: whole[-44:], "cut short"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file = tmp_path / "last.pt"
    save(file, state_at(1), keep_previous=True)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        load(file)
    assert_one_line(error, file)
    assert error.value.exit_code == 3


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such checkpoint") as error:
        load(tmp_path / "best.pt")
    assert_one_line(error, tmp_path / "best.pt")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(DataError, match="no checkpoint yet"):
        load_latest(tmp_path)


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], None])
def test_the_previous_one_is_taken_and_named(tmp_path: Path, damage: Callable[[bytes], bytes] | None) -> None:
    for step in (1, 2):
        save(tmp_path / "last.pt", state_at(step), keep_previous=True)
    last = tmp_path / "last.pt"
    if damage is None:
        last.unlink()
    else:
        last.write_bytes(damage(last.read_bytes()))
    state, file, note = load_latest(tmp_path)
    assert state["loop"]["step"] == 1
    assert file == tmp_path / "previous.pt"
    assert note is not None
    assert "previous.pt, which is one save older" in note
    assert ("is missing" if damage is None else "cut short") in note
    assert "\n" not in note


def test_both_damaged(tmp_path: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"both last.pt and previous.pt are damaged; use best.pt"):
        load_latest(tmp_path)


def test_a_newer_format_is_refused_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", FORMAT_VERSION + 1)
    save(tmp_path / "last.pt", state_at(2), keep_previous=True)
    monkeypatch.undo()
    for read in (lambda: load(tmp_path / "last.pt"), lambda: load_latest(tmp_path)):
        with pytest.raises(DataError, match=r"needs a newer dlcli \(format 2; this one reads up to 1\); upgrade"):
            read()


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"format_version": "1"}, {"format_version": True}])
def test_a_file_that_is_no_checkpoint_inside(tmp_path: Path, content: Any) -> None:
    stream = io.BytesIO()
    torch.save(content, stream)
    (tmp_path / "last.pt").write_bytes(with_trailer(stream.getvalue()))
    with pytest.raises(DataError, match="no format_version in it"):
        load(tmp_path / "last.pt")


# R6: full disk


def test_a_full_disk_is_reported_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    """A limit on the size of files, at several sizes, in a child process."""
    file = tmp_path / "last.pt"
    save(file, state_at(1), keep_previous=True)
    size = file.stat().st_size

    def child(limit: int) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(ResourceError, match=r"no space to save .* bytes free\); make room .* is intact") as error:
            save(file, state_at(2), keep_previous=True)
        assert_one_line(error, file)
        assert error.value.exit_code == 5
        return 0

    for limit in (0, 1, 100, size // 2, size - 45, size - 44, size - 40, size - 1):
        assert in_child(lambda limit=limit: child(limit)) == 0
        assert os.listdir(tmp_path) == ["last.pt"]
        assert load(file)["loop"]["step"] == 1


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_no_space_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    save(tmp_path / "last.pt", state_at(1), keep_previous=True)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ResourceError, match="no space to save"):
        save(tmp_path / "last.pt", state_at(2), keep_previous=True)
    monkeypatch.undo()
    assert load(tmp_path / "last.pt")["loop"]["step"] == 1
    assert set(os.listdir(tmp_path)) <= {"last.pt", "previous.pt"}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot save the checkpoint \(No such file or directory\); make the fold"):
        save(tmp_path / "gone" / "last.pt", state_at(1), keep_previous=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 256 KiB, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_file_system(small_disk: Path) -> None:
    file = small_disk / "last.pt"
    state = {"model": torch.zeros(25_000)}  # 100 kB
    save(file, state, keep_previous=True)
    save(file, state, keep_previous=True)
    with pytest.raises(ResourceError, match=r"\([\d,]+ bytes free\)") as error:
        save(file, state, keep_previous=True)  # a third copy does not fit
    free = int(re.search(r"([\d,]+) bytes free", str(error.value))[1].replace(",", ""))
    assert 0 < free < 100_000
    assert sorted(os.listdir(small_disk)) == ["last.pt", "previous.pt"]
    assert load(file)["format_version"] == 1
    save(file, {"model": torch.zeros(1_000)}, keep_previous=True)
    assert len(load(file)["model"]) == 1_000


# S1: hostile files, each with a correct trailer, so that only the loader stands between them and the machine


class Call:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def zipped(payload: bytes, entries: dict[str, bytes] = {}, compression: int = zipfile.ZIP_STORED) -> bytes:  # noqa: B006
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression, compresslevel=1) as archive:
        for name, content in {"data.pkl": payload, "byteorder": b"little", "version": b"3\n", **entries}.items():
            archive.writestr(f"last/{name}", content)
    return stream.getvalue()


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def by_name(module: str, name: str, argument: str) -> bytes:
    """The pickle, in protocol 2, of ``module.name(argument)`` inside a state."""
    encoded = argument.encode()
    return (
        b"\x80\x02}(X\x05\x00\x00\x00model"
        + b"c" + module.encode() + b"\n" + name.encode() + b"\n"
        + b"(X" + len(encoded).to_bytes(4, "little") + encoded + b"tRu."
    )  # fmt: skip


def torchscript(folder: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1)).save(folder / "script.pt")
    return (folder / "script.pt").read_bytes()


def legacy_tar(payload: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            archive.addfile(entry, io.BytesIO(payload))
    return stream.getvalue()


def hostile_files(folder: Path) -> dict[str, bytes]:
    touch = f"touch {folder / 'canary'}"
    python = f"open({str(folder / 'canary')!r}, 'w')"
    gadget = Call(os.system, touch)
    parameter = {"model": {"weight": torch.zeros(2)}, "format_version": 1}
    return {
        "os.system": saved(gadget),
        "eval": saved({"model": Call(eval, python)}),
        "exec": saved({"model": Call(exec, python)}),
        "subprocess": saved({"model": Call(subprocess.getoutput, touch)}),
        "in the optimizer's state": saved(
            {**parameter, "optimizer": {"model": {"state": {0: {"average": [1, (2, gadget)]}}}}}
        ),
        "as a key": saved({**parameter, "loop": {(1, Call(os.system, touch)): 2}}),
        "behind 5,000 lists": zipped(b"\x80\x02" + b"(" * 5_000 + pickle.dumps(gadget, 2)[2:-1] + b"l" * 5_000 + b"."),
        "os.system by name": zipped(by_name("os", "system", touch)),
        "posix.system": zipped(by_name("posix", "system", touch)),
        "builtins.getattr": zipped(by_name("builtins", "getattr", touch)),
        "runpy": zipped(by_name("runpy", "run_path", touch)),
        "torch.load in a load": zipped(by_name("torch.serialization", "load", touch)),
        "collect_env.run": zipped(by_name("torch.utils.collect_env", "run", touch)),
        "a dotted name": zipped(by_name("torch", "serialization.os.system", touch)),
        "torch.hub": zipped(by_name("torch.hub", "load_state_dict_from_url", "file:///etc/passwd")),
        "an object with __setstate__": saved({"model": nn.Linear(1, 1)}),
        "numpy": saved({"model": np.zeros(3)}),
        "a bare pickle": pickle.dumps(gadget),
        "a legacy file": b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + pickle.dumps(gadget, 2) * 2,
        "a legacy tar": legacy_tar(pickle.dumps(gadget)),
        "TorchScript": torchscript(folder),
        "a compressed bomb": zipped(bytes(210 << 20), compression=zipfile.ZIP_DEFLATED),
        "a string of 4 GB": zipped(b"\x80\x02X\xff\xff\xff\xff" + b"x"),
        "a storage of 4 TB": zipped(
            saved_pickle(torch.zeros(2)).replace(b"K\x02", b"\x8a\x06\x00\x00\x00\x00\x00\x01"), {"data/0": bytes(8)}
        ),
        "20,000 entries": zipped(pickle.dumps(gadget, 2), {f"data/{index}": b"" for index in range(20_000)}),
        "an unknown opcode": zipped(b"\x80\x02\xff."),
        "no end": zipped(b"\x80\x02}"),
        "a memo that is not there": zipped(b"\x80\x02h\x07."),
        "no data.pkl": zipped(b"").replace(b"data.pkl", b"data.pkx"),
    }


def saved_pickle(value: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(value))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def test_hostile_files_execute_nothing_and_stay_small(tmp_path: Path) -> None:
    files = hostile_files(tmp_path)
    assert len(files) >= 20
    for name, content in files.items():
        file = tmp_path / "last.pt"
        file.write_bytes(with_trailer(content))

        def child(file: Path = file, name: str = name) -> int:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
            with pytest.raises((DataError, ResourceError)) as error:
                load(file)
            assert_one_line(error, file)
            assert isinstance(error.value, DataError) or name.startswith("a stor"), error.value
            return 0

        assert in_child(child) == 0, name
        assert not (tmp_path / "canary").exists(), name


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """The gadgets are live: what the test above proves is not that they are duds."""
    gadget = pickle.dumps(Call(os.system, f"touch {tmp_path / 'canary'}"))
    pickle.loads(gadget)
    assert (tmp_path / "canary").exists()


def test_a_folder_full_of_gadgets_is_refused(tmp_path: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(with_trailer(saved(Call(os.system, f"touch {tmp_path / 'canary'}"))))
    with pytest.raises(DataError, match="both"):
        load_latest(tmp_path)
    assert not (tmp_path / "canary").exists()
