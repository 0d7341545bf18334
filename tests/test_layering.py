"""Imports point one way, and reading a configuration imports no torch. Checked on the syntax trees, without importing.

A *unit* is a module directly in dlcli/ or one of its folders. A unit may import units of earlier tiers, and itself.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dlcli"

TIERS = (
    {
        "errors",
        "hyperparameters",
        "spec",
        "tensorboard_events",
        "interruption",
        "progress",
        "crowding",
        "tensorboard_projector",
    },
    {"registry", "catalogue", "functional", "runtime", "checkpoint", "tracking"},
    {
        "check",
        "experiments",
        "inspection",
        "processes",
        "plugins",
        "run_records",
        "distributed",
        "data_parallel",
        "layers",
        "scratch",
    },
    {"model_examples", "run_references"},
    {"gradcheck"},
    {"sweep_records"},
    {"sweep_progress", "comparison"},
    {"weights", "parameter_patterns", "saved_model"},
    {"overrides", "hydra_composition"},
    {"launchers"},
    {"judging_classifier"},
    {"config", "models", "data", "metrics", "optimizers", "schedulers", "federated"},
    {"tasks"},
    {"trainers"},
    {"run"},
    {"saved_run"},
    {"start"},
    {"launch", "export"},
    {"sweep_job"},
    {"sweep_expansion", "sweep_processes"},
    {"sweep"},
    {"reproduction"},
    {"cli"},
    {"api", "completion"},
    {"__init__", "__main__"},
)
"""A new unit must be entered here: as low as what it imports allows."""

TORCH_FREE = (
    *(
        "errors",
        "hyperparameters",
        "spec",
        "registry",
        "catalogue",
        "check",
        "experiments",
        "config",
        "overrides",
        "hydra_composition",
        "inspection",
        "plugins",
        "run_records",
        "runtime",
        "crowding",
        "reproduction",
        "comparison",
        "sweep",
        "sweep_expansion",
        "sweep_processes",
        "launchers",
        "sweep_progress",
        "sweep_records",
        "processes",
        "launch",
    ),
    *("__init__", "__main__", "cli", "completion", "schedulers", "data/sources", "data/__init__"),
    *("data/columns", "data/csv_target", "data/delimited", "data/splits", "data/table_encoding"),
)
"""Files and folders of dlcli/ that must not import torch when they are imported."""

LAZY_ONLY = (
    "torchvision",
    "sklearn",
    "matplotlib",
    "tensorboard",
    "optuna",
    "gymnasium",
    "scipy",
    "pandas",
    "gpytorch",
    "dp_accounting",
    "gmpy2",
)
"""Slow to import and needed by few runs: allowed inside functions only, everywhere."""

Modules = dict[str, str]
"""Source text by path relative to dlcli/, without .py: ``{"models/lenet": "import torch ..."}``."""


def sources(package: Path = PACKAGE) -> Modules:
    return {file.relative_to(package).with_suffix("").as_posix(): file.read_text() for file in package.rglob("*.py")}


def imported(path: str, statement: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement in dlcli/<path>.py asks for, as far as they can be modules."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            package = ["dlcli", *path.split("/")[:-1]]
            base = ".".join([*package[: len(package) + 1 - statement.level], *filter(None, [base])])
        yield from (f"{base}.{alias.name}" for alias in statement.names)


def unit(path: str) -> str:
    return path.split("/")[0]


def units_asked_for(path: str, tree: ast.AST, modules: Modules) -> Iterator[tuple[int, str]]:
    """(line, unit of dlcli) for every import in the file, also inside functions."""
    units = {unit(other) for other in modules}
    for node in ast.walk(tree):
        for name in imported(path, node):
            first, _, rest = name.partition(".")
            if first == "dlcli" and rest != "__version__":
                found = rest.split(".")[0]
                yield node.lineno, found if found in units else "__init__"


def wrong_direction(modules: Modules) -> list[str]:
    tier = {name: number for number, names in enumerate(TIERS) for name in names}
    problems = [f"{name}: not in TIERS" for name in sorted({unit(path) for path in modules} - set(tier))]
    for path, text in modules.items():
        for line, other in units_asked_for(path, ast.parse(text), modules):
            own = unit(path)
            if own != other and own in tier and other in tier and tier[other] >= tier[own]:
                problems.append(f"{path}.py:{line}: {own} imports {other}")
    return problems


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported: not those in functions, nor those for type checkers only."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if field == "body" and isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            yield from at_import(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from at_import(handler.body)


def loads(path: str, modules: Modules) -> dict[str, str]:
    """Packages outside dlcli that importing dlcli/<path>.py imports by its own code -> the chain of files to each."""
    found: dict[str, str] = {}
    pending = [(path, f"{path}.py")]
    visited: set[str] = set()
    while pending:
        current, chain = pending.pop()
        if current in visited or current not in modules:
            continue
        visited.add(current)
        for statement in at_import(ast.parse(modules[current]).body):
            for name in imported(current, statement):
                parts = name.split(".")
                if parts[0] != "dlcli":
                    found.setdefault(parts[0], chain)
                    continue
                for length in range(1, len(parts) + 1):  # dlcli.a.b imports dlcli, dlcli.a and dlcli.a.b
                    inner = "/".join(parts[1:length])
                    for other in (inner, f"{inner}/__init__".lstrip("/")):
                        pending.append((other, f"{chain} -> {other}.py"))
    return found


def torch_at_import(modules: Modules) -> list[str]:
    free = [path for path in modules if path in TORCH_FREE or unit(path) in TORCH_FREE]
    chains = [loads(path, modules).get("torch") for path in free]
    return sorted(chain for chain in chains if chain)


def slow_at_import(modules: Modules) -> list[str]:
    return [
        f"{path}.py:{statement.lineno}: {name}"
        for path, text in modules.items()
        for statement in at_import(ast.parse(text).body)
        for name in imported(path, statement)
        if name.split(".")[0] in LAZY_ONLY
    ]


def test_imports_point_one_way():
    modules = sources()
    assert len(modules) > 20
    assert wrong_direction(modules) == []


def test_reading_a_configuration_needs_no_torch():
    assert torch_at_import(sources()) == []


def test_slow_packages_are_imported_where_they_are_used():
    assert slow_at_import(sources()) == []


def test_nothing_torch_free_has_torch_loaded_by_another_package():
    """The syntax trees show our imports only; a real import shows those of the packages that we use as well."""
    free = [path for path in sources() if (path in TORCH_FREE or unit(path) in TORCH_FREE) and path != "__main__"]
    names = [".".join(["dlcli", *path.removesuffix("__init__").strip("/").split("/")]).rstrip(".") for path in free]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {sorted(names)}];"
        f"print(sorted({{'torch', *{LAZY_ONLY}}} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


BASE = {"spec": "", "models/lenet": "", "data/base": "", "tasks/base": "", "run": "", "cli/main": ""}


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("models/vgg", "from dlcli.data.base import DataModule", "models/vgg.py:1: models imports data"),
        ("models/vgg", "import dlcli.tasks.base", "models/vgg.py:1: models imports tasks"),
        ("models/vgg", "\ndef f():\n    from dlcli import tasks", "models/vgg.py:3: models imports tasks"),
        ("models/vgg", "from ..data import base", "models/vgg.py:1: models imports data"),
        ("models/vgg", "from .. import data", "models/vgg.py:1: models imports data"),
        ("models/vgg", "from dlcli import train", "models/vgg.py:1: models imports __init__"),
        ("spec", "from dlcli import run", "spec.py:1: spec imports run"),
        ("trainers/step", "import dlcli.cli.main", "trainers/step.py:1: trainers imports cli"),
        ("cli/train", "from dlcli import train", "cli/train.py:1: cli imports __init__"),
        ("novelty", "", "novelty: not in TIERS"),
    ],
)
def test_a_wrong_direction_is_caught(path: str, text: str, problem: str):
    assert wrong_direction({**BASE, path: text}) == [problem]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/vgg", "from dlcli.spec import DataSpec\nfrom .lenet import LeNet\nfrom dlcli import __version__"),
        ("tasks/gan", "from dlcli.models.lenet import LeNet\nfrom dlcli.data.base import DataModule\nimport torch"),
        ("cli/train", "from dlcli import run"),
    ],
)
def test_a_right_direction_is_not(path: str, text: str):
    assert wrong_direction({**BASE, path: text}) == []


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("import torch", "check.py"),
        ("from torch import nn", "check.py"),
        ("try:\n    import torch.nn\nexcept ImportError:\n    pass", "check.py"),
        ("class A:\n    import torch", "check.py"),
        ("if x:\n    pass\nelse:\n    import torch", "check.py"),
        ("from dlcli.models import lenet", "check.py -> models/lenet.py"),
        ("import dlcli.models.lenet", "check.py -> models/lenet.py"),
        ("from dlcli.models.lenet import LeNet", "check.py -> models/lenet.py"),
        ("from dlcli.layers import rnn", "check.py -> layers/__init__.py"),
        ("def f():\n    import torch", None),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", None),
        ("import torchvision", None),
    ],
)
def test_torch_at_import_is_caught_along_the_chain(text: str, chain: str | None):
    modules = {"check": text, "models/lenet": "import torch", "layers/__init__": "import torch", "layers/rnn": ""}
    assert torch_at_import(modules) == ([chain] if chain else [])


def test_torch_in_the_package_itself_reaches_every_module():
    modules = {"__init__": "import torch", "errors": "from dlcli import spec", "spec": ""}
    assert "__init__.py" in torch_at_import(modules)
    assert "errors.py -> __init__.py" in torch_at_import(modules)


def test_slow_packages_are_caught():
    text = "import sklearn.datasets\ndef plot():\n    import matplotlib"
    assert slow_at_import({"data/digits": text}) == ["data/digits.py:1: sklearn.datasets"]
