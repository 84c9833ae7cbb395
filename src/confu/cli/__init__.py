"""The command `confu`: each command is a few lines that call one function."""

import json
import os
import sys
import warnings
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.console import Console

from confu.cli import own, search
from confu.cli.plan import plan
from confu.cli.show import console, escape

START, YOURS, SEARCH, PAPER = "Start here", "Your own data", "Search", "The paper"
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Align three or more kinds of data in one embedding space by contrastive fusion (ConFu, arXiv 2511.21331).",
    epilog="Start with [bold]confu demo[/bold], or with a table of your own: [bold]confu init MANIFEST[/bold].",
)
for command in (own.init, own.check, own.train, own.evaluate, own.doctor, own.embed, own.export, own.push, plan):
    app.command(rich_help_panel=YOURS)(command)
app.command(rich_help_panel=SEARCH)(search.index)
app.command(rich_help_panel=SEARCH, context_settings=search.search_settings)(search.search)
for command in (search.serve, search.recall):
    app.command(rich_help_panel=SEARCH)(command)
# Packages add commands to this one: a function of the application, in the group `confu.commands`.
for point in entry_points(group="confu.commands"):
    point.load()(app)


def _version(show: bool) -> bool:
    if show:
        from confu import versions

        console.print(json.dumps(versions(), indent=2), highlight=False)
        raise typer.Exit
    return show


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    pass


def _format_warning(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """A warning for users is its text alone; others say where in the code they are from."""
    return f"warning: {message}\n" if category is UserWarning else _with_source(message, category, *where, **line)


_with_source = warnings.formatwarning


def main() -> None:
    """The entry point: a wrong input ends with one clear line, and with exit code 2, not with a traceback."""
    warnings.formatwarning = _format_warning
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        if os.environ.get("CONFU_TRACEBACK"):
            raise
        Console(stderr=True).print(f"[red bold]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from the last checkpoint")
        sys.exit(130)
