"""Saved runs: opened for evaluation, sampling and the Python API."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcli import runtime
from dlcli.catalogue import load_yaml
from dlcli.check import EVALUATED, check
from dlcli.config import change_group_values, fill_missing, refuse_rebuilt
from dlcli.data.base import DataModule
from dlcli.data.vocabulary import Vocabulary
from dlcli.errors import ConfigError, DataError
from dlcli.functional.pictures import save_png
from dlcli.functional.target_scale import TargetScale
from dlcli.judging_classifier import judging_classifier
from dlcli.progress import Progress
from dlcli.registry import DATA, TASKS
from dlcli.run import check_fingerprint
from dlcli.run_records import read_json
from dlcli.saved_model import load_state, restored_model, spec_from
from dlcli.scratch import layers_of
from dlcli.tasks.base import Task
from dlcli.trainers.evaluation import converted, evaluate, pictures, scalars


class SavedRun:
    """A run folder with its configuration, its model with the saved weights, its task, and (when asked for) its data.

    Attributes:
        directory: the run's folder. config: its resolved configuration. model: in evaluation mode, on ``device``.
        task: bound to the run's vocabulary or label names. step: optimizer steps behind the weights.
    """

    def __init__(
        self,
        directory: Path,
        *,
        which: str = "best",
        overrides: Sequence[str] = (),
        directories: Sequence[Path] = (),
        device: str = "auto",
    ):
        """
        Args:
            directory: a run's folder.
            which: "best", "last", or the path of a checkpoint. A run without a best one falls back to its last.
            overrides: ``group=choice`` recomposes that group, ``group.key=value`` changes one option.
            directories: folders of people's own YAML files.
            device: "auto", "cpu", "cuda" or "mps".

        Raises:
            ConfigError: overrides that do not fit the run, or an entry of a plug-in that was not named.
            DataError: a missing or damaged file, or weights of another model.
        """
        self.directory = directory
        self.record = read_json(directory / "spec.json")
        saved = load_yaml(directory / "config.yaml")
        if not isinstance(saved, dict):
            raise DataError(f"{directory / 'config.yaml'}: not the configuration of a run")
        self.config, changed = change_group_values(saved, overrides, directories)
        self.choices: dict[str, str | None] = {**self.record["choices"], **changed}
        refuse_rebuilt(self.config, self.choices, directories, EVALUATED)
        self.saved_data: dict[str, Any] = saved.get("data", {})
        ignored = {"batch_size", *DATA.constant(self.config["data"]["name"], "measuring_only", ())}  # change no example
        self.changed = {k: v for k, v in self.config["data"].items() if k not in ignored} != {
            k: v for k, v in self.saved_data.items() if k not in ignored
        }
        fill_missing(self.config, self.choices, directories)
        problems = check(self.config, self.choices, list(directories), EVALUATED)
        if problems:
            raise ConfigError(problems + self._plugin_hint(problems))
        self.spec = spec_from(self.record["sizes"])
        self.device = runtime.resolve_device(device)
        state, self.which = load_state(directory, which)
        if state.get("fingerprint") != self.record["fingerprint"]:
            raise DataError(
                f"{which}: the checkpoint of a run on other data than {directory.name}; name one of this run"
            )
        self.step = int(state["loop"]["step"])
        self.model = restored_model(directory.name, self.config, self.choices, self.spec, state, self.device)
        self.task: Task = TASKS.build(self.config["task"], spec=self.spec, label=str(self.choices["data"]))
        self.task.seed = self.config["seed"]
        scale = self.preprocessing.get("target_scale")
        self.task.target_scale = TargetScale(*scale) if scale else None
        self.task.bind(self.spec, self.vocabulary, self.record["label_names"])

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens of the text that the run learned, or None."""
        file = self.directory / "vocabulary.json"
        return Vocabulary.from_json(read_json(file)) if file.exists() else None

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """What is needed to prepare other inputs as the run's data were prepared."""
        file = self.directory / "preprocessing.json"
        kept = read_json(file) if file.exists() else {}
        vocabulary = self.vocabulary.to_json() if self.vocabulary is not None else None
        return {"vocabulary": vocabulary, "label_names": self.record["label_names"], **kept}

    @cached_property
    def data(self) -> DataModule:
        """The run's data, or those named by an override; they must define the sizes that the model was built for."""
        known = [] if self.vocabulary is None else [self.vocabulary]  # another text is read with the model's tokens
        data: DataModule = DATA.build(self.config["data"], *known)
        if data.fingerprint != self.record["fingerprint"] and (self.directory / "preprocessing.json").exists():
            data.adopt(self.preprocessing)
        for size, value in data.spec.defined().items():
            built_for = getattr(self.spec, size)
            if size != "sequence_length" and built_for is not None and value != built_for:
                raise ConfigError(
                    f"data '{self.choices['data']}' has {size} {value}, but the run's model was built for {built_for}"
                )
        label = str(self.choices["data"])
        if not self.changed:
            remedy = "name the data to evaluate on, for example data=…"
            check_fingerprint(self.record["fingerprint"], data, label, self.directory, remedy)
        elif self.record["fingerprint"] == data.fingerprint and self.config["data"]["name"] == self.saved_data["name"]:
            logging.getLogger("dlcli").warning(
                "these are the run's own data with other options: examples that it was trained on may be among them"
            )
        elif data.label_names and self.record["label_names"] and list(data.label_names) != self.record["label_names"]:
            raise ConfigError(f"data '{label}' has other classes than those that the run has learned")
        data.to(self.device)
        self.task.paired = data.paired = data.augmenting and self.task.views != "none"
        self.task.true_parameters = data.true_parameters
        return data

    def evaluate(self, split: str, pictures_to: Path | None = None, *, quiet: bool = True) -> dict[str, float]:
        """Scalar metrics of the weights over a split.

        Args:
            split: train, val or test.
            pictures_to: a folder for those that are pictures, such as the confusion matrix; None to leave them out.
            quiet: show nothing; else a bar on a terminal, where it takes long.

        Raises:
            ConfigError: the data have no such split, or nothing is measured on it.
        """
        if split not in self.data.splits:
            raise ConfigError(f"--split {split}: data '{self.choices['data']}' has {', '.join(self.data.splits)}")
        if split == "train" and self.data.paired:
            raise ConfigError(
                f"--split train: task '{self.config['task']['name']}' measures changes of pictures, and those of "
                "training are not changed when they are measured; use val or test"
            )
        self.task.classifier = judging_classifier(
            self.config, self.directory.parent, self.data.spec, self.data.fingerprint, self.device
        )
        precision = self.config["trainer"].get("precision", "fp32")
        with layers_of(self.config["layers"]):
            measured = evaluate(
                *(self.task, self.model, {"model": self.model}, self.data, split),
                autocast=runtime.autocast(precision, self.device),
                dtype=runtime.input_dtype(precision),
                watch=Progress(quiet=quiet, unit=self.data.unit).measuring,
            )
        if pictures_to is not None:
            for name, picture in pictures(measured).items():
                save_png(picture, pictures_to / f"{split}_{name}.png")
        return scalars(measured)

    def sample(self, values: Mapping[str, Any]) -> Iterator[Any]:
        """What the run's model generates with the options of its task's ``sample``, in pieces as they come."""
        split = self.task.sample_split
        given = [] if split is None else [self.data.batches(split, order="sequential")[0]]
        pieces: Iterator[Any] = self.task.sample(self.model, *given, **values)  # type: ignore[attr-defined]
        return pieces

    def predictions(self, path: Path) -> Predictions:
        """The model's predictions for the inputs in a file or folder.

        Raises:
            ConfigError: the run's task or data do not offer predictions. DataError: the inputs cannot be read.
        """
        return Predictions([self], path)

    def prepared(self, batch: Any) -> Any:
        """A batch on the run's device, in its precision."""
        moved = [value.to(self.device) if isinstance(value, Tensor) else value for value in batch]
        return converted(type(batch)(*moved), runtime.input_dtype(self.config["trainer"].get("precision", "fp32")))

    def _plugin_hint(self, problems: list[str]) -> list[str]:
        plugins = self.record["plugins"]
        if plugins and any("is not registered" in problem for problem in problems):
            return [f"run {self.directory.name} was trained with {' '.join(f'--plugin {name}' for name in plugins)}"]
        return []


