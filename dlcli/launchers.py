"""Hydra's launchers in a sweep: which may be used, and that Hydra executes nothing else. Imports no torch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlcli.errors import ConfigError, suggestion
from dlcli.hydra_composition import config_loader, first_line
from dlcli.sweep_records import JOBS

LAUNCHERS = {
    "dlcli": "hydra_plugins.dlcli_sweep.ProcessLauncher",
    "basic": "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "joblib": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
}
"""Launchers that a sweep may use, and their classes."""
INSTALL = {"joblib": "hydra-joblib-launcher", "submitit_local": "hydra-submitit-launcher"}
INSTALL["submitit_slurm"] = INSTALL["submitit_local"]
SWEEPER = "hydra_plugins.dlcli_sweep.JobSweeper"


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the jobs, and those of Hydra's launcher.

    Raises:
        ConfigError: a setting of Hydra's that a sweep cannot change.
    """
    jobs, hydra, problems = [], [], []
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0].partition("@")[0]
        if not re.match(r"hydra\b", key):
            jobs.append(text)
        elif key == "hydra/launcher" and text.startswith("hydra") and (name := text.partition("=")[2]) not in LAUNCHERS:
            problems.append(f"no launcher '{name}' that a sweep may use; {suggestion(name, LAUNCHERS)}")
        elif not re.fullmatch(r"\+{0,2}(hydra/launcher|hydra\.launcher(\.[a-zA-Z]\w*)+)=(?!.*\b_\w+_\b).*", text, re.S):
            problems.append(f"'{text}': of Hydra's own settings, only hydra/launcher and hydra.launcher.… can change")
        else:
            hydra.append(text)
    if problems:
        raise ConfigError(problems)
    return jobs, hydra


def launcher_overrides(hydra: Sequence[str], folder: Path) -> list[str]:
    """Hydra's settings in a sweep: our sweeper and launcher unless another is named, and no files of Hydra's own."""
    from hydra.core.override_parser.types import Quote, QuotedString

    where = QuotedString(str(folder.resolve()).replace("${", r"\${"), Quote.single).with_quotes()
    named = [] if any(text.lstrip("+").startswith("hydra/launcher=") for text in hydra) else ["hydra/launcher=dlcli"]
    quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null", "hydra.job.chdir=false"]
    return [*named, "hydra/sweeper=dlcli", *quiet, f"hydra.sweep.dir={where}", f"hydra.sweep.subdir={JOBS}", *hydra]


def names_own_launcher(hydra: Sequence[str]) -> bool:
    """Whether these settings leave the jobs to the launcher of dlcli."""
    return {text.partition("=")[2] for text in hydra if text.startswith("hydra/launcher=")} <= {"dlcli"}


def check_launcher(hydra: Sequence[str]) -> str:
    """The name of the launcher that Hydra would use.

    Raises:
        ConfigError: it is not installed, its options are wrong, or Hydra would execute anything else.
    """
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    with reported():
        tree = config_loader([], ours=False).load_configuration(
            None, launcher_overrides(hydra, Path()), run_mode=RunMode.MULTIRUN, from_shell=False
        )
        node: Any = OmegaConf.to_container(tree.hydra, resolve=False)
        n_jobs = tree.hydra.launcher.get("n_jobs")
    name = str(tree.hydra.runtime.choices["hydra/launcher"])
    targets = [[value for key, value in node[part].items() if key[0] == "_"] for part in ("launcher", "sweeper")]
    if node["callbacks"] or targets != [[LAUNCHERS.get(name)], [SWEEPER]]:
        raise ConfigError("Hydra's launcher, sweeper or callbacks are not those that a sweep may use")
    if name == "dlcli" and n_jobs is not None and not n_jobs > 0:
        raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: expected a whole number of at least 1")
    return name


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Hydra's own complaints as problems of the command line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        missing = re.search(r"Could not find 'hydra/launcher/(\w+)'", str(error))
        if missing is not None:
            package = INSTALL.get(missing[1], missing[1])
            raise ConfigError(f"hydra/launcher={missing[1]} is not installed: pip install {package}") from None
        raise ConfigError(first_line(error)) from None
