"""The entry point: one line and an exit code for every failure, and imports that stay light."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dlcli.cli.main
from dlcli import __version__
from dlcli.__main__ import main
from dlcli.errors import ConfigError, DataError, Interrupted, NonFiniteError

ROOT = Path(dlcli.__file__).parent.parent


@pytest.fixture
def failing(monkeypatch, dlcli):
    """``failing(error)`` runs a verb that raises it."""

    def call(error: BaseException) -> tuple[int, str, str]:
        def raise_it(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("dlcli.catalogue.entries", raise_it)
        return dlcli("list")

    return call


def test_version_and_help(dlcli):
    assert dlcli("--version") == (0, f"dlcli {__version__}\n", "")
    code, out, err = dlcli()
    assert (code, err) == (0, "")
    assert out == dlcli("--help")[1]
    assert all(verb in out for verb in ("list", "show", "runs", "tensorboard", "doctor", "completion"))


def test_the_kept_help_is_what_typer_prints():
    kept = (Path(dlcli.cli.main.__file__).parent / "help.txt").read_text()
    assert kept == dlcli.cli.main.top_level_help(), "run: python -m dlcli.cli.main"


def _verbs():
    from typer.main import get_command

    command = get_command(dlcli.cli.main.app)
    for name, verb in command.commands.items():
        yield (name,)
        for inner in getattr(verb, "commands", {}):
            yield (name, inner)


@pytest.mark.parametrize("verb", list(_verbs()), ids=" ".join)
def test_help_of_every_verb_ends_with_an_example(dlcli, verb):
    code, out, err = dlcli(*verb, "--help")
    assert (code, err) == (0, "")
    assert dlcli(*verb, "-h") == (0, out, "")
    assert "dlcli " + " ".join(verb) in out[out.rindex("Example") :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lsit"], "dlcli: no verb 'lsit'; did you mean list?"),
        (["model=lstm", "seed=1"], "dlcli: no verb 'model=lstm'; to train with it: dlcli train model=lstm seed=1"),
        (["list", "--jsno"], "dlcli: no option '--jsno' of 'dlcli list'; did you mean --json?"),
        (["runs", "--jsno"], "dlcli: no option '--jsno' of 'dlcli runs'; did you mean --json?"),
        (["runs", "prnue"], "dlcli: no such command 'prnue'. Did you mean 'prune'?; see 'dlcli runs --help'"),
        (["doctor", "-x"], "dlcli: no option '-x' of 'dlcli doctor'; see 'dlcli doctor --help'"),
        (
            ["show", "--momentum", "0.9"],
            "dlcli: no option '--momentum' of 'dlcli show'; options of a run have no dashes (momentum=…), "
            "see 'dlcli show --help'",
        ),
        (["--zzz"], "dlcli: no option '--zzz' of 'dlcli'; see 'dlcli --help'"),
        (["--verison"], "dlcli: no option '--verison' of 'dlcli'; did you mean --version?"),
        (["completion"], "dlcli: missing argument 'shell'; see 'dlcli completion --help'"),
        (["doctor", "--run-dir"], "dlcli: option '--run-dir' requires an argument; see 'dlcli --help'"),
        (
            ["tensorboard", "--port", "x"],
            "dlcli: invalid value for '--port': Input should be a valid integer, unable to parse string as an integer; "
            "see 'dlcli tensorboard --help'",
        ),
    ],
)
def test_usage_errors_are_one_line(dlcli, arguments, message):
    assert dlcli(*arguments) == (2, "", message + "\n")


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ConfigError(["one", "two"]), 2, ["dlcli: one", "dlcli: two"]),
        (DataError("bad\nfile"), 3, ["dlcli: bad", "dlcli: file"]),
        (NonFiniteError("the loss is NaN at step 3"), 4, ["dlcli: the loss is NaN at step 3"]),
        (Interrupted("stopped; saved", 15), 143, ["dlcli: stopped; saved"]),
        (KeyboardInterrupt(), 130, ["dlcli: interrupted"]),
        (MemoryError(), 5, ["dlcli: out of memory; use a smaller data.batch_size or a smaller model"]),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            5,
            ["dlcli: out of memory; use a smaller data.batch_size or a smaller model"],
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/last.pt"),
            5,
            [
                "dlcli: no space left on the disk for runs/a/last.pt; make room, then go on with "
                "'dlcli train --resume RUN'"
            ],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failures_become_lines_and_codes(failing, error, code, lines):
    assert failing(error) == (code, "", "\n".join(lines) + "\n")


def test_an_unexpected_failure_leaves_its_traceback_in_a_file(failing, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = failing(ZeroDivisionError("by zero\nand more"))
    assert (code, out) == (1, "")
    assert err.startswith("dlcli: ZeroDivisionError: by zero; the traceback is in ")
    assert err.count("\n") == 1
    file = Path(err.strip().rpartition(" in ")[2])
    assert file.parent == tmp_path
    assert "raise_it" in file.read_text()


def test_an_unexpected_failure_of_a_run_leaves_its_traceback_there(failing, tmp_path):
    error = ValueError("odd")
    error.run_directory = tmp_path
    code, _, err = failing(error)
    assert (code, err) == (1, f"dlcli: ValueError: odd; the traceback is in {tmp_path / 'traceback.txt'}\n")
    assert "ValueError: odd" in (tmp_path / "traceback.txt").read_text()


def test_main_exits_with_the_code(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["lsit"])
    assert raised.value.code == 2
    assert "did you mean list?" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(own):
    script = f"{sys.executable} -m dlcli list --json --plugin {own} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")  # 0 if all was written before the reader left


LEAVE = """
import atexit, sys, threading, time
from dlcli.__main__ import leave
class Slow:
    def __del__(self):
        print("taken apart", flush=True)
