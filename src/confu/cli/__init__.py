"""The command `confu`: each command is a few lines that call one function."""

import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

import confu
from confu.cli import data, own, paper, search
from confu.cli.show import console, escape

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Align three or more kinds of data in one embedding space by contrastive fusion (ConFu, arXiv 2511.21331).",
    epilog="Start with [bold]confu demo[/bold], or with a table of your own: [bold]confu init MANIFEST[/bold].",
)
START, YOURS, SEARCH, PAPER = "Start here", "Your own data", "Search", "The paper"
app.command(rich_help_panel=START)(paper.demo)
for command in (own.init, own.check, own.train, own.evaluate, own.embed, own.export, own.push):
    app.command(rich_help_panel=YOURS)(command)
app.command(rich_help_panel=SEARCH)(search.index)
app.command(rich_help_panel=SEARCH, context_settings=search.search_settings)(search.search)
for command in (search.serve, search.recall):
    app.command(rich_help_panel=SEARCH)(command)
for command in (paper.reproduce, paper.sweep, paper.plan):
    app.command(rich_help_panel=PAPER)(command)
app.add_typer(data.app, name="data", rich_help_panel=PAPER)


def _version(show: bool) -> bool:
    if show:
        console.print(json.dumps(confu.versions(), indent=2), highlight=False)
        raise typer.Exit
    return show


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: a wrong input ends with one clear line, and with exit code 2, not with a traceback."""
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