class Predictions:
    """Rows for people, one batch after another: iterates over ``{column: values}``, the first column says which input
    it is. Afterwards ``notes`` holds lines that people should see.

    Several runs, such as the folds of a cross-validation, predict together: the mean of their numbers, or of their
    probabilities. Each prepares the inputs as its own data were prepared.
    """

    def __init__(self, runs: Sequence[SavedRun], path: Path):
        """
        Raises:
            ConfigError: runs whose predictions cannot be made or averaged. DataError: the inputs cannot be read.
        """
        self.runs = runs
        first = runs[0]
        self.data: type[DataModule] = DATA.load(first.config["data"]["name"])
        if len(runs) > 1 and not hasattr(first.task, "rows_of"):
            raise ConfigError(f"the predictions of task '{first.config['task']['name']}' have no mean; name one run")
        for run in runs:
            if (run.config["task"]["name"], run.spec.num_outputs, run.record["label_names"]) != (
                *(first.config["task"]["name"], first.spec.num_outputs, first.record["label_names"]),
            ):
                raise ConfigError(
                    f"{run.directory.name} predicts something else than {first.directory.name}; name one run"
                )
        self.inputs = [self.data.prediction_inputs(path, run.preprocessing) for run in runs]

    def __iter__(self) -> Iterator[dict[str, list[Any]]]:
        first = self.runs[0]
        for parts in zip(*self.inputs, strict=True):
            identities = parts[0][0]
            batches = [run.prepared(batch) for run, (_, batch) in zip(self.runs, parts, strict=True)]
            if len(self.runs) == 1:
                columns = first.task.prediction_rows(first.model, batches[0])
            else:
                predicted = [run.task.predict(run.model, batch) for run, batch in zip(self.runs, batches, strict=True)]  # type: ignore[attr-defined]
                columns = first.task.rows_of(torch.stack(predicted).mean(0))  # type: ignore[attr-defined]
            yield {self.inputs[0].identity: identities, **self.inputs[0].written(columns)}

    @property
    def notes(self) -> list[str]:
        """What was strange about the inputs that have been read. Of the notes about one thing, which differ from run to
        run as each knows other rows, the first."""
        first: dict[str, str] = {}
        for about, note in (item for inputs in self.inputs for item in inputs.notes.items()):
            first.setdefault(about, note)
        return list(first.values())
