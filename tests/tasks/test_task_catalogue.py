"""The contract of every entry of the group "task": YAML, constructor, metrics."""

import pytest

from dlcli import catalogue
from dlcli.hyperparameters import accepts
from dlcli.registry import TASKS
from dlcli.spec import SIZES, DataSpec
from dlcli.tasks.base import Task

ENTRIES = catalogue.entries("task")
SPEC = DataSpec(
    input_shape=(3, 8, 8),
    num_outputs=7,
    num_classes=7,  # more than top_k_accuracy looks at
    num_targets=4,
    vocab_size=4,
    sequence_length=8,
    num_states=4,
    num_actions=4,
)


def test_the_entries_are_found() -> None:
    assert {"classification", "language_modeling", "regression"} <= set(ENTRIES)
    assert {entry.content()["name"] for entry in ENTRIES.values()} == set(TASKS.names())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_file_says_what_it_is_and_has_every_option(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.description
    assert entry.source
    content = entry.content()
    signature = TASKS.signature(content["name"])
    assert set(content) - {"name"} | (set(signature) & set(SIZES)) == set(signature)
    for key, annotation in signature.items():
        assert accepts(content[key], annotation), key


@pytest.mark.parametrize("name", ENTRIES)
def test_metrics_have_directions_and_sizes_are_known(name: str) -> None:
    config = ENTRIES[name].content()
    task = TASKS.build(config, spec=SPEC, label="data")
    assert isinstance(task, Task)
    task.bind(SPEC, None, None)
    directions = TASKS.constant(config["name"], "metric_directions")
    assert directions == task.metric_directions
    assert set(directions.values()) <= {"min", "max"}
    assert "loss" in directions or name in ("control", "gan")  # measured by returns, and by distances
    assert set(directions) <= set(task.metrics())
    assert set(TASKS.constant(config["name"], "requires")) <= set(SIZES)
