"""Every experiment composes, builds and trains two steps, or the one step that fits a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlcli import catalogue, experiments, train
from dlcli.config import compose
from dlcli.data.sources import SOURCES, dataset_of

NAMES = list(catalogue.entries("experiment"))
LONG = {"d2l/image_augmentation_small"}  # decodes 18,000 pictures
LONG |= {name for name, experiment in experiments.read_all().items() if experiment.needs_gpu}

SMALLER = [
    *("data.batch_size=2", "data.size=32", "trainer.max_epochs=null", "trainer.max_steps=2"),
    *("trainer.eval_every=null", "trainer.limit_eval_batches=1", "trainer.patience=null", "task.probe_per_class=5"),
]
FEDERATED = ["trainer.rounds=1", "data.min_frequency=500"]  # few words, so that encryption is quick


def test_every_file_is_an_experiment() -> None:
    assert len(NAMES) == len(list((catalogue.CONFIGS / "experiment").rglob("*.yaml"))) >= 17


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NAMES]
)
def test_an_experiment_trains_two_steps(tmp_path: Path, mirror: Path, name: str) -> None:
    config = compose([f"experiment={name}"]).config
    absent = [file.path for file in SOURCES[dataset_of(config["data"])].files if not (mirror / file.path).exists()]
    if absent:
        pytest.skip(f"the mirror has no {absent[0]}")
    stepwise = "max_steps" in config["trainer"]
    options = {text: text.partition("=")[0].partition(".") for text in SMALLER if stepwise}
    smaller = [text for text, (group, _, option) in options.items() if option in config[group]]
    if "rounds" in config["trainer"]:
        smaller += FEDERATED
    if config["model"].get("weights") == "pretrained":
        smaller.append("model.weights=null")  # there may be no network to fetch them from
    run = train([f"experiment={name}", f"run_dir={tmp_path}", *smaller])
    assert run.summary["status"] == "finished"
    if stepwise or config["trainer"]["name"] == "fit":
        assert run.summary["steps"] == (2 if stepwise else 1)
    assert run.summary["data_source"] in ("mirror", "generated", "packaged")
