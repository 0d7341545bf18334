"""Which jobs a sweep has: every combination of the values named, each composed and checked. Imports no torch."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dlcli.config import compose
from dlcli.errors import ConfigError, shown
from dlcli.hydra_composition import Composed, compose_choices, config_loader
from dlcli.overrides import size_problem

MAX_JOBS = 10_000
UNREADABLE = "these values cannot be counted; write choice(…) of plain values, range(…) or logspace(…) of numbers"
MALFORMED = (
    f"expected logspace(first,last,count), two numbers above 0 and a whole number from 2 to {MAX_JOBS:,}, such as "
    "logspace(1e-4,1,9)"
)
LOGSPACE = re.compile(r"([^=]+)=logspace\(([^,()]+),([^,()]+),([^,()]+)\)")


def expand(overrides: Sequence[str], directories: Sequence[Path]) -> list[list[str]]:
    """The overrides of each job: every combination of the values that are named, the last option varying fastest.

    Raises:
        ConfigError: an override that cannot be read or has no countable values, or too many jobs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import RangeSweep
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=config_loader(directories))
    choices: dict[str, list[str]] = {}
    problems = []
    for text in overrides:
        problem = size_problem(text)
        if problem:
            problems.append(problem)
            continue
        spaced = LOGSPACE.fullmatch(text.replace(" ", ""))
        if spaced is not None:
            try:
                choices[spaced[1]] = [f"{spaced[1]}={value:.6g}" for value in _logspace(*spaced.groups()[1:])]
            except ValueError:
                problems.append(f"'{shown(text)}': {MALFORMED}")
            continue
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            choices[text] = [text]  # composing it reports what is wrong
            continue
        except Exception:  # the grammar's functions fail in ways of their own
            problems.append(f"'{text}': {UNREADABLE}")
            continue
        if not override.is_sweep_override():
            choices[override.key_or_group] = [text]
        elif not override.is_discrete_sweep():
            problems.append(f"'{text}' has no countable values; write choice(…) or range(…)")
        else:
            key, value = override.get_key_element(), override.value()
            if isinstance(value, RangeSweep) and _span(value) > MAX_JOBS * abs(float(value.step)):
                problems.append(f"'{text}': a sweep of more than {MAX_JOBS:,} jobs; name fewer values")
                continue
            try:
                values = list(itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1))
            except Exception:
                problems.append(f"'{text}': {UNREADABLE}")
                continue
            if not values:
                problems.append(f"'{text}' stands for no value")
            choices[override.key_or_group] = [f"{key}={value}" for value in values]
    count = math.prod(len(values) for values in choices.values())
    if count > MAX_JOBS:
        problems.append(f"a sweep of more than {MAX_JOBS:,} jobs; name fewer values")
    if problems:
        raise ConfigError(problems)
    return [list(job) for job in itertools.product(*choices.values())]


def _logspace(first: str, last: str, count: str) -> list[float]:
    """``count`` numbers from the first to the last, with a constant factor between neighbours.

    Raises:
        ValueError: not two numbers above 0 and a whole number.
    """
    low, high, steps = float(first), float(last), int(count) - 1
    if not (0 < low < math.inf and 0 < high < math.inf and 1 <= steps < MAX_JOBS):
        raise ValueError
    return [low * (high / low) ** (place / steps) for place in range(steps + 1)]


def _span(value: Any) -> float:
    return abs(float(value.stop) - float(value.start))


def compose_jobs(jobs: Sequence[Sequence[str]], directories: Sequence[Path]) -> list[Composed]:
    """Compose and check every job.

    Raises:
        ConfigError: what is wrong, of all jobs together; a problem that only some have names the first of them.
    """
    composed = []
    problems: Counter[str] = Counter()
    first: dict[str, int] = {}
    known = cache(compose_choices)  # the same for all jobs that make the same choices
    for number, overrides in enumerate(jobs):
        try:
            composed.append(compose(overrides, directories, tree_of=lambda *chosen: copy.deepcopy(known(*chosen))))
        except ConfigError as error:
            for problem in dict.fromkeys(error.problems):
                problems[problem] += 1
                first.setdefault(problem, number)
    if problems:
        varying = {text for job in jobs for text in job if not all(text in other for other in jobs)}
        lines = []
        for problem, count in problems.items():
            at = " ".join(text for text in jobs[first[problem]] if text in varying)
            others = f" and {count - 1} more" if count > 1 else ""
            lines.append(problem if count == len(jobs) else f"{problem} (job {first[problem]}: {at}{others})")
        raise ConfigError(lines)
    return composed
