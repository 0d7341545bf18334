"""The command ``dlcli``: runs one verb and turns every failure into one line and an exit code.

Exit codes: 0 done; 1 failed while running, or a bug; 2 usage or configuration; 3 data, download or checkpoint;
4 a loss that is not finite; 5 out of memory or disk; 6 some jobs of a sweep failed; 128 + n ended by signal n.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from dlcli import __version__
from dlcli.errors import DlcliError, ResourceError, suggestion


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code.

    Args:
        given: the arguments; None takes those of this process.
    """
    arguments = sys.argv[1:] if given is None else list(given)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows "?"
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + 13
    if given is None and "torch" in sys.modules:  # the process is ours, and full
        leave(code)
    sys.exit(code)


def leave(code: int) -> NoReturn:
    """End the process as ``sys.exit`` does, but leave it to the system to take torch's objects apart (0.5 s).

    Besides, the threads of a process group may abort an interpreter that is torn down. Exit handlers run, and what
    was written is flushed. Threads that Python would wait for are waited for by ``sys.exit``.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if any(not thread.daemon for thread in others) and "RANK" not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one verb. Returns the exit code; failures are reported on the standard error stream."""
    if arguments[:1] == ["--complete"]:
        from dlcli.completion import candidates

        print("\n".join(candidates(arguments[1:])))
        return 0
    if not arguments or arguments in (["--help"], ["-h"]):
        print((Path(__file__).parent / "cli" / "help.txt").read_text(encoding="utf-8"), end="")
        return 0
    if arguments[:1] == ["--version"]:
        print(f"dlcli {__version__}")
        return 0

    import typer
    from typer.main import get_command

    from dlcli.cli.main import app

    try:
        command = get_command(app)
        _lighten(command)
        with command.make_context("dlcli", arguments) as context:
            command.invoke(context)
        return 0
    except typer.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, typer.Abort):
        return _report(["interrupted"], 128 + 2)
    except DlcliError as error:
        return _report(getattr(error, "problems", None) or str(error).split("\n"), error.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of Typer's: its class is private and has moved
            return _report([_usage(error)], 2)
        exhausted = _exhausted(error)
        if exhausted is not None:
            return _report([exhausted], ResourceError.exit_code)
        return _report([_unexpected(error)], 1)


def _lighten(command: Any) -> None:
    """Let texts, paths and flags pass as they are.

    Typer hands every argument to pydantic, whose import takes longer than all else that a listing or a typo does.
    A Typer that works differently ignores what is set here.
    """
    for inner in getattr(command, "commands", {}).values():
        _lighten(inner)
    import typer

    from dlcli.cli.main import HELP

    for parameter in command.get_params(typer.Context(command, **HELP)):  # with --help
        if hasattr(parameter, "get_runtime_param"):
            parameter.get_runtime_param = _Light(parameter).get


class _Light:
    """Converts the values of one parameter, through Typer's own way where the type is not a simple one."""

    def __init__(self, parameter: Any):
        self.kind = parameter.type_descriptor.annotation
        self.typers_own = parameter.get_runtime_param

    def get(self) -> _Light:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if self.kind is str:
            return value
        if self.kind is Path:
            return Path(value)
        if self.kind == list[str] or self.kind == list[Path]:
            return [typing.get_args(self.kind)[0](item) for item in value]
        return self.typers_own().coerce(value, param=param, ctx=ctx)


def _report(problems: Sequence[str], code: int) -> int:
    for problem in problems:
        print(f"dlcli: {problem}", file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    """Typer's message as one line that ends with what to do."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dlcli"
    name = getattr(error, "option_name", None)
    known = [option for parameter in context.command.params for option in parameter.opts] if context is not None else []
    known = [option for option in known if option.startswith("--")]
    if name is not None and type(error).__name__ == "NoSuchOption":
        hint = suggestion(name, known, full=False)
        if hint.startswith("there is"):
            takes_overrides = context is not None and any(p.name == "overrides" for p in context.command.params)
            hint = f"options of a run have no dashes ({name.lstrip('-')}=…), " if takes_overrides else ""
            hint += f"see '{path} --help'"
        return f"no option '{name}' of '{path}'; {hint}"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; see '{path} --help'"


def _exhausted(error: Exception) -> str | None:
    """The message for a failure that comes from a full memory or a full disk, else None."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" for {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; make room, then go on with 'dlcli train --resume RUN'"
    out_of_memory = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)
    if isinstance(error, MemoryError | out_of_memory) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
    ):
        return "out of memory; use a smaller data.batch_size or a smaller model"
    return None


def _unexpected(error: Exception) -> str:
    """Write the traceback to a file, in the run's folder if the error names one, and say where it is."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    first_line = " ".join(str(error).split("\n")[0].split())[:200]
    summary = f"{type(error).__name__}: {first_line}".rstrip(": ")
    try:
        folder = getattr(error, "run_directory", None)
        if folder is not None:
            file = Path(folder) / "traceback.txt"
            file.write_text(text, encoding="utf-8")
        else:
            descriptor, name = tempfile.mkstemp(prefix="dlcli-traceback-", suffix=".txt")
            file = Path(name)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
    except OSError:
        sys.stderr.write(text)
        return f"{summary}; the traceback is above, since no file could be written"
    return f"{summary}; the traceback is in {file}"


if __name__ == "__main__":
    main()
