"""The Typer application: which verbs there are, in the order of the help.

A verb's module is light: it imports torch, Hydra, rich and the like inside its function, so that the help, a
listing and a typo cost no more than Typer itself. The help of ``dlcli`` alone is kept in ``help.txt``, which saves
Typer's import too; after a change ``python -m dlcli.cli.main`` writes it anew (a test compares).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dlcli.cli import (
    compare,
    completion,
    data,
    doctor,
    evaluate,
    export,
    gradcheck,
    predict,
    reproduce,
    runs,
    sample,
    show,
    tensorboard,
    train,
)
from dlcli.cli import list as list_verb
from dlcli.errors import ConfigError, suggestion

EXAMPLE = """\b
Example:
  dlcli list model                           what there is to choose from
  dlcli train model=lstm data=shakespeare    train it; the run is kept in runs/
  dlcli sample latest prompt="O Romeo"       see what it has learned"""


class Verbs(TyperGroup):
    """The top-level command; answers an unknown verb with the nearest one."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """The verb named by the first argument.

        Raises:
            ConfigError: there is no such verb.
        """
        name = str(args[0])
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if "=" in name:
                raise ConfigError(f"no verb '{name}'; to train with it: dlcli train {' '.join(args)}")
            raise ConfigError(f"no verb '{name}'; {suggestion(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(cls=Verbs, add_completion=False, rich_markup_mode=None, epilog=EXAMPLE, context_settings=HELP)


@app.callback()
def dlcli(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Train, compare, understand and scale deep-learning models from one small command line.

    Each verb explains itself: dlcli train --help
    """


# Verbs that train and use models.
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("eval", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("predict", epilog=predict.EXAMPLE)(predict.predict)
app.command("sample", epilog=sample.EXAMPLE)(sample.sample)
app.command("export", epilog=export.EXAMPLE)(export.export)

# Verbs that look.
app.command("list", epilog=list_verb.EXAMPLE)(list_verb.list_choices)
app.command("show", epilog=show.EXAMPLE)(show.show)
app.add_typer(runs.app, name="runs", epilog=runs.EXAMPLE)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.add_typer(data.app, name="data")
app.command("reproduce", epilog=reproduce.EXAMPLE)(reproduce.reproduce)
app.command("tensorboard", epilog=tensorboard.EXAMPLE)(tensorboard.tensorboard)
app.command("gradcheck", epilog=gradcheck.EXAMPLE)(gradcheck.gradcheck)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("completion", epilog=completion.EXAMPLE)(completion.completion)


def top_level_help() -> str:
    """What Typer prints for ``dlcli --help``, on a terminal of 80 columns."""
    command = get_command(app)
    return (
        command.get_help(typer.Context(command, info_name="dlcli", max_content_width=80, terminal_width=80, **HELP))
        + "\n"
    )


if __name__ == "__main__":
    (Path(__file__).parent / "help.txt").write_text(top_level_help(), encoding="utf-8")
