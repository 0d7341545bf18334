"""What Hydra finds of dlcli: a sweeper and a launcher, both only doors to ``dlcli.sweep_processes``.

Hydra imports every plug-in whenever it composes anything, so this file imports nothing of dlcli. It does so before the
module is in sys.modules, where dataclasses look up annotations that are texts: they are not postponed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


@dataclass
class ProcessLauncherConf:
    """``n_jobs``: how many jobs run at a time; null = what the machine can bear."""

    _target_: str = "hydra_plugins.dlcli_sweep.ProcessLauncher"
    n_jobs: int | None = None


@dataclass
class JobSweeperConf:
    """The jobs are known to the task function."""

    _target_: str = "hydra_plugins.dlcli_sweep.JobSweeper"


ConfigStore.instance().store(group="hydra/launcher", name="dlcli", node=ProcessLauncherConf, provider="dlcli")
ConfigStore.instance().store(group="hydra/sweeper", name="dlcli", node=JobSweeperConf, provider="dlcli")


class ProcessLauncher(Launcher):
    """Each job in a fresh process of this machine, ``n_jobs`` at a time."""

    def __init__(self, n_jobs: int | None):
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the task function: a ``dlcli.sweep_processes.Jobs``."""
        self.jobs = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run the jobs with these indices. Their results are on the disk."""
        self.jobs.launch(range(initial_job_idx, initial_job_idx + len(job_overrides)), self.n_jobs)
        return []


class JobSweeper(Sweeper):
    """Hands the jobs, which were composed and checked before, to the launcher, by their indices."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Build the configured launcher."""
        self.count = len(task_function)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all jobs. A job's configuration is in its record, so it has no overrides for Hydra to compose."""
        assert self.launcher is not None
        return self.launcher.launch([[] for _ in range(self.count)], initial_job_idx=0)
