"""The errors that people meet. Each carries one clear line per problem and the exit code of the process."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DlcliError(Exception):
    """A failure with a message for people. ``str(error)`` is one line per problem, without a traceback."""

    exit_code = 1


class ConfigError(DlcliError):
    """The request cannot be carried out as it was written: usage or configuration. Holds all problems at once."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(DlcliError):
    """A data file, a download or a checkpoint is missing, damaged or not what it should be."""

    exit_code = 3


class NonFiniteError(DlcliError):
    """The loss or a gradient is NaN or infinite."""

    exit_code = 4


class ResourceError(DlcliError):
    """Out of memory or out of disk space."""

    exit_code = 5


class SweepError(DlcliError):
    """Some jobs of a sweep failed; the others are finished."""

    exit_code = 6


class Interrupted(DlcliError):
    """The run was stopped by a signal, after its state was saved. Exit code 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        self.exit_code = 128 + signal_number
        super().__init__(message)


def suggestion(name: str, known: Iterable[str], *, full: bool = True) -> str:
    """The tail of a message about an unknown name: the nearest known one, else (if ``full``) all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return "known: " + listing(known) if full and known else "there is no similar name"


def listing(names: Iterable[str], limit: int = 90) -> str:
    """Names with commas between them, as many as fit into ``limit`` characters, at least one."""
    text = ""
    for name in names:
        if text and len(text) + len(name) > limit:
            return text + ", …"
        text += f", {name}" if text else name
    return text


def counted(count: float, noun: str) -> str:
    """A number of things, such as "1 step" or "1,200 steps"; a fraction as "0.5 minutes"."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}{'' if count == 1 else 's'}"


def shown(value: object, limit: int = 60) -> str:
    """A value that somebody wrote, for a message: printable, on one line, and not longer than ``limit``."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
