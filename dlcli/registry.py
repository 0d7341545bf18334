"""Registries: a name in a configuration -> a class, and the typed signature of its constructor.

``@MODELS.register("lenet")`` on a class is all that a new entry needs in Python. Modules are found by scanning the
group's package and the plug-ins; nothing is imported until an entry is built, so signatures can be checked (from the
source, with ``ast``) without importing torch.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from dlcli.errors import ConfigError, shown, suggestion
from dlcli.hyperparameters import NAMES
from dlcli.spec import SIZES, DataSpec

C = TypeVar("C", bound=type)
PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """Where a class is written: a file, the module name that it is imported as, and its syntax tree."""

    file: Path
    module: str
    node: ast.ClassDef

    def load(self) -> None:
        """Import the module that holds the class (once).

        Raises:
            ConfigError: a plug-in's module fails to import.
        """
        if self.module.startswith("dlcli."):
            importlib.import_module(self.module)
            return
        try:
            importlib.import_module(self.module)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"plug-in {self.file}: {type(error).__name__}: {error}") from error


class Registry:
    """The entries of one configuration group, such as ``model``."""

    def __init__(self, group: str, package: str):
        self.group = group
        self.directory = PACKAGE / package
        self.package = f"dlcli.{package}"
        self._classes: dict[str, type] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: make the class the entry ``name`` of this group."""

        def decorate(cls: C) -> C:
            known = self._classes.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ConfigError(f"{self.group} '{name}' is registered twice, by {known} and by {cls}")
            self._classes[name] = cls
            return cls

        return decorate

    def names(self) -> list[str]:
        """All registered names, read from the sources without importing them."""
        return sorted(self._sources())

    def signature(self, name: str, method: str = "__init__") -> dict[str, Any]:
        """The keyword-only parameters of the entry's constructor (or of another method) and their types.

        Read from the source, without importing it. A constructor that takes further ``**options`` hands them to that of
        its base class, and has that one's parameters too.

        Raises:
            ConfigError: no such entry, or an annotation uses a name that ``dlcli.hyperparameters`` does not know.
        """
        source = self._source(name)
        parameters: dict[str, Any] = {}
        for function in _methods(source, method):
            for argument in function.args.kwonlyargs:
                try:
                    parameters.setdefault(argument.arg, _read_annotation(argument.annotation))
                except KeyError as error:
                    raise ConfigError(
                        f"{source.file.name}: parameter '{argument.arg}' of {self.group} '{name}' is annotated with "
                        f"{error}; use the types of dlcli.hyperparameters"
                    ) from None
            if function.args.kwarg is None:
                break
        return parameters

    def constant(self, name: str, attribute: str, default: Any = None) -> Any:
        """A literal class attribute of the entry (or of its base class), read from the source without importing it."""
        for _, node in _lineage(self._source(name)):
            for statement in node.body:
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
                )
                if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
                    value = getattr(statement, "value", None)
                    if value is not None:
                        return ast.literal_eval(value)
        return default

    def has_method(self, name: str, method: str) -> bool:
        """Whether the entry's class (or its base class) defines a method, read from the source without importing it."""
        return next(_methods(self._source(name), method), None) is not None

    def has_part(self, name: str, part: str) -> bool:
        """Whether the entry's class (or its base class) sets ``self.<part>``, such as a network within a network."""
        return any(
            isinstance(found, ast.Attribute) and found.attr == part and isinstance(found.ctx, ast.Store)
            for _, node in _lineage(self._source(name))
            for found in ast.walk(node)
        )

    def first_input(self, name: str) -> str | None:
        """What the entry's ``forward`` calls its first argument, such as "images"; None if it has no such method."""
        methods = _methods(self._source(name), "forward")
        return next((method.args.args[1].arg for method in methods if len(method.args.args) > 1), None)

    def load(self, name: str) -> type:
        """The class of an entry; imports its module, so that building it later imports nothing.

        Raises:
            ConfigError: no such entry.
        """
        self._source(name).load()
        return self._classes[name]

    def warm(self, name: str) -> None:
        """Do what takes time before an entry of ours can be built; nothing for a plug-in's, which is nobody's yet."""
        if self.has(name) and self._source(name).module.startswith("dlcli."):
            self.signature(name)
            self.load(name)

    def build(self, config: Mapping[str, Any], *arguments: Any, spec: DataSpec | None = None, label: str = "") -> Any:
        """The only way from a name to an object.

        Args:
            config: ``name`` and the values of the constructor's keyword-only parameters.
            arguments: run-time objects for the constructor's positional parameters (parameters of a network, steps).
            spec: sizes of the data; each goes to the constructor parameter of that name.
            label: what people call the data, for messages.

        Raises:
            ConfigError: unknown name, or a size that the data do not define.
        """
        name = config["name"]
        cls = self.load(name)
        sizes = spec.defined() if spec else {}
        values = {key: value for key, value in config.items() if key != "name"}
        for parameter in self.signature(name):
            if parameter in SIZES and parameter not in values:
                if parameter not in sizes:
                    raise ConfigError(missing_size(self.group, name, parameter, label, tuple(sizes)))
                values[parameter] = sizes[parameter]
        return cls(*arguments, **values)

    def has(self, name: object) -> TypeGuard[str]:
        """Whether there is such an entry."""
        return isinstance(name, str) and name in self._sources(name)

    def _source(self, name: str) -> Source:
        found = self._sources(name)
        if name not in found:
            raise ConfigError(f"{self.group} '{shown(name)}' is not registered; {suggestion(name, self.names())}")
        return found[name]

    def _sources(self, mentioned: str | None = None) -> dict[str, Source]:
        """Where the entries are written: all, or those in files that mention a name, since parsing takes time."""
        found: dict[str, Source] = {}
        for file, module in [*_package_files(self.directory, self.package), *_plugin_files]:
            if mentioned is not None and not _mentions(file, mentioned):
                continue
            for name, source in _registered(file, module, CONSTANTS[self.group]).items():
                if name in found:
                    raise ConfigError(f"{self.group} '{name}' is registered twice: {found[name].file} and {file}")
                found[name] = source
        return found


