"""The YAML files that people choose from: where they are, how they are read, what their headers say.

Used by listings, completion and checks, so it imports neither torch nor Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dlcli.errors import ConfigError

GROUPS = ("model", "data", "task", "optimizer", "scheduler", "trainer", "experiment")
MAX_BYTES = 1_000_000
MAX_HEADER = 10_000  # characters of comments at the top
MAX_LEVELS = 100  # of lists and mappings within each other
MAX_NODES = 5_000  # values, lists and mappings, each as often as an alias repeats it

_PACKAGED = Path(__file__).parent / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"
"""Our own configuration files: inside the installed package, or beside it in a checkout."""

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Safe YAML that reads numbers as OmegaConf does (1e-4 is a number) and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


def dump_yaml(content: Any) -> str:
    """Plain content as YAML, keys in their order."""
    text: str = yaml.dump(content, Dumper=_SafeDumper, sort_keys=False, allow_unicode=True)
    return text


def load_yaml(file: Path) -> Any:
    """The plain content of one YAML file.

    Raises:
        ConfigError: unreadable, over 1 MB, not UTF-8, not YAML, with duplicate keys, or over the limits on levels and
            values; one line with file and line.
    """
    try:
        if not file.is_file():
            reason = "a folder" if file.is_dir() else "not a regular file" if file.exists() else "no such file"
            raise ConfigError(f"{file}: {reason}; expected a YAML file")
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file}: over {MAX_BYTES:,} bytes; a configuration file is smaller")
        text = file.read_text(encoding="utf-8")
        _check_size(file, text)
        return yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or 'not valid YAML'}") from None


def _check_size(file: Path, text: str) -> None:
    """Refuse what would take long, or no end, to build: from the events of the parser, before anything is built."""
    nodes = 0  # so far, with what aliases repeat
    levels: list[tuple[str | None, int]] = []  # of the open lists and mappings: anchor, nodes before
    sizes: dict[str | None, int] = {}  # of the values that aliases may repeat
    for event in yaml.parse(text, Loader=_Loader):
        problem = None
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in levels):
                problem = f"the alias *{event.anchor} stands for itself"
            nodes += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            levels.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = levels.pop()
            sizes[anchor] = nodes - before
        if len(levels) > MAX_LEVELS:
            problem = f"nested more than {MAX_LEVELS} levels deep"
        if nodes > MAX_NODES:
            problem = f"more than {MAX_NODES:,} values, aliases included"
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise ConfigError(f"{file}:{line}: {problem}")


@dataclass(frozen=True)
class Entry:
    """One choice of a group: its name as typed, its file, and what the comment at the file's top says.

    ``suggests``: choices of other groups, such as "optimizer=adamw", that hold when a person names this model and
    nothing for that group.
    """

    group: str
    name: str
    file: Path
    description: str
    source: str
    suggests: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """The file's keys and values, without its defaults list."""
        values = load_yaml(self.file) or {}
        if not isinstance(values, dict):
            raise ConfigError(f"{self.file}: expected keys and values")
        return {key: value for key, value in values.items() if key != "defaults"}


def header(file: Path) -> list[str]:
    """The comment lines at the top of a YAML file, without '#' and without Hydra's @package line."""
    lines = []
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream.read(MAX_HEADER).splitlines():
            if not line.startswith("#"):
                break
            if "@package" not in line:
                lines.append(line.lstrip("#").strip())
    return lines


def entries(group: str, directories: Iterable[Path] = ()) -> dict[str, Entry]:
    """Every choice of a group by name, those of ``directories`` before ours, without importing anything."""
    found: dict[str, Entry] = {}
    for directory in [*directories, CONFIGS]:
        for file in sorted((directory / group).rglob("*.yaml")):
            name = file.relative_to(directory / group).with_suffix("").as_posix()
            if name not in found:
                lines = header(file)
                source = next((line[7:].strip() for line in lines if line.startswith("Source:")), "")
                suggests = next((line[9:].split() for line in lines if line.startswith("Suggests:")), [])
                found[name] = Entry(group, name, file, lines[0] if lines else "", source, tuple(suggests))
    return dict(sorted(found.items()))
