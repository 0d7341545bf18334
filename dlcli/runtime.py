"""The machine that a run meets: threads, random generators, device, precision, and the commit of the code.

torch is imported inside the functions that need it, because ``prepare_environment`` must come before that import.
"""

from __future__ import annotations

import gc
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcli.errors import ConfigError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16", "fp64", "auto")
AWAKE = "5000"
"""How often GNU's OpenMP, which torch brings on Linux, looks for work before a thread sleeps: tens of microseconds.

To wake a thread takes longer than a small layer. But where other processes compute, threads that stay awake take the
cores from them and from each other. So they do if the machine is idle when a run begins, and else sleep at once.
"""


def prepare_environment(processes: int = 1) -> None:
    """Set what OpenMP reads when torch is first imported; values that the user has set stay.

    Args:
        processes: how many processes will train side by side on this machine; the cores are divided among them.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        if processes == 1 and idle():
            os.environ.setdefault("GOMP_SPINCOUNT", AWAKE)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))


def idle() -> bool:
    """Whether less than half of this machine's processors were in use during the last minute."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] < (os.cpu_count() or 1) / 2


def import_torch(processes: int = 1) -> None:
    """Set the environment and import torch, which takes 0.2 s less than elsewhere.

    Its half a million objects live as long as the process. The garbage collector looks through them neither while they
    are made nor later.

    Args:
        processes: as of ``prepare_environment``.
    """
    prepare_environment(processes)
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401

        gc.freeze()
    finally:
        gc.enable()


def available_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may use, at least 1: its CPU affinity, siblings once, and its cgroup's quota.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        topology = root / "sys/devices/system/cpu"
        siblings = {
            _read(topology / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in os.sched_getaffinity(0)
        }
        cores = len(siblings)
    else:
        import psutil

        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, min(cores, int(_cgroup_quota(root))))


def _cgroup_quota(root: Path) -> float:
    """CPUs that the control groups of this process grant; a million without a limit."""
    quotas = [1e6]
    for level, first in _cgroup_levels(root, "cpu"):
        if first:
            limit = [_read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us")]
        else:
            limit = _read(level / "cpu.max").split()
        if len(limit) == 2 and all(number.isdigit() and int(number) for number in limit):
            quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas)