CONSTANTS = {
    "model": "MODELS",
    "data": "DATA",
    "task": "TASKS",
    "optimizer": "OPTIMIZERS",
    "scheduler": "SCHEDULERS",
    "trainer": "TRAINERS",
}
MODELS = Registry("model", "models")
DATA = Registry("data", "data")
TASKS = Registry("task", "tasks")
OPTIMIZERS = Registry("optimizer", "optimizers")
SCHEDULERS = Registry("scheduler", "schedulers")
TRAINERS = Registry("trainer", "trainers")
REGISTRIES = {registry.group: registry for registry in (MODELS, DATA, TASKS, OPTIMIZERS, SCHEDULERS, TRAINERS)}

_plugin_files: list[tuple[Path, str]] = []


def add_plugin_file(file: Path, module: str) -> None:
    """Let every registry look into this Python file too; ``module`` is the name that it is imported by when needed."""
    _parse(file)  # a mistake in a plug-in is said even if nothing of it is used
    if (file, module) in _plugin_files:
        return
    _plugin_files.append((file, module))
    for registry in REGISTRIES.values():
        for name in _registered(file, module, CONSTANTS[registry.group]):
            registry._source(name)  # which finds it only once, or says so


def missing_size(group: str, name: str, size: str, data: str, defined: tuple[str, ...]) -> str:
    """The message for an entry that needs a size which the data do not define."""
    return (
        f"{group} '{name}' needs {size}, which data '{data}' does not define "
        f"(it defines {', '.join(defined) or 'no sizes'})"
    )


@cache
def _package_files(directory: Path, package: str) -> list[tuple[Path, str]]:
    return [(file, f"{package}.{file.stem}") for file in sorted(directory.glob("*.py")) if file.stem != "__init__"]


@cache
def _mentions(file: Path, name: str) -> bool:
    """Whether the file holds the name as a text of its own."""
    return any(f"{quote}{name}{quote}" in _read(file) for quote in "'\"")


@cache
def _registered(file: Path, module: str, constant: str) -> dict[str, Source]:
    """The classes in a file that are decorated with ``@<constant>.register("name")``."""
    text = _read(file)
    if not re.search(rf"\b{constant}\.register\(", text):
        return {}
    found = {}
    for node in _parse(file).body:
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(f"{constant}.register"):
                    found[ast.literal_eval(decorator.args[0])] = Source(file, module, node)
    return found


@cache
def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"plug-in {file}: cannot be read ({error})") from None


@cache
def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(_read(file))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"plug-in {file}: {error}") from None


def _methods(source: Source, name: str) -> Iterator[ast.FunctionDef]:
    """The methods of that name of the class and of its bases, in order."""
    for _, node in _lineage(source):
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                yield statement


def _lineage(source: Source) -> Iterator[tuple[Path, ast.ClassDef]]:
    """The class and, in order, those of its bases that are written in dlcli or in the same file."""
    pending: list[tuple[Path, ast.ClassDef]] = [(source.file, source.node)]
    while pending:
        file, node = pending.pop(0)
        yield file, node
        for base in node.bases:
            located = _find_class(file, ast.unparse(base))
            if located is not None:
                pending.append(located)


def _find_class(file: Path, name: str) -> tuple[Path, ast.ClassDef] | None:
    for statement in _parse(file).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return file, statement
        if not isinstance(statement, ast.ImportFrom) or not (statement.module or "").startswith("dlcli."):
            continue
        if any((alias.asname or alias.name) == name for alias in statement.names):
            other = PACKAGE.parent.joinpath(*str(statement.module).split(".")).with_suffix(".py")
            if other.is_file():
                return _find_class(other, name)
    return None


def _read_annotation(node: ast.expr | None) -> Any:
    """The type that an annotation's syntax tree stands for, from the names of ``dlcli.hyperparameters`` alone.

    Raises:
        KeyError: a name or a form that is not allowed there.
    """
    if isinstance(node, ast.Name):
        return NAMES[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_read_annotation(node.operand)
    if isinstance(node, ast.Tuple):
        return tuple(_read_annotation(element) for element in node.elts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _read_annotation(node.left) | _read_annotation(node.right)
    if isinstance(node, ast.Subscript):
        return _read_annotation(node.value)[_read_annotation(node.slice)]
    if isinstance(node, ast.Call) and not node.keywords:
        return _read_annotation(node.func)(*[_read_annotation(argument) for argument in node.args])
    raise KeyError(ast.unparse(node) if node is not None else "nothing")
