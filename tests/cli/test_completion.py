"""Completion: the entry that the shells call, and the scripts in the shells that are installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlcli import registry
from dlcli.cli.completion import SCRIPTS, SHELLS
from dlcli.completion import candidates

ROOT = Path(registry.__file__).parent.parent


@pytest.fixture
def complete(own):
    """``complete("show", "model=l")`` with the small world's plug-in."""

    def call(verb: str, *words: str) -> list[str]:
        return candidates([verb, "--plugin", str(own), *words])

    return call


def test_verbs_and_options():
    assert candidates(["sh"]) == ["show"]
    assert {"list", "runs", "tensorboard", "doctor", "completion"} <= set(candidates([""]))
    assert candidates(["--v"]) == ["--version"]
    assert candidates(["show", "--p"]) == ["--plot", "--plugin"]
    assert candidates(["runs", "prune", "--o"]) == ["--older-than"]
    assert candidates(["list", "--h"]) == ["--help"]
    assert candidates(["runs", ""]) == ["prune", "rm"]
    assert candidates(["completion", ""]) == ["bash", "fish", "zsh"]


def test_groups_and_keys_of_the_top_level(complete):
    assert complete("show", "mod") == ["model.", "model="]
    assert complete("show", "se") == ["seed="]
    assert complete("show", "exp") == ["experiment="]
    assert complete("show", "init") == ["init=", "init_from="]


def test_choices(complete):
    assert complete("show", "model=fake") == ["model=fake_large", "model=fake_wider"]
    assert complete("train", "data=fake") == ["data=fake_poems"]
    assert complete("show", "experiment=fake") == ["experiment=fake/wide"]
    assert complete("list", "model", "fake_l") == ["fake_large"]
    assert complete("list", "sch") == ["scheduler"]


def test_options_of_the_chosen_entry(complete):
    assert complete("show", "model.hi") == ["model.hidden_size="]
    assert complete("show", "model.h") == complete("show", "model=fake_large", "model.h")
    assert complete("show", "trainer.max") == ["trainer.max_epochs=", "trainer.max_steps="]
    assert complete("show", "model=nonsense", "model.h") == []
    assert complete("show", "nothing.h") == []


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], "8"),
        (["model=fake_wider"], "1024"),
        (["data=fake_poems"], "512"),  # the data suggest fake_large
        (["data=fake_poems", "model=mlp"], "8"),
        (["experiment=fake/wide"], "1024"),
        (["experiment=fake/wide", "model=mlp"], "8"),
    ],
)
def test_the_default_is_that_of_the_entry_which_the_words_choose(complete, words, size):
    assert complete("show", *words, "model.hidden_size=") == [f"model.hidden_size={size}"]


def test_an_entry_that_builds_on_another_has_its_options_too(complete):
    assert len(complete("show", "model=fake_wider", "model.")) == 5


def test_values(complete):
    assert complete("show", "model=fake_large", "model.cell=") == ["model.cell=gru", "model.cell=lstm"]
    assert complete("show", "model.tied=t") == ["model.tied=true"]
    assert complete("show", "model.bias=") == ["model.bias=false", "model.bias=null", "model.bias=true"]
    assert complete("show", "optimizer.lr=") == ["optimizer.lr=0.01"]
    assert complete("show", "data.path=") == ["data.path=null"]
    assert complete("show", "model.vocab_size=") == []


def test_runs(make_run, tmp_path):
    make_run("lstm-a")
    make_run("gru-b")
    make_run("other", folder=tmp_path / "elsewhere")
    assert candidates(["eval", ""]) == ["gru-b", "latest", "lstm-a"]
    assert candidates(["sample", "l"]) == ["latest", "lstm-a"]
    assert candidates(["sample", "latest", "pro"]) == ["prompt="]
    assert candidates(["train", "--resume", "ls"]) == ["lstm-a"]
    assert candidates(["train", "init_from=g"]) == ["init_from=gru-b"]
    named = [f"task.classifier={name}" for name in ("gru-b", "latest", "lstm-a", "null")]
    assert candidates(["train", "task=gan", "task.classifier="]) == named
    assert candidates(["runs", "rm", "g"]) == ["gru-b"]
    (tmp_path / "here" / "runs" / "sweep-1").mkdir()
    (tmp_path / "here" / "runs" / "sweep-1" / "sweep.json").write_text("{}")
    assert candidates(["train", "--resume", "s"]) == candidates(["runs", "rm", "s"]) == ["sweep-1"]
    assert candidates(["compare", "gru-b", "l"]) == ["latest", "lstm-a"]
    assert candidates(["eval", "s"]) == []
    assert candidates(["runs", "--run-dir", str(tmp_path / "elsewhere"), "rm", ""]) == ["latest", "other"]
    assert candidates(["runs", "prune", "--status", "f"]) == ["failed", "finished"]
    assert candidates(["eval", "latest", "--split", "v"]) == ["val"]


