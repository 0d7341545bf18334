"""Run: the record that ties a configuration, its objects, a folder, logs and checkpoints together.

The composition root: only here (and in ``saved_run``) are all groups known. ``dlcli.start`` gives a run its folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from dlcli import checkpoint, runtime
from dlcli.crowding import Crowding
from dlcli.data.base import DataModule, generator
from dlcli.distributed import Group, synchronise_batch_norm
from dlcli.errors import ConfigError, DataError, DlcliError, Interrupted, ResourceError, counted
from dlcli.functional.inference import evaluating
from dlcli.functional.pictures import save_png
from dlcli.functional.plots import signal_sizes
from dlcli.functional.signals import signals
from dlcli.hydra_composition import Composed
from dlcli.hyperparameters import is_path
from dlcli.interruption import Interruption
from dlcli.judging_classifier import judging_classifier
from dlcli.optimizers.base import Optimizer
from dlcli.parameter_patterns import begin_by_rules, freeze, rate_factors
from dlcli.progress import Progress
from dlcli.registry import DATA, MODELS, OPTIMIZERS, REGISTRIES, SCHEDULERS, TASKS, TRAINERS
from dlcli.run_records import write_json
from dlcli.saved_model import build_model
from dlcli.schedulers.base import Schedule
from dlcli.scratch import layers_of
from dlcli.tasks.base import Networks, Task
from dlcli.tensorboard_projector import Embedding
from dlcli.tracking import Tracker
from dlcli.trainers.base import Trainer
from dlcli.trainers.evaluation import converted, evaluate, pictures, scalars
from dlcli.trainers.step import networks_of

BOOKKEEPING = {
    *(
        "run_dir",
        "init_from",
        "layers",
        "task.classifier",
        "task.sample",
        "task.plots",
        "task.tsne",
        "trainer.monitor",
        "trainer.keep_top",
        "trainer.signals",
        "trainer.device",
    ),
    *("trainer.eval_every", "trainer.checkpoint_every", "trainer.log_every", "trainer.process_timeout"),
    *("trainer.limit_eval_batches", "trainer.on_nonfinite", "trainer.deterministic"),
}
"""Options that TensorBoard's table of hyper-parameters leaves out."""
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")


