"""The Python interface: train from a script or a notebook, open saved runs, build any registered model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from dlcli.run import Run
    from dlcli.saved_run import SavedRun


def train(
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[Path | str] = (),
    plugins: Sequence[str] = (),
    quiet: bool = True,
) -> Run:
    """Train as ``dlcli train OVERRIDES`` does and return the finished run.

    Args:
        overrides: such as ``["model=lstm", "data=shakespeare", "trainer.max_steps=100"]``.
        config_dirs: folders of your own YAML files.
        plugins: modules, files or folders with your own entries.
        quiet: print nothing.

    Returns:
        The run: ``run.directory``, ``run.summary["metrics"]``, ``run.model`` with the best weights.

    Raises:
        dlcli.errors.DlcliError: with the same messages as on the command line.
    """
    from dlcli.cli.train import start_run

    run: Run = start_run(
        list(overrides),
        command=f"dlcli.train({list(overrides)!r})",
        config_dirs=[Path(directory) for directory in config_dirs],
        plugins=list(plugins),
        quiet=quiet,
    )
    run.train()
    return run


def load_run(
    run: Path | str,
    *,
    checkpoint: str = "best",
    run_dir: Path | str | None = None,
    config_dirs: Sequence[Path | str] = (),
    plugins: Sequence[str] = (),
    device: str = "auto",
) -> SavedRun:
    """Open a saved run; ``.model`` is a ready ``nn.Module`` in evaluation mode.

    Args:
        run: a folder, a unique prefix of a run's name, or "latest".
        checkpoint: "best", "last", or the path of a checkpoint.
        run_dir: where to look for a prefix or the latest; None is the folder ``runs``.
        config_dirs: folders of your own YAML files.
        plugins: those that the run was trained with.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        dlcli.errors.DlcliError: no such run, a damaged checkpoint, a plug-in that is missing.
    """
    from dlcli import plugins as plugin_loader
    from dlcli.cli.options import run_folder
    from dlcli.run_records import find
    from dlcli.saved_run import SavedRun

    directories = [*[Path(directory) for directory in config_dirs], *plugin_loader.load(plugins)]
    return SavedRun(
        find(str(run), run_folder(Path(run_dir) if run_dir else None)),
        which=checkpoint,
        directories=directories,
        device=device,
    )


def build_model(name: str, **values: Any) -> nn.Module:
    """Any registered model with the hyper-parameters of ``configs/model/<name>.yaml``.

    Args:
        name: the name of the YAML file, such as "lenet" or "gpt_nano".
        values: sizes of the data (``input_shape=(1, 28, 28)``, ``num_classes=10``, ``vocab_size=65``, …) and
            hyper-parameters to change. ``num_classes`` stands for ``num_outputs`` too.

    Raises:
        ConfigError: an unknown name or option, a wrong type, or a size that the model needs and was not given.
    """
    from dlcli import catalogue
    from dlcli.check import group_problems
    from dlcli.errors import ConfigError, suggestion
    from dlcli.registry import MODELS
    from dlcli.spec import SIZES, DataSpec

    known = catalogue.entries("model")
    if name not in known:
        raise ConfigError(f"no model '{name}'; {suggestion(name, known)}")
    sizes = {key: values.pop(key) for key in list(values) if key in SIZES}
    if "num_classes" in sizes:
        sizes.setdefault("num_outputs", sizes["num_classes"])
    if "input_shape" in sizes:
        sizes["input_shape"] = tuple(sizes["input_shape"])
    config = {**known[name].content(), **values}
    problems = group_problems("model", config)
    if problems:
        raise ConfigError(problems)
    model: nn.Module = MODELS.build(config, spec=DataSpec(**sizes), label="of the arguments")
    return model