def _cgroup_levels(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders whose limits hold for this process, and whether they are of the first version of control groups."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        hierarchy = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = hierarchy / group.lstrip("/")
        # A limit of any enclosing group holds. Inside a container the own group may be mounted as the hierarchy's root.
        for level in [folder, *folder.parents]:
            if not level.is_relative_to(hierarchy):
                break
            yield level, bool(controllers)


def free_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that may still be allocated: of a GPU, else of the machine within the limits of its control groups."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = [int(psutil.virtual_memory().available)]
    for level, first in _cgroup_levels(root, "memory"):
        names = ("limit_in_bytes", "usage_in_bytes") if first else ("max", "current")
        limit, used = (_read(level / f"memory.{name}") for name in names)
        if limit.isdigit() and used.isdigit():
            facts = dict(line.split() for line in _read(level / "memory.stat").splitlines())
            reclaimable = int(facts.get("total_inactive_file" if first else "inactive_file", 0))  # of the page cache
            free.append(max(0, int(limit) - int(used) + reclaimable))
    return min(free)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and GPUs). ``seed`` is in [0, 2**32)."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """The state of all global generators, in plain values and tensors that ``torch.load(weights_only=True)`` accepts.

    ``cuda`` has one uint8 tensor per GPU, and is empty if this process has not used a GPU.
    """
    import numpy
    import torch

    gpu_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    algorithm, keys, position, has_gauss, cached_gaussian = numpy.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": {
            "algorithm": str(algorithm),
            "keys": torch.from_numpy(numpy.asarray(keys).astype("int64")),  # (624,)
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached_gaussian),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if gpu_used else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned. States of GPUs that this machine does not have are left out."""
    import numpy
    import torch

    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype("uint32")
    numpy.random.set_state(
        (saved["algorithm"], keys, saved["position"], saved["has_gauss"], saved["cached_gaussian"]),
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(generator, index)


def resolve_device(name: str) -> torch.device:
    """The device that a configured name stands for; ``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ConfigError: an unknown name, or a device that this machine does not have.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    match = re.fullmatch(r"(?:cpu|mps|cuda(?::(\d+))?)", name)
    if match is None:
        raise ConfigError(f"trainer.device={name}: expected auto, cpu, mps, cuda, or one GPU such as cuda:1")
    if name == "mps" and not mps:
        raise ConfigError("trainer.device=mps: torch finds no Apple GPU here; use trainer.device=auto or cpu")
    if name.startswith("cuda"):
        if not cuda:
            build = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA GPU here"
            raise ConfigError(f"trainer.device={name}: {build}; use trainer.device=auto or cpu")
        count = torch.cuda.device_count()
        if match[1] and int(match[1]) >= count:
            raise ConfigError(f"trainer.device={name}: the GPUs here are cuda:0 to cuda:{count - 1}")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """``fp32``, ``bf16``, ``fp16`` or ``fp64``. ``auto`` is a fixed rule per device: fp32 on the CPU and on MPS; on
    CUDA bf16 where the GPU computes in it, else fp16.

    Raises:
        ConfigError: an unknown name, or a precision that the device does not have.
    """
    import torch

    if name not in PRECISIONS:
        raise ConfigError(f"trainer.precision={name}: expected one of {', '.join(PRECISIONS)}")
    if name == "fp64" and device.type == "mps":
        raise ConfigError("trainer.precision=fp64: Apple GPUs do not have it; use trainer.precision=fp32 or device=cpu")
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def resolve_channels_last(value: bool | str, precision: str, device: torch.device) -> bool:
    """Whether images lie in memory as (B, H, W, C). ``auto`` is a fixed rule: in bf16 and fp16 on the CPU and on CUDA,
    whose kernels for them are made for it. In fp32 it gains little, and an earlier run's bits would change.
    """
    if value == "auto":
        return precision in ("bf16", "fp16") and device.type in ("cpu", "cuda")
    return bool(value)


def to_channels_last(model: torch.nn.Module) -> None:
    """Lay out the convolutions' weights so; pictures follow in the first convolution, and every layer after it.

    Shapes, values and checkpoints stay as they are. It has to be done once the model is on its device.
    """
    import torch

    model.to(memory_format=torch.channels_last)


def deterministic(on: bool) -> None:
    """Let torch use deterministic algorithms only (an operation without one then raises), or any again."""
    import torch

    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # read when torch.compile is first used
    # The same switch as use_deterministic_algorithms, which imports the compiler (seconds) to set its flag as well.
    torch.set_deterministic_debug_mode("error" if on else "default")
    torch.backends.cudnn.deterministic = on


def git_commit(directory: Path) -> str | None:
    """The commit that is checked out in the repository around ``directory``, 40 or 64 hex digits; None without one.

    The files are read directly: no git has to be installed, and no hook or setting of the repository runs.
    """
    for folder in [directory.resolve(), *directory.resolve().parents]:
        entry = folder / ".git"
        if entry.is_dir():
            return _commit_of(entry)
        if entry.is_file():  # of a worktree or submodule: the path of the real one
            return _commit_of(folder / _read(entry).removeprefix("gitdir:").strip())
    return None


def _commit_of(repository: Path) -> str | None:
    head = _read(repository / "HEAD")
    shared = repository / (_read(repository / "commondir") or ".")
    if head.startswith("ref:"):
        reference = head.removeprefix("ref:").strip()
        head = _read(repository / reference) or _read(shared / reference)
        for line in _read(shared / "packed-refs").splitlines():
            commit, _, packed = line.partition(" ")
            if not head and packed == reference:
                head = commit
    return head if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", head) else None


def autocast(precision: str, device: torch.device) -> Any:
    """The context in which losses and metrics are computed: lower precision for bf16 and fp16, else nothing."""
    import contextlib

    import torch

    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=low) if low else contextlib.nullcontext()


def input_dtype(precision: str) -> torch.dtype | None:
    """What floating-point inputs (and the model) are converted to: float64 for fp64, else nothing."""
    import torch

    return torch.float64 if precision == "fp64" else None
