"""``dlcli gradcheck``: analytic gradients against numeric ones, of what is written by hand and of models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dlcli.cli.options import AsJson, ConfigDir, Plugin, search_path

EXAMPLE = """\b
Examples:
  dlcli gradcheck            every hand-written layer and every model
  dlcli gradcheck "lstm*"    those whose names begin with lstm; exit code 1 if one fails"""


def gradcheck(
    glob: Annotated[str, typer.Argument(help="Only names that match, such as 'conv*'.", show_default=False)] = "*",
    as_json: AsJson = False,
    config_dir: ConfigDir = None,
    plugin: Plugin = None,
) -> None:
    """Check gradients against finite differences, in double precision.

    Each operation of the autograd on NumPy and each hand-written layer, element by element; each model on
    hand-written layers (layers=scratch), along random directions of all parameters and of single ones. Large models
    are made small: fewer layers and channels of the same kinds. Exit code 1 if one fails or nothing could be checked.
    """
    from fnmatch import fnmatchcase

    from dlcli.catalogue import entries
    from dlcli.cli.table import table
    from dlcli.errors import ConfigError
    from dlcli.registry import MODELS
    from dlcli.runtime import prepare_environment

    directories = search_path(config_dir, plugin)
    configs = {entry.name: entry.content() for entry in entries("model", directories).values()}
    models = {
        name: config
        for name, config in configs.items()
        if fnmatchcase(name, glob) and not MODELS.has_method(config["name"], "fit")  # what is fitted has no gradient
    }
    prepare_environment()
    from dlcli import gradcheck as checks
    from dlcli.scratch.autograd_examples import OPERATIONS
    from dlcli.scratch.examples import EXAMPLES

    layers = {name: example for name, example in EXAMPLES.items() if fnmatchcase(name, glob)}
    operations = {name: operation for name, operation in OPERATIONS.items() if fnmatchcase(name, glob)}
    if not operations and not layers and not models:
        raise ConfigError(f"no operation, no hand-written layer and no model that learns by gradient matches '{glob}'")
    findings = [checks.check_operation(name, *operation) for name, operation in operations.items()]
    findings += [checks.check_function(name, example) for name, example in layers.items()]
    unchecked: dict[str, str] = {}
    for name, config in models.items():
        try:
            findings.append(checks.check_model(name, config))
        except ConfigError as error:
            unchecked[name] = str(error)
    failed = sum(not finding.passed for finding in findings)
    if as_json:
        import json

        records = [_record(finding, checks.TOLERANCES) for finding in findings]
        records += [{"kind": "model", "name": name, "unchecked": reason} for name, reason in unchecked.items()]
        print(json.dumps(records, indent=2))
    else:
        rows = [(f.kind, f.name, f"{f.error:.1e}", "ok" if f.passed else "FAILED") for f in findings]
        rows += [("model", name, "-", "not checked") for name in unchecked]
        print(table(rows, ("kind", "name", "largest relative error", "verdict"), right=[2]))
        print(f"\n{len(findings)} checked, {failed} failed")
    for name, reason in unchecked.items():
        typer.echo(f"note: {name} is not checked: {reason}", err=True)
    if failed or not findings:
        raise typer.Exit(1)


def _record(finding: Any, tolerances: dict[str, float]) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "name": finding.name,
        "largest_relative_error": finding.error,
        "tolerance": tolerances[finding.kind],
        "passed": finding.passed,
    }
