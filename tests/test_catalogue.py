"""Contracts over every entry of every group: a new entry is tested without a new test file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlcli import catalogue, experiments
from dlcli.check import group_problems
from dlcli.config import compose
from dlcli.registry import DATA, REGISTRIES
from dlcli.spec import SIZES

FILES = sorted(file for group in REGISTRIES for file in (catalogue.CONFIGS / group).rglob("*.yaml"))
EXPERIMENTS = sorted((catalogue.CONFIGS / "experiment").rglob("*.yaml"))


def name_of(file: Path) -> str:
    return file.relative_to(catalogue.CONFIGS).with_suffix("").as_posix()


def test_all_files_are_found() -> None:
    assert len(FILES) >= 45
    assert len(EXPERIMENTS) >= 2
    assert {file.parent.name for file in FILES} == set(REGISTRIES)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_keys_and_sizes_are_the_constructor(file: Path) -> None:
    group = file.parent.name
    content = catalogue.load_yaml(file)
    content.pop("defaults", None)
    signature = REGISTRIES[group].signature(content["name"])
    keys = set(content) - {"name"}
    sizes = set() if group == DATA.group else {key for key in signature if key in SIZES}
    assert keys | sizes == set(signature)
    assert not keys & sizes


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_values_have_the_types_of_the_constructor(file: Path) -> None:
    content = catalogue.load_yaml(file)
    content.pop("defaults", None)
    problems = group_problems(file.parent.name, content)
    assert [problem for problem in problems if "must be given" not in problem] == []


@pytest.mark.parametrize("file", [*FILES, *EXPERIMENTS], ids=name_of)
def test_the_header_says_what_it_is_and_where_it_comes_from(file: Path) -> None:
    lines = catalogue.header(file)
    assert len(lines) >= 2
    assert 10 <= len(lines[0]) <= 130
    assert any(line.startswith("Source: ") for line in lines)


@pytest.mark.parametrize("name", list(catalogue.entries("experiment")))
def test_an_experiment_says_its_command_its_minutes_and_what_to_expect(name: str) -> None:
    entry = catalogue.entries("experiment")[name]
    found = experiments.read(entry)
    begin = f"dlcli train experiment={name}"
    if found.sweep:
        begin = f"dlcli train -m experiment={name} '{found.sweep}'"
    assert f"{found.command} ".startswith(f"{begin} ")
    assert found.source
    assert found.minutes is not None
    assert found.expect
    assert entry.file.read_text().splitlines()[0] == "# @package _global_"
    if "/" in name:
        assert found.book == {"dlfs": "DLFS", "gdl": "GDL"}.get(name.split("/")[0], name.split("/")[0])
    keys = [
        line.partition(":")[0] for line in catalogue.header(entry.file)[1:] if re.match(r"[A-Z][A-Za-z ]{,20}:", line)
    ]
    assert set(keys) <= set(experiments.KEYS)


@pytest.mark.parametrize("group", list(REGISTRIES))
def test_every_registered_name_has_a_file(group: str) -> None:
    named = {entry.content()["name"] for entry in catalogue.entries(group).values()}
    assert named == set(REGISTRIES[group].names())


@pytest.mark.parametrize("data", list(catalogue.entries("data")))
def test_what_the_data_suggest_composes(tmp_path: Path, data: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text("size,price\n" + "".join(f"{row},{2 * row + row % 3}\n" for row in range(30)))
    answers = {"path": table, "labels": table, "target": "price"}
    missing = [key for key, value in catalogue.entries("data")[data].content().items() if value == "???"]
    composed = compose([f"data={data}", *(f"data.{key}={answers[key]}" for key in missing)])
    assert composed.choices["data"] == data


SUGGESTING = {name: entry for name, entry in catalogue.entries("model").items() if entry.suggests}


@pytest.mark.parametrize("model", SUGGESTING)
def test_what_a_model_suggests_are_choices(model: str) -> None:
    for choice in SUGGESTING[model].suggests:
        group, _, name = choice.partition("=")
        assert group in ("task", "optimizer", "scheduler", "trainer")
        assert name in catalogue.entries(group)


def test_every_option_of_a_file_with_a_default_that_is_not_obvious_is_explained() -> None:
    """Of all options, most carry a comment: the YAML files are the reference manual."""
    options = comments = 0
    for file in FILES:
        for line in file.read_text().splitlines():
            if re.match(r"[a-z_]+: ", line) and not line.startswith("name:"):
                options += 1
                comments += "#" in line
    assert comments >= 0.6 * options
