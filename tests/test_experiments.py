"""Every experiment composes, builds and trains two steps, or the one step that fits a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlcli import catalogue, train
from dlcli.config import compose

NAMES = list(catalogue.entries("experiment"))


SMALLER = [
    *("data.batch_size=2", "trainer.max_epochs=null", "trainer.max_steps=2"),
    *("trainer.eval_every=null", "trainer.limit_eval_batches=1", "trainer.patience=null"),
]


def test_every_file_is_an_experiment() -> None:
    assert len(NAMES) == len(list((catalogue.CONFIGS / "experiment").rglob("*.yaml"))) >= 17


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_trains_two_steps(tmp_path: Path, name: str) -> None:
    config = compose([f"experiment={name}"]).config
    stepwise = "max_steps" in config["trainer"]
    options = {text: text.partition("=")[0].partition(".") for text in SMALLER if stepwise}
    smaller = [text for text, (group, _, option) in options.items() if option in config[group]]
    run = train([f"experiment={name}", f"run_dir={tmp_path}", *smaller])
    assert run.summary["status"] == "finished"
    assert run.summary["steps"] == (2 if stepwise else 1)
    assert run.summary["data_source"] in ("mirror", "generated", "packaged")