class Run:
    """One training run. ``config`` is resolved and plain; ``directory`` is None for a dry run."""

    def __init__(
        self,
        composed: Composed,
        *,
        plugins: Sequence[str] = (),
        quiet: bool = False,
        group: Group | None = None,
        saved: bool = False,
    ):
        """Build data, model and task; write nothing.

        In a group of processes every one builds the same, and only the main one writes and speaks. ``saved`` says that
        the weights of a checkpoint follow.

        Raises:
            ConfigError: parts that do not fit together. DataError: data that cannot be had or are damaged.
        """
        self.config = composed.config
        self.choices = composed.choices
        self.plugins = list(plugins)
        self.seed: int = self.config["seed"]
        trainer = self.config["trainer"]
        make_paths_absolute(self.config)
        self.group = group
        self.main = group is None or group.main
        self.device = group.device if group is not None else runtime.resolve_device(trainer.get("device", "cpu"))
        trainer["device"] = str(self.device) if group is None else self.device.type
        precision = trainer.get("precision", "fp32")
        if self.config["layers"] == "scratch" and precision == "auto":
            precision = "fp32"
        trainer["precision"] = runtime.resolve_precision(precision, self.device)
        if "channels_last" in trainer:
            trainer["channels_last"] = runtime.resolve_channels_last(
                trainer["channels_last"], trainer["precision"], self.device
            )
        runtime.deterministic(trainer.get("deterministic", False))
        self.data: DataModule = DATA.build(self.config["data"])
        MODELS.load(self.config["model"]["name"])  # imports may draw random numbers
        runtime.seed_everything(self.seed)
        self.model = build_model(self.config, self.choices, self.data.spec, saved=saved)
        begin_by_rules(self.model, self.config["init"])
        freeze(self.model, self.config["freeze"])
        self.task: Task = TASKS.build(self.config["task"], spec=self.data.spec, label=self.data_label)
        self.task.seed = self.seed
        self.task.paired = self.data.paired = self.data.augmenting and self.task.views != "none"
        self.task.class_counts, self.task.target_scale = self.data.class_counts, self.data.target_scale
        self.task.true_parameters = self.data.true_parameters
        self.task.bind(self.data.spec, self.data.vocabulary, self.data.label_names)
        refuse_unmeasured(trainer.get("monitor"), self.task, self.data_label)
        self.notes = (*self.data.notes, *self.task.prepare(self.data))
        self.task.classifier = judging_classifier(
            self.config, Path(self.config["run_dir"]), self.data.spec, self.data.fingerprint, self.device
        )
        self.dtype = runtime.input_dtype(trainer["precision"])
        if self.dtype is not None:
            self.model.to(self.dtype)
        self.model.to(self.device)
        if trainer.get("channels_last"):
            runtime.to_channels_last(self.model)
        self.layers = layers_of(self.config["layers"])
        self.data.to(self.device)
        self._check_division(trainer.get("devices", 1) if group is None else group.size)
        if group is not None and trainer.get("sync_batch_norm", False):
            synchronise_batch_norm(self.model)
        self.trainer: Trainer = TRAINERS.build(trainer)
        # What cannot be built is found now, before a folder is made.
        if "optimizer" in self.trainer.uses:
            self.build_optimizer("model")
        if "scheduler" in self.trainer.uses:
            self.build_scheduler(1000, 100)
        self.trainer.check(self)
        self.task.check(self.model, self.data)
        # Of training, whatever building has drawn; each process of a group draws its own.
        runtime.seed_everything(derived_seed(self.seed, 0 if group is None else group.rank))
        self.progress = Progress(quiet=quiet or not self.main, unit=self.data.unit)
        self.interruption = Interruption()
        on_processors = self.main and self.device.type == "cpu"
        self.crowding = Crowding(torch.get_num_threads(), os.cpu_count() or 1) if on_processors else None
        self.resume_state: dict[str, Any] | None = None
        self.directory: Path | None = None
        self.tracker = Tracker(None)
        self.summary: dict[str, Any] = {}

    def _check_division(self, processes: int) -> None:
        """
        Raises:
            ConfigError: a batch cannot be divided among the processes.
        """
        if self.data.batch_size < processes:
            raise ConfigError(
                f"data.batch_size={self.data.batch_size} cannot be divided among trainer.devices={processes} "
                "processes; it counts the examples of all of them"
            )

    # ------------------------------------------------------------------ facts

    @property
    def data_label(self) -> str:
        """What people call the data: the name of the YAML file."""
        return self.choices.get("data") or str(self.config["data"]["name"])

    @property
    def model_label(self) -> str:
        """What people call the model: the name of the YAML file."""
        return self.choices.get("model") or str(self.config["model"]["name"])

    @property
    def parameters(self) -> int:
        """How many numbers the model learns (tied parameters once)."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def describe(self) -> list[str]:
        """Lines that say what is about to be trained, on what."""
        data = ", ".join(f"{key} {value}" for key, value in self.data.describe().items())
        precision = self.config["trainer"]["precision"]
        return [
            f"model  {self.model_label}: {self.parameters:,} parameters, {precision} on {self.device}",
            f"data   {self.data_label}: {data}",
            *(f"       {note}" for note in self.notes),
        ]

    def try_batch(self) -> dict[str, float]:
        """What the trainer measures on the first training batch. Changes no parameter."""
        with self.layers:
            return self.trainer.try_out(self)

    # ------------------------------------------------------------------ what trainers use

    def build_optimizer(self, network: str) -> Optimizer:
        prefix = "" if network == "model" else f"{network}."
        named = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        factors = rate_factors([name for name, _ in named], self.config["lr_factors"])
        optimizer: Optimizer = OPTIMIZERS.build(
            self.config["optimizer"], [(name, parameter) for name, parameter in named if name.startswith(prefix)]
        )
        optimizer.rate_factors = [factors[name] for name in optimizer.names]
        return optimizer

    def build_scheduler(self, total_steps: int, steps_per_epoch: int) -> Schedule:
        schedule: Schedule = SCHEDULERS.build(self.config["scheduler"], total_steps, steps_per_epoch)
        return schedule

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.tracker.scalars(step, values)
        if self.crowding is not None and (note := self.crowding.look()) is not None:
            self.say(note)

    def log_offsets(self) -> dict[str, int]:
        return self.tracker.offsets()

    def cut_logs(self, offsets: dict[str, int]) -> None:
        self.tracker.close()
        self.tracker = Tracker(self.directory, offsets=offsets)

    def show(self, step: int, split: str, measured: Mapping[str, Any], networks: Networks) -> None:
        if self.directory is None or not self.main:
            return
        state = torch.get_rng_state()
        order = "stream" if self.task.carries_state(self.model) else "sequential"
        batch = converted(self.data.batches(split, order=order)[0], self.dtype)  # type: ignore[arg-type]
        with torch.no_grad(), evaluating(networks["model"]):
            shown = self.task.preview(networks, batch)
        torch.set_rng_state(state)
        for tag, value in shown.items():
            if isinstance(value, str):
                self.tracker.text(step, f"{split}/{tag}", value)
            elif isinstance(value, Embedding):
                self.tracker.embedding(f"{split}/{tag}", value)
            else:
                self.tracker.image(step, f"{split}/{tag}", value)
        for name, picture in pictures(dict(measured)).items():
            self.tracker.image(step, f"{split}/{name}", picture)

    def note(self, step: int, tag: str, text: str) -> None:
        self.tracker.text(step, tag, text)

    def show_signals(self, step: int) -> None:
        if self.directory is None or not self.main:
            return
        order = "stream" if self.task.carries_state(self.model) else "shuffled"
        batches = self.data.batches("train", order=order, seed=self.seed, epoch=0)  # type: ignore[arg-type]
        batch = converted(batches[0], self.dtype)
        step_of = self.task.training_step
        found = signals(self.model, lambda model: next(step_of(networks_of(model, self.task), batch)).value)
        outputs = {f"signals/{signal.layer}/output": signal.output for signal in found}
        self.log(step, {**outputs, **{f"signals/{signal.layer}/gradient": signal.gradient for signal in found}})
        picture = signal_sizes(found)
        if picture is not None:
            self.tracker.image(step, "train/signals", picture)

    def say(self, text: str) -> None:
        self.progress.say(text)

    def save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        assert self.directory is not None
        state = {**state, "rng": runtime.rng_state(), "fingerprint": self.data.fingerprint}
        if self.group is not None:
            states = self.group.gather(state["rng"])
            if states is None:
                return
            state["rng_of_others"] = states[1:]
        checkpoint.save(self.directory / f"{name}.pt", state, keep_previous=name == "last")
        if name == "last":  # so that a run that is killed later is listed with what it reached
            reached = state["loop"]
            self._write_summary(saved={"steps": reached["step"], "epochs": reached["epoch"]})

    def load_checkpoint(self) -> dict[str, Any]:
        assert self.directory is not None
        state, _, note = checkpoint.load_latest(self.directory)
        if note:
            self.say(note)
        return state

    def drop_checkpoint(self, name: str) -> None:
        assert self.directory is not None
        if self.main:
            (self.directory / f"{name}.pt").unlink(missing_ok=True)

    def restore_random_state(self, state: Mapping[str, Any]) -> None:
        others = state.get("rng_of_others", [])
        if self.group is None or self.group.main:
            runtime.set_rng_state(state["rng"])
        elif len(others) == self.group.size - 1:  # else it was saved by another number of processes
            runtime.set_rng_state(others[self.group.rank - 1])

    def interrupted(self) -> bool:
        if self.group is None:
            return self.interruption.received is not None
        wanted = [self.group.agree(n.name, self.interruption.received == n) for n in Interruption.SIGNALS]
        return any(wanted)

    def leave_interrupted(self, step: int) -> NoReturn:
        received = self.interruption.received
        if self.group is not None:  # perhaps another process received it
            received = next(number for number in Interruption.SIGNALS if self.group.agree(number.name, False))
        assert received is not None
        raise Interrupted(
            f"stopped at step {step}, saved; continue with: dlcli train --resume {self.directory}", received
        )

    # ------------------------------------------------------------------ from start to finish

    def train(self) -> None:
        """Train, measure the best weights on every split, and write the summary, whatever happens on the way."""
        assert self.directory is not None
        self._write_summary(status="running")
        for line in self.describe():
            self.say(line)
        self.say(f"run    {self.directory}")
        try:
            with self.layers:
                with self.interruption:
                    reason = self.trainer.fit(self)
                self._finish(reason)
        except BaseException as error:
            self.progress.stop()
            status = "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            self._write_summary(status=status, reason=str(error) or type(error).__name__)
            error.run_directory = self.directory  # type: ignore[attr-defined]  # the traceback of a bug goes there
            if isinstance(error, Exception) and not isinstance(error, DlcliError) and is_out_of_memory(error):
                raise ResourceError(
                    f"out of memory with model '{self.model_label}' at data.batch_size={self.data.batch_size}; "
                    "use a smaller batch or model; earlier checkpoints are kept"
                ) from error
            if self.config["trainer"].get("channels_last") and "view size is not compatible" in str(error):
                raise ConfigError(
                    f"model '{self.model_label}' calls view on images whose channels are innermost in memory; call "
                    "reshape or flatten instead, or set trainer.channels_last=false"
                ) from error
            raise
        finally:
            self.tracker.close()

    def _finish(self, reason: str) -> None:
        """Measure the best weights on the splits and record the result."""
        assert self.directory is not None
        best: dict[str, Any] | None = None
        if self.main:
            file = self.directory / "best.pt"
            state = checkpoint.load(file if file.exists() else self.directory / "last.pt")
            self.model.load_state_dict(state.get("ema", state["model"]))
            best = state["loop"]["best"]
        if self.group is not None:
            best = self.group.broadcast(best)
            self.group.copy_from_main([*self.model.parameters(), *self.model.buffers()])
        networks = {"model": self.model}
        loop = self.trainer.loop
        assert loop is not None
        metrics: dict[str, dict[str, float]] = {"train": dict(loop.latest)}
        if best is not None:
            metrics[best["metric"].partition("/")[0]] = best["metrics"]  # of these very weights
        for split in self.data.splits:
            if split not in metrics:
                measured = evaluate(
                    *(self.task, self.model, networks, self.data, split),
                    autocast=runtime.autocast(self.config["trainer"]["precision"], self.device),
                    dtype=self.dtype,
                    limit=self.config["trainer"].get("limit_eval_batches"),
                    group=self.group,
                    watch=self.progress.measuring,
                )
                metrics[split] = scalars(measured)
                if self.main:
                    self._show_pictures(loop.step, split, pictures(measured))
        self._write_summary(status="finished", reason=reason, metrics=metrics)
        flat = {f"{split}/{name}": value for split, values in metrics.items() for name, value in values.items()}
        self.tracker.hparams(flatten(self.config), flat)
        self.say(f"done   {reason} ({counted(self.summary['steps'], 'step')}, {self.summary['seconds']:.0f} s)")
        for split in metrics:
            if split != "train":
                values = "  ".join(f"{name} {value:.4f}" for name, value in metrics[split].items())
                self.say(f"{split:<6} {values}")

    def _show_pictures(self, step: int, split: str, shown: Mapping[str, Tensor]) -> None:
        """Pictures of the final weights, in TensorBoard and as files; a full disk costs no run."""
        assert self.directory is not None
        for name, picture in shown.items():
            self.tracker.image(step, f"{split}/{name}", picture)
            try:
                save_png(picture, self.directory / f"{split}_{name}.png")
            except ConfigError as error:
                self.say(str(error))

    def _write_summary(self, **changes: Any) -> None:
        """Rewrite ``summary.json`` from what is known now."""
        assert self.directory is not None
        loop = self.trainer.loop
        if loop is not None:
            best = loop.best
            self.summary["steps"] = loop.step
            self.summary["epochs"] = loop.epoch
            self.summary["seconds"] = round(loop.seconds, 3)
            self.summary["best"] = best and {key: best[key] for key in ("metric", "value", "step")}
        self.summary.update(changes)
        if not self.main:
            return
        try:
            write_json(self.directory / "summary.json", self.summary)
        except OSError as error:
            self.say(f"summary.json could not be written ({error.strerror})")


def check_fingerprint(expected: str, data: DataModule, label: str, directory: Path, remedy: str) -> None:
    """Refuse data that are not those of the run.

    Raises:
        DataError: names both checksums and what to do.
    """
    if expected != data.fingerprint:
        raise DataError(
            f"{directory.name}: the data '{label}' ({data.source}) are not those that the run was started with "
            f"(SHA-256 {expected[:12]}… then, {data.fingerprint[:12]}… now); {remedy}"
        )


def refuse_unmeasured(monitor: str | None, task: Task, data: str) -> None:
    """Refuse to watch a metric that the task has in general, and does not measure on these data.

    Raises:
        ConfigError: names those that it does.
    """
    measured = [name for name in task.metrics() if name in task.metric_directions]
    if monitor is not None and monitor.partition("/")[2] not in measured:
        raise ConfigError(
            f"trainer.monitor={monitor}: not measured on data '{data}'; measured are {', '.join(measured)}"
        )


def make_paths_absolute(config: dict[str, Any]) -> None:
    """Change every option that is a path, so that the run can be opened from another folder."""
    for group in REGISTRIES.keys() & config.keys():  # not every trainer uses all
        options = config[group]
        for name, annotation in REGISTRIES[group].signature(options["name"]).items():
            if is_path(options.get(name), annotation):
                options[name] = str(Path(options[name]).expanduser().absolute())


def derived_seed(seed: int, rank: int) -> int:
    """A seed for one process's training that is not the one of the initial weights, nor another run's."""
    return int(generator(seed, 1 + rank).initial_seed() % 2**32)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on the host or on a device."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as ``group.key``, lists as text; without nulls and without what changes no result."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if value is None or f"{prefix}{key}" in BOOKKEEPING:
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
