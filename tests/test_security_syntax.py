"""Nothing in the package can execute what a file says: rules over the syntax trees, each shown to catch a violation."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
INSTANTIATORS = {"instantiate", "call", "get_class", "get_method", "get_object", "get_static_method"}
YAML_LOADERS = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}

Rule = Callable[[ast.AST], bool]


def name_of(node: ast.AST) -> str:
    """``torch.load`` for that expression; empty for what is no dotted name."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in node.keywords if item.arg == name), None)


def is_literal(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def modules_of(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement asks for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loads_weights_unsafely(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    given = keyword(node, "weights_only")
    return not is_literal(given, True) if given is not None else name_of(node.func) == "torch.load"


def unpickles(node: ast.AST) -> bool:
    allowed = keyword(node, "allow_pickle") if isinstance(node, ast.Call) else None
    return any(name.split(".")[0] in UNPICKLERS for name in modules_of(node)) or (
        allowed is not None and not is_literal(allowed, False)
    )


def evaluates_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"eval", "exec", "__import__"}


def instantiates(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value == "_target_"
    return any(
        name.startswith("hydra") and ("instantiate" in name or name.split(".")[-1] in INSTANTIATORS | {"utils"})
        for name in [*modules_of(node), name_of(node)]
    )


def reads_yaml_otherwise(node: ast.AST) -> bool:
    """Only dlcli.catalogue's loader, which refuses duplicate keys and Python objects."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "yaml" and any(alias.name in YAML_LOADERS for alias in node.names)
    if not isinstance(node, ast.Call) or name_of(node.func) not in {f"yaml.{name}" for name in YAML_LOADERS}:
        return False
    return name_of(node.func) != "yaml.load" or name_of(keyword(node, "Loader") or node) != "_Loader"


NEEDS_L_BFGS = {"dlcli/tasks/feature_probe.py", "dlcli/trainers/gaussian_process.py"}
"""What a convex or a small full-batch problem is solved with; no system of the books, so torch's own."""


def uses_torch_optim(node: ast.AST) -> bool:
    """Not a matter of safety: importing it costs most of a second, and the optimizers here are our own."""
    return any(f"{name}.".startswith("torch.optim.") for name in [*modules_of(node), name_of(node)])


def starts_a_shell(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        shell = keyword(node, "shell")
        return shell is not None and not is_literal(shell, False)
    return any(name in SHELLS for name in [*modules_of(node), name_of(node)])


VIOLATIONS: dict[Rule, list[str]] = {
    loads_weights_unsafely: [
        "torch.load(f, weights_only=False)",
        "torch.load(f)",
        "load(f, weights_only=flag)",
        "torch.load(f, weights_only=0)",
    ],
    unpickles: [
        "import pickle",
        "def f():\n    from pickle import loads",
        "import cloudpickle as c",
        "import joblib",
        "numpy.load(f, allow_pickle=True)",
    ],
    evaluates_text: ["eval(text)", "exec(text)", "run = eval", "__import__(name)"],
    instantiates: [
        "from hydra.utils import instantiate",
        "import hydra.utils",
        "from hydra import utils",
        "hydra.utils.call(config)",
        "from hydra._internal.instantiate._instantiate2 import instantiate",
        "config['_target_']",
    ],
    reads_yaml_otherwise: [
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "yaml.full_load(text)",
        "from yaml import load",
    ],
    uses_torch_optim: [
        "import torch.optim",
        "from torch import optim",
        "from torch.optim.lr_scheduler import StepLR",
        "torch.optim.Adam(p)",
    ],
    starts_a_shell: [
        "subprocess.run(text, shell=True)",
        "subprocess.Popen(text, shell=flag)",
        "os.system(text)",
        "from os import popen",
    ],
}

HARMLESS = """
import json, yaml, torch.nn
from hydra.core.plugins import Plugins
from torch import nn
torch.load(f, weights_only=True, mmap=True)
numpy.load(f, allow_pickle=False)
model.eval()
spec.loader.exec_module(module)
yaml.load(text, Loader=_Loader)
yaml.safe_dump(config)
self.optimizer.step()
subprocess.run([program], shell=False)
os.path.join(a, b)
"""


def caught(rule: Rule, text: str) -> list[int]:
    """The lines that break the rule."""
    return [node.lineno for node in ast.walk(ast.parse(text)) if hasattr(node, "lineno") and rule(node)]


@pytest.mark.parametrize("rule", VIOLATIONS, ids=lambda rule: rule.__name__)
def test_the_package(rule: Rule):
    files = [*(ROOT / "dlcli").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]
    assert len(files) > 20
    exempt = NEEDS_L_BFGS if rule is uses_torch_optim else set()
    texts = {name: file.read_text() for file in files if (name := str(file.relative_to(ROOT))) not in exempt}
    assert [f"{name}:{line}" for name, text in texts.items() for line in caught(rule, text)] == []


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in VIOLATIONS.items() for text in texts])
def test_a_violation_is_caught(rule: Rule, text: str):
    assert caught(rule, text)


@pytest.mark.parametrize("rule", VIOLATIONS, ids=lambda rule: rule.__name__)
def test_harmless_code_is_not(rule: Rule):
    assert caught(rule, HARMLESS) == []
