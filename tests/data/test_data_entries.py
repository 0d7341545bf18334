"""Every YAML of the group ``data``: its header, its keys, its suggestions."""

from __future__ import annotations

import pytest

from dlcli import catalogue
from dlcli.data.sources import SOURCES, dataset_of
from dlcli.hyperparameters import accepts
from dlcli.registry import DATA
from dlcli.spec import SIZES

ENTRIES = catalogue.entries("data")


def test_all_entries_are_here():
    assert len(ENTRIES) >= 18
    assert {entry.content()["name"] for entry in ENTRIES.values()} == set(DATA.names())
    assert {dataset_of(entry.content()) for entry in ENTRIES.values()} == set(SOURCES)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_agrees_with_its_constructor(name):
    values = ENTRIES[name].content()
    signature = DATA.signature(values.pop("name"))
    assert set(values) == set(signature)
    for key, value in values.items():
        assert value == "???" or accepts(value, signature[key]), key


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_a_header_and_static_facts(name):
    assert ENTRIES[name].description
    assert ENTRIES[name].source
    registered = ENTRIES[name].content()["name"]
    assert set(DATA.constant(registered, "provides")) <= set(SIZES)
    assert {"train", "val"} <= set(DATA.constant(registered, "splits"))
    assert DATA.constant(registered, "unit") in ("samples", "tokens")


@pytest.mark.parametrize("name", ENTRIES)
def test_suggestions_are_choices_of_groups(name):
    for item in catalogue.load_yaml(ENTRIES[name].file).get("defaults", []):
        ((key, choice),) = item.items()
        group = key.removeprefix("override /").split("@")[0]
        assert key == f"override /{group}@_global_.{group}"
        assert group in catalogue.GROUPS
        assert isinstance(choice, str)