kept = Slow()
kept.itself = kept
atexit.register(print, "handler", end=" ")
{thread}
print("said", end=" ")
leave(7)
"""


def leave(thread=""):
    done = subprocess.run([sys.executable, "-c", LEAVE.format(thread=thread)], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def test_a_process_that_leaves_loses_no_output_and_runs_its_exit_handlers():
    assert leave() == (7, "said handler ", "")


def test_a_process_that_leaves_waits_for_its_threads():
    slow = "threading.Thread(target=lambda: (time.sleep(0.3), print('thread', end=' '))).start()"
    code, out, _ = leave(slow)
    assert (code, out.split()[:3]) == (7, ["said", "thread", "handler"])


def test_the_output_of_a_run_is_whole_when_it_goes_into_a_pipe(tmp_path):
    options = ["data=synthetic_regression", "trainer.max_steps=1", f"run_dir={tmp_path}"]
    command = [sys.executable, "-m", "dlcli", "train", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    (summary,) = tmp_path.glob("linear-*/summary.json")
    measured = json.loads(summary.read_text())["metrics"]["test"]["loss"]
    assert f"loss {measured:.4f}" in done.stdout.splitlines()[-1]


LOOK_AT_MODULES = """
import sys
from dlcli.__main__ import run
code = run(sys.argv[2:])
found = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
assert not found, found
sys.exit(code)
"""
HEAVY = "torch,tensorboard,numpy,matplotlib,sklearn,optuna,pydantic"


@pytest.mark.parametrize(
    ("arguments", "unwanted", "code"),
    [
        (["--help"], f"{HEAVY},hydra,omegaconf,rich,yaml,typer", 0),
        (["show", "--help"], f"{HEAVY},hydra,omegaconf,rich", 0),
        (["--version"], f"{HEAVY},hydra,omegaconf,rich,yaml,typer", 0),
        (["trian"], f"{HEAVY},hydra,omegaconf,rich", 2),
        (["list", "model", "--plugin", "OWN"], f"{HEAVY},hydra,omegaconf,rich", 0),
        (["--complete", "show", "--plugin", "OWN", "model.h"], f"{HEAVY},hydra,omegaconf,rich,typer", 0),
        (["runs"], f"{HEAVY},hydra,omegaconf,rich", 0),
        (["show", "--plugin", "OWN"], HEAVY, 0),
        (["show", "--plot", "--plugin", "OWN"], HEAVY, 0),
        (["show", "--plugin", "OWN", "model.hiden_size=1"], HEAVY, 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_looking_imports_nothing_heavy(own, arguments, unwanted, code):
    arguments = [str(own) if argument == "OWN" else argument for argument in arguments]
    command = [sys.executable, "-c", LOOK_AT_MODULES, unwanted, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == code, done.stderr


def test_training_imports_no_compiler_and_nothing_else_that_is_slow(tmp_path):
    slow = "sympy,torch._dynamo,torch._inductor,sklearn,torchvision,torch.utils.tensorboard,matplotlib,rich"
    slow += ",tensorboard.compat.tensorflow_stub,tensorboard.summary,optuna,pydantic"
    arguments = ["train", "data=synthetic_regression", "trainer.max_steps=1", f"run_dir={tmp_path}"]
    command = [sys.executable, "-c", LOOK_AT_MODULES, slow, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