def test_anything_wrong_gives_nothing(own):
    (own / "model" / "broken.yaml").write_text("a: [\n")
    assert candidates([]) == candidates([""])
    assert candidates(["nonsense", ""]) == []
    assert candidates(["show", "--plugin", "nowhere", "model.h"]) == []
    assert candidates(["show", "--plugin", str(own), "model=broken", "model."]) == []
    assert candidates(["show", "--config-dir", ""]) == []
    assert candidates(["show", "model=a=b=c"]) == []


def test_the_entry_prints_one_candidate_a_line(dlcli):
    assert dlcli("--complete", "completion", "") == (0, "bash\nfish\nzsh\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_printed_and_have_the_shell_s_syntax(dlcli, shell):
    code, out, _ = dlcli("completion", shell)
    assert (code, out) == (0, (SCRIPTS / f"dlcli.{shell}").read_text())
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=out, text=True, check=True, timeout=60)


def test_an_unknown_shell(dlcli):
    assert dlcli("completion", "fsh") == (2, "", "dlcli: no completion for 'fsh'; did you mean fish?\n")


@pytest.fixture
def command(tmp_path) -> Path:
    """A command named ``dlcli`` in a folder for PATH."""
    file = tmp_path / "bin" / "dlcli"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m dlcli "$@"\n')
    file.chmod(0o755)
    return file


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@needs_bash
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("dlcli sh", ["show"]),
        ("dlcli show mod", ["model.", "model="]),
        ("dlcli show --config-dir OWN model=fake", ["fake_large", "fake_wider"]),
        ("dlcli show --config-dir OWN model=", ["fake_large", "fake_wider"]),
        ("dlcli show --config-dir OWN model=fake_large model.hi", ["model.hidden_size="]),
        ("dlcli show --plugin OWN model=fake_large model.cell=g", ["gru"]),
        ("dlcli completion ", ["bash", "fish", "zsh"]),
    ],
)
def test_bash_is_given_what_follows_the_last_separator(own, command, line, reply):
    line = line.replace("OWN", str(own))
    script = f"""
        {(SCRIPTS / "dlcli.bash").read_text()}
        COMP_LINE={line!r} COMP_POINT={len(line)}
        _dlcli
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stderr == ""
    assert set(reply) <= set(done.stdout.split())
    if "model=" not in line.split()[-1]:
        assert done.stdout.split() == reply


@needs_bash
def test_a_typed_tab_completes_in_an_interactive_bash(own, command):
    """The whole way through readline, which splits at "=" on its own."""
    terminal, inner = pty.openpty()
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "TERM": "dumb", "HISTFILE": ""}
    arguments = ["bash", "--norc", "--noprofile", "-i"]
    streams = {"stdin": inner, "stdout": inner, "stderr": inner}
    with subprocess.Popen(arguments, env=environment, start_new_session=True, **streams) as bash:
        try:
            _type(terminal, f"source {SCRIPTS / 'dlcli.bash'}; echo rea''dy\n", "ready")
            echoed = _type(terminal, f"dlcli show --plugin {own} model=fake_l\t", "fake_large ")
            assert "model=fake_large " in echoed
            _type(terminal, "model.hid\t", "model.hidden_size=")
            _type(terminal, "5\x01echo \n", "model=fake_large model.hidden_size=5")
        finally:
            bash.kill()
            os.close(inner)
            os.close(terminal)


def _type(terminal: int, text: str, expected: str) -> str:
    """Type the text, and read until the expected one appears (at most a minute)."""
    os.write(terminal, text.encode())
    seen, deadline = "", time.monotonic() + 60
    while expected not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]", "", os.read(terminal, 65536).decode(errors="replace"))
    assert expected in seen, seen
    return seen
