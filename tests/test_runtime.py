"""Threads, random state, devices and the commit: dlcli.runtime."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from dlcli import runtime
from dlcli.errors import ConfigError


def draw() -> list[torch.Tensor]:
    """Some numbers from every global generator, among them both halves of a pair of normal deviates."""
    return [
        torch.tensor([random.random(), random.gauss(0, 1)], dtype=torch.float64),
        torch.from_numpy(numpy.random.standard_normal(3)),
        torch.from_numpy(numpy.random.random(700)),  # further than the 624 numbers of a Mersenne Twister block
        torch.randn(5),
        torch.rand(3, dtype=torch.float64),
    ]


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class TestRandomState:
    def test_same_seed_same_numbers(self):
        runtime.seed_everything(7)
        first = draw()
        runtime.seed_everything(7)
        assert equal(draw(), first)
        runtime.seed_everything(8)
        assert not any(torch.equal(a, b) for a, b in zip(draw(), first, strict=True))

    @pytest.mark.parametrize("seed", [0, 2**32 - 1])
    def test_the_whole_range_of_seeds(self, seed: int):
        runtime.seed_everything(seed)

    def test_round_trip_through_a_file_bit_for_bit(self, tmp_path: Path):
        runtime.seed_everything(3)
        draw()
        random.gauss(0, 1)  # an odd number of normal deviates: the second of the pair is part of the state
        torch.save(runtime.rng_state(), tmp_path / "rng.pt")
        expected = draw()
        draw()
        runtime.set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
        assert equal(draw(), expected)

    def test_taking_the_state_changes_nothing(self):
        runtime.seed_everything(3)
        expected = draw()
        runtime.seed_everything(3)
        runtime.rng_state()
        assert equal(draw(), expected)

    @pytest.mark.parametrize("part", ["python", "numpy", "torch"])
    def test_every_part_counts(self, part: str):
        runtime.seed_everything(3)
        state = runtime.rng_state()
        expected = draw()
        runtime.set_rng_state({**state, part: runtime.rng_state()[part]})
        assert not equal(draw(), expected)

    def test_state_of_gpus_that_are_not_here(self):
        state = {**runtime.rng_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 9}
        if not torch.cuda.is_available():
            runtime.set_rng_state(state)
        assert len(state["cuda"]) == 9

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    def test_round_trip_on_the_gpu(self):
        torch.rand(1, device="cuda")
        state = runtime.rng_state()
        expected = torch.randn(4, device="cuda")
        runtime.set_rng_state(state)
        assert torch.equal(torch.randn(4, device="cuda"), expected)


class TestDevice:
    def test_cpu(self):
        assert runtime.resolve_device("cpu") == torch.device("cpu")

    def test_auto_takes_what_is_there(self, monkeypatch: pytest.MonkeyPatch):
        for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
            monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
            assert runtime.resolve_device("auto").type == expected

    @pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "CPU"])
    def test_unknown_names(self, name: str):
        with pytest.raises(ConfigError, match=rf"^trainer.device={name}: expected auto, cpu, mps, cuda, or one GPU"):
            runtime.resolve_device(name)

    def test_no_cuda(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        with pytest.raises(ConfigError, match=r"^trainer.device=cuda:1: torch finds no CUDA GPU here; use .*=auto or"):
            runtime.resolve_device("cuda:1")
        monkeypatch.setattr(torch.version, "cuda", None)
        with pytest.raises(ConfigError, match=r"^trainer.device=cuda: this torch is built without CUDA; use"):
            runtime.resolve_device("cuda")

    def test_gpu_number_too_high(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert runtime.resolve_device("cuda:1") == torch.device("cuda", 1)
        with pytest.raises(ConfigError, match=r"^trainer.device=cuda:2: the GPUs here are cuda:0 to cuda:1$"):
            runtime.resolve_device("cuda:2")

    def test_no_mps(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ConfigError, match=r"^trainer.device=mps: torch finds no Apple GPU here; use"):
            runtime.resolve_device("mps")


class TestPrecision:
    def test_the_rule_of_auto(self, monkeypatch: pytest.MonkeyPatch):
        assert runtime.resolve_precision("auto", torch.device("cpu")) == "fp32"
        assert runtime.resolve_precision("auto", torch.device("mps")) == "fp32"
        for supported, expected in [(True, "bf16"), (False, "fp16")]:
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported, **_: supported)
            assert runtime.resolve_precision("auto", torch.device("cuda")) == expected

    @pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "fp64"])
    def test_a_named_precision_stays(self, name: str):
        assert runtime.resolve_precision(name, torch.device("cpu")) == name

    def test_messages(self):
        with pytest.raises(
            ConfigError, match=r"^trainer.precision=int8: expected one of fp32, bf16, fp16, fp64, auto$"
        ):
            runtime.resolve_precision("int8", torch.device("cpu"))
        with pytest.raises(ConfigError, match=r"^trainer.precision=fp64: Apple GPUs do not have it; use"):
            runtime.resolve_precision("fp64", torch.device("mps"))


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("bf16", "cpu", True),
        ("fp32", "cpu", False),
        ("fp64", "cpu", False),
        ("fp16", "cuda", True),
        ("bf16", "mps", False),
    ],
)
def test_the_rule_for_channels_last(precision: str, device: str, expected: bool):
    assert runtime.resolve_channels_last("auto", precision, torch.device(device)) is expected
    for named in (True, False):
        assert runtime.resolve_channels_last(named, precision, torch.device(device)) is named


def test_deterministic_switches_on_and_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    try:
        runtime.deterministic(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    finally:
        runtime.deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


class TestThreads:
    def in_a_new_process(self, processes: int, **variables: str) -> list[str]:
        """OpenMP's policy and torch's threads as they are after ``prepare_environment`` in a process of its own."""
        code = (
            "import os, sys; from dlcli import runtime; assert 'torch' not in sys.modules;"
            "runtime.available_cores = lambda: 2;"
            f"runtime.prepare_environment({processes}); import torch;"
            "print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
        )
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command,
            env={**clean, **variables},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()

    def test_torch_takes_the_threads(self):
        assert self.in_a_new_process(2) == ["passive", "1"]

    def test_at_least_one_and_the_users_values_stay(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(runtime, "available_cores", lambda: 6)
        monkeypatch.setattr(os, "environ", {})
        runtime.prepare_environment(processes=8)
        assert os.environ == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
        monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "5"})
        runtime.prepare_environment()
        assert os.environ == {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "5"}

    def test_threads_stay_awake_on_an_idle_machine_alone(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        for load, policy in ((1.9, {"GOMP_SPINCOUNT": runtime.AWAKE}), (2.0, {})):
            monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 9.0, 9.0))
            monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "2"})
            runtime.prepare_environment()
            assert os.environ == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", **policy}


class TestCores:
    """A machine's ``/sys`` and ``/proc`` are written into a folder: 4 cores, 8 hardware threads."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        for cpu in range(8):
            self.write(
                tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}"
            )
        return tmp_path

    def write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def test_siblings_count_once(self, root: Path):
        assert runtime.available_cores(root) == 4

    def test_affinity(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5})
        assert runtime.available_cores(root) == 2

    def test_without_topology(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
        assert runtime.available_cores(tmp_path) == 3

    @pytest.mark.parametrize(("limit", "cores"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
    def test_quota(self, root: Path, limit: str, cores: int):
        self.write(root / "proc/self/cgroup", "0::/user.slice/job")
        self.write(root / "sys/fs/cgroup/user.slice/cpu.max", limit)  # of the enclosing group
        self.write(root / "sys/fs/cgroup/user.slice/job/cpu.max", "max 100000")
        assert runtime.available_cores(root) == cores

    def test_quota_in_a_container_whose_group_is_the_root(self, root: Path):
        self.write(root / "proc/self/cgroup", "0::/")
        self.write(root / "sys/fs/cgroup/cpu.max", "300000 100000")
        assert runtime.available_cores(root) == 3

    @pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("200000", 2)])
    def test_quota_of_the_first_version(self, root: Path, quota: str, cores: int):
        self.write(root / "proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n0::/")
        self.write(root / "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", quota)
        self.write(root / "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000")
        assert runtime.available_cores(root) == cores

    def test_free_memory_is_what_the_tightest_limit_leaves(self, tmp_path: Path):
        device = torch.device("cpu")
        free = runtime.free_memory(device, tmp_path)
        assert 2**20 < free < 2**50
        self.write(tmp_path / "proc/self/cgroup", "4:memory:/job\n0::/job")
        self.write(tmp_path / "sys/fs/cgroup/job/memory.max", "max")
        assert runtime.free_memory(device, tmp_path) > 2**20
        for folder, limit, used in (("", "max", "current"), ("memory", "limit_in_bytes", "usage_in_bytes")):
            self.write(tmp_path / "sys/fs/cgroup" / folder / f"job/memory.{limit}", "5000")
            self.write(tmp_path / "sys/fs/cgroup" / folder / f"job/memory.{used}", "4000" if folder else "2000")
            assert runtime.free_memory(device, tmp_path) == (1000 if folder else 3000)

    @pytest.mark.parametrize(
        ("folder", "limit", "used", "name"),
        [
            ("", "max", "current", "inactive_file"),
            ("memory/", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
        ],
    )
    def test_pages_of_files_that_nobody_uses_are_free(
        self, tmp_path: Path, folder: str, limit: str, used: str, name: str
    ):
        self.write(tmp_path / "proc/self/cgroup", "4:memory:/job" if folder else "0::/job")
        group = tmp_path / f"sys/fs/cgroup/{folder}job"
        self.write(group / f"memory.{limit}", "5000")
        self.write(group / f"memory.{used}", "4500")
        self.write(group / "memory.stat", f"anon 100\n{name} 3000\nactive_file 1000")
        assert runtime.free_memory(torch.device("cpu"), tmp_path) == 3500

    def test_this_machine(self):
        assert 1 <= runtime.available_cores() <= (os.cpu_count() or 1)


class TestCommit:
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def repository(self, folder: Path, head: str, **files: str) -> Path:
        for name, text in {"HEAD": head, **files}.items():
            file = folder / name.replace("__", "/").replace("_", "-")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return folder.parent

    def test_branch_from_a_folder_below(self, tmp_path: Path):
        self.repository(tmp_path / ".git", "ref: refs/heads/main", refs__heads__main=self.COMMIT)
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        assert runtime.git_commit(below) == self.COMMIT

    def test_detached(self, tmp_path: Path):
        assert runtime.git_commit(self.repository(tmp_path / ".git", self.COMMIT)) == self.COMMIT

    def test_packed(self, tmp_path: Path):
        packed = f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{self.COMMIT} refs/heads/main\n^{'e' * 40}"
        assert runtime.git_commit(self.repository(tmp_path / ".git", "ref: refs/heads/main", packed_refs=packed)) == (
            self.COMMIT
        )

    def test_worktree(self, tmp_path: Path):
        main = tmp_path / "main" / ".git"
        self.repository(main, "ref: refs/heads/main", refs__heads__feature=self.COMMIT)
        self.repository(main / "worktrees/feature", "ref: refs/heads/feature", commondir="../..")
        tree = tmp_path / "feature"
        tree.mkdir()
        (tree / ".git").write_text(f"gitdir: {main / 'worktrees/feature'}\n")
        assert runtime.git_commit(tree) == self.COMMIT

    @pytest.mark.parametrize("head", ["ref: refs/heads/unborn", "", "not a commit"])
    def test_without_a_commit(self, tmp_path: Path, head: str):
        assert runtime.git_commit(self.repository(tmp_path / ".git", head)) is None

    def test_without_a_repository(self, tmp_path: Path):
        if not any((folder / ".git").exists() for folder in tmp_path.parents):
            assert runtime.git_commit(tmp_path) is None
