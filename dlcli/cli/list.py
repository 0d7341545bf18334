"""``dlcli list``: every choice of every group, from the headers of the YAML files."""

from __future__ import annotations

from typing import Annotated

import typer

from dlcli.cli.options import AsJson, ConfigDir, Plugin, search_path

EXAMPLE = """\b
Example:
  dlcli list model "gpt*"    the models whose names begin with gpt"""


def list_choices(
    group: Annotated[str | None, typer.Argument(help="model, data, task, optimizer, …", show_default=False)] = None,
    glob: Annotated[
        str | None, typer.Argument(help="Only names that match, such as 'gpt*'.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
) -> None:
    """List what there is to choose from.

    Every model, data, task, optimizer, scheduler, trainer and experiment, with the source that describes it.
    """
    from fnmatch import fnmatchcase

    from dlcli import experiments
    from dlcli.catalogue import CONFIGS, GROUPS, entries
    from dlcli.cli.table import table
    from dlcli.errors import ConfigError, suggestion

    if group is not None and group not in GROUPS:
        raise ConfigError(f"no group '{group}'; {suggestion(group, GROUPS)}")
    directories = search_path(config_dir, plugin)
    found = [
        entry
        for name in ([group] if group else GROUPS)
        for entry in entries(name, directories).values()
        if glob is None or fnmatchcase(entry.name, glob)
    ]
    recipes = {entry.name: experiments.read(entry) for entry in found if entry.group == "experiment"}
    if as_json:
        import json

        fields = ("group", "name", "description", "source")
        records = [{**{field: getattr(entry, field) for field in fields}, "file": str(entry.file)} for entry in found]
        for record in records:
            if record["group"] == "experiment":
                record.update(recipes[record["name"]].to_json())
        print(json.dumps(records, indent=2, ensure_ascii=False))
        return
    if not found:
        matching = f" matches '{glob}'" if glob else " is there"
        raise ConfigError(f"no {group or 'choice'}{matching}; see 'dlcli list{f' {group}' if glob else ''}'")
    for number, name in enumerate(dict.fromkeys(entry.group for entry in found)):
        rows = [
            [
                "",
                entry.name + ("" if entry.file.is_relative_to(CONFIGS) else " (own)"),
                *([recipes[entry.name].summary()] if name == "experiment" else []),
                entry.description,
                entry.source,
            ]
            for entry in found
            if entry.group == name
        ]
        print(f"{chr(10) if number else ''}{name}\n{table(rows, cut=group is None)}")
