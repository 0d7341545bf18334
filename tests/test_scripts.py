"""The shell scripts, with a virtual environment whose programs only write down how they were called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

PYTHON = """#!/usr/bin/env bash
case "$*" in
    "-m uv --version") exit 0 ;;
    "-m uv pip"* | "-m pip"*) echo "python $*" >>calls; exit "${INSTALL_FAILS:-0}" ;;
    *run_records*) ls -d runs/* ;;
    "-m benchmarks"* | "-m flower_rounds"*) echo "python $* in $PWD with $PYTHONPATH" >>"$CALLS" ;;
    *) exec %s "$@" ;;
esac
"""
DLCLI = """#!/usr/bin/env bash
echo "dlcli $*" >>calls
if [ "$1" = train ]; then mkdir -p runs/one && touch runs/one/best.pt; exit "${TRAIN_FAILS:-0}"; fi
"""
TOOL = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>calls
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts in a folder of their own, whose name has a space, beside a virtual environment of fakes."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "pyproject.toml", folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    tools = dict.fromkeys(("ruff", "mypy", "pytest"), TOOL)
    for name, text in {"python": PYTHON % shlex.quote(sys.executable), "dlcli": DLCLI, **tools}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return folder


def call(
    checkout: Path, script: str, *arguments: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What the script printed, and the calls that it made of the installers, dlcli and the tools."""
    (checkout / "calls").write_text("")
    done = subprocess.run(
        [str(checkout / script), *arguments],
        cwd="/",
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done, (checkout / "calls").read_text().splitlines()


INSTALL = "python -m uv pip install --compile-bytecode --python .venv/bin/python --editable ."
TRAIN = "dlcli train model=lstm data=shakespeare"
SAMPLE = "dlcli sample runs/one length=400"


def test_quickstart_installs_trains_and_samples_once(checkout: Path):
    done, calls = call(checkout, "scripts/quickstart")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls == [INSTALL, TRAIN, SAMPLE]
    assert "dlcli sample runs/one prompt=ROMEO" in done.stdout
    done, calls = call(checkout, "scripts/quickstart")
    assert calls == [SAMPLE]
    assert "Already trained: runs/one" in done.stdout


def test_quickstart_trains_again_with_overrides_or_without_the_run(checkout: Path):
    call(checkout, "scripts/quickstart")
    assert call(checkout, "scripts/quickstart", "trainer.max_steps=3")[1] == [f"{TRAIN} trainer.max_steps=3", SAMPLE]
    shutil.rmtree(checkout / "runs")
    assert call(checkout, "scripts/quickstart")[1] == [TRAIN, SAMPLE]


def test_quickstart_ends_with_the_training_that_failed_and_begins_again(checkout: Path):
    done, calls = call(checkout, "scripts/quickstart", TRAIN_FAILS="3")
    assert (done.returncode, calls) == (3, [INSTALL, TRAIN])
    assert call(checkout, "scripts/quickstart")[1] == [TRAIN, SAMPLE]


def test_another_pyproject_is_installed_again(checkout: Path):
    call(checkout, "scripts/quickstart")
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert call(checkout, "scripts/quickstart")[1] == [INSTALL, SAMPLE]


def test_pip_takes_over_and_a_failed_install_is_tried_again(checkout: Path):
    done, calls = call(checkout, "scripts/quickstart", INSTALL_FAILS="1")
    assert done.returncode != 0
    assert calls == [INSTALL, "python -m pip install --disable-pip-version-check --editable ."]
    assert call(checkout, "scripts/quickstart")[1] == [INSTALL, TRAIN, SAMPLE]


def test_test_checks_and_hands_its_arguments_on(checkout: Path):
    done, calls = call(checkout, "scripts/test", "-m", "slow")
    assert (done.returncode, done.stderr) == (0, "")
    checks = ["ruff format --check .", "ruff check .", "mypy "]
    assert calls[:-1] == [f"{INSTALL}[dev]", *checks]
    assert calls[-1] in {f"pytest -m not slow -n {workers} -m slow" for workers in (0, 2)}
    assert call(checkout, "scripts/quickstart")[1] == [TRAIN, SAMPLE]  # the extra includes everything


def test_format_rewrites(checkout: Path):
    assert call(checkout, "scripts/format")[1][1:] == ["ruff check --fix --exit-zero --quiet .", "ruff format ."]


def test_bench_has_an_environment_of_its_own_and_the_folder_of_the_caller(checkout: Path):
    shutil.copytree(checkout / ".venv", checkout / ".bench-venv")
    done, calls = call(checkout, "scripts/bench", "--quick", "4", CALLS=str(checkout / "calls"), PYTHONPATH="")
    assert (done.returncode, done.stderr) == (0, "")
    install = "python -m uv pip install --compile-bytecode --python .bench-venv/bin/python --editable .[bench]"
    assert calls == [install, f"python -m benchmarks --quick 4 in / with {checkout}/scripts"]
    assert len(call(checkout, "scripts/bench", CALLS=str(checkout / "calls"))[1]) == 1  # nothing is installed twice


def test_flower_has_an_environment_with_its_own_typer(checkout: Path):
    shutil.copytree(checkout / ".venv", checkout / ".flower-venv")
    variables = {"CALLS": str(checkout / "calls"), "PYTHONPATH": ""}
    done, (install, run) = call(checkout, "scripts/flower", "trainer.rounds=3", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert install.startswith("python -m uv pip install --compile-bytecode --python .flower-venv/bin/python flwr>=1.41")
    requirements = install.split()[7:]
    assert {"torch>=2.10", "optuna>=5,<6"} <= set(requirements)
    assert not any(requirement.startswith("typer") or requirement == "--editable" for requirement in requirements)
    assert run == f"python -m flower_rounds trainer.rounds=3 in / with {checkout}:{checkout}/scripts"
    assert len(call(checkout, "scripts/flower", **variables)[1]) == 1  # nothing is installed twice


@pytest.mark.parametrize("beside", [True, False])
def test_ci_takes_the_mirror_beside_the_checkout(checkout: Path, beside: bool):
    data = checkout.parent / "shared" / "data"
    if beside:
        data.mkdir(parents=True)
    with (checkout / ".venv/bin/pytest").open("a") as file:
        file.write('echo "mirror $DLCLI_DATA_MIRROR" >>calls\n')
    done, calls = call(checkout, ".ci/run", DLCLI_DATA_MIRROR="")
    assert done.returncode == 0
    assert calls[-1] == (f"mirror {data}" if beside else "mirror ")


def test_no_python_is_one_clear_message(checkout: Path, tmp_path: Path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "dirname", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "python3").write_text("#!/usr/bin/env bash\nexit 1\n")  # as one that is too old
    (programs / "python3").chmod(0o755)
    shutil.rmtree(checkout / ".venv")
    done, calls = call(checkout, "scripts/quickstart", PATH=str(programs), PYTHON="")
    assert (done.returncode, calls) == (1, [])
    assert done.stderr.startswith("dlcli: no Python >= 3.11 with its venv module was found; install one")
    assert len(done.stderr.splitlines()) == 1
