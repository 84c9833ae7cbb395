"""The commands that run the paper: demo, reproduce, sweep, data."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from confu.cli.show import console, print_wide

if TYPE_CHECKING:
    from confu_paper.experiments.run import Outcome
    from confu_paper.experiments.tables import ResultTable


class Size(str, Enum):
    """How large an experiment is."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class Variant(str, Enum):
    """Which form of the methods is compared."""

    fair = "fair"
    as_released = "as_released"
    both = "both"


class Pairing(str, Enum):
    """How a photo, a sound and a caption of a species come together."""

    afresh = "afresh"
    fixed = "fixed"


RUNS = Annotated[Path, typer.Option(help="Folder of the runs. Finished ones are reused, interrupted ones go on.")]


def demo(
    runs: RUNS = Path("runs"),
    seed: Annotated[int, typer.Option(help="Of the data, the weights and the order of the rows.")] = 0,
) -> None:
    """Train ConFu on small real images, sounds and words, and write one HTML page about it (two minutes)."""
    from confu_paper.demo.page import run_demo

    page, table, lines = run_demo(runs, seed)
    print_table(table)
    console.print(f"\nThe report: [bold]{page}[/bold] (one file, opens in any browser)\nNext:", highlight=False)
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True)


METHODS_OPTION = Annotated[
    str | None, typer.Option(help="Names with commas, e.g. confu,tri-clip,gram. All of the variant by default.")
]
DATA = Annotated[
    Path | None, typer.Option(help="Folder of the data set's files; by default under data/, see `confu data list`.")
]
LIMIT = Annotated[int | None, typer.Option(min=2, help="Train on so many rows only.")]
EPOCHS = Annotated[int | None, typer.Option(min=1, help="Instead of the size's.")]
JSON_FILE = Annotated[Path | None, typer.Option("--json", help="Write every number with its settings here.")]
PROGRESS = Annotated[bool, typer.Option(help="Draw progress bars.")]


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="table1 to table9, fig3 to fig13, or list: what each is, on which data, and whether it runs. Also xor "
            "(fig3), xor-dimension (fig6), av-mnist (table1), and what the paper has not: corruptions, gaps, "
            "false-negatives."
        ),
    ],
    size: Annotated[
        Size, typer.Option(help="smoke: does it run. small: for two cores. paper: the paper's own settings.")
    ] = Size.small,
    methods: METHODS_OPTION = None,
    variant: Annotated[
        Variant, typer.Option(help="fair: all trained alike. as_released: as the paper's code trains its baselines.")
    ] = Variant.fair,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method, with the seeds 0, 1, ...")] = 3,
    on: Annotated[
        str | None, typer.Option(help="Data set, if not all of the paper's that are there: ssw60, mosi, av-mnist, ...")
    ] = None,
    data: DATA = None,
    train_data: Annotated[
        Path | None, typer.Option(help="Folder of Bird-MML, that the models of birds are trained on; data/bird-mml.")
    ] = None,
    pairing: Annotated[
        Pairing | None,
        typer.Option(help="Of Bird-MML's triplets: afresh by species in every batch (default), or fixed."),
    ] = None,
    ps: Annotated[str | None, typer.Option("--p", help="Shares of XOR rows with commas, for xor.")] = None,
    dims: Annotated[str | None, typer.Option(help="Embedding dimensions with commas, for xor-dimension.")] = None,
    snr: Annotated[
        str, typer.Option(help="Noise levels in dB with commas, for table6 and table9 on av-mnist.")
    ] = "20,15,10",
    shares: Annotated[
        str | None, typer.Option(help="Shares of training rows that lack a modality, with commas, for gaps.")
    ] = None,
    limit: LIMIT = None,
    epochs: EPOCHS = None,
    runs: RUNS = Path("runs"),
    json_file: JSON_FILE = None,
    progress: PROGRESS = True,
) -> None:
    """Run a table or a figure of the paper: ours, with the paper's value beside it.

    Killed at any moment, the same command goes on where it was; finished runs are shared by all tables. Each table is
    also written as Markdown, LaTeX and CSV, and drawn as PNG and SVG.
    """
    if name == "list":
        from confu_paper.experiments.paper_index import index_table

        print_wide(index_table())
        return
    from confu_paper.experiments import paper
    from confu_paper.experiments.benchmark import Request

    whole = numbers(dims, "--dims")
    request = Request(
        size=size.value,
        methods=None if methods is None else names(methods),
        variant=variant.value,
        seeds=range(seeds),
        runs=runs,
        data=data,
        train_data=train_data,
        pairing=None if pairing is None else pairing.value,
        on=on,
        limit=limit,
        epochs=epochs,
        ps=numbers(ps, "--p"),
        dims=None if whole is None else [int(value) for value in whole],
        snr_db=numbers(snr, "--snr") or (),
        shares=numbers(shares, "--shares"),
        progress=progress,
    )
    _finish(paper.reproduce(name, request), runs / "tables" / size.value, json_file)


def sweep(
    on: Annotated[str, typer.Argument(help="The recipe, e.g. xor, av-mnist, mosi; or a run file.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting and its values: fused_weight=0.1,0.5. May be repeated.")
    ] = None,
    searched: Annotated[
        list[str] | None,
        typer.Option("--search", help="A setting to search with Optuna: lr=log:1e-4:1e-2, fusion_dim=128|512."),
    ] = None,
    method: Annotated[str, typer.Option(help="Whose settings: confu, gram, ...")] = "confu",
    trials: Annotated[int, typer.Option(min=1, help="Finished trials of a search, in all.")] = 20,
    objective: Annotated[
        str | None, typer.Option(help="Validation number that chooses; by default the accuracy of the fused query.")
    ] = None,
    size: Annotated[Size, typer.Option(help="smoke, small or paper.")] = Size.small,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each point, with the seeds 0, 1, ...")] = 1,
    data: DATA = None,
    ps: Annotated[str | None, typer.Option("--p", help="Share of XOR rows, for xor.")] = None,
    limit: LIMIT = None,
    epochs: EPOCHS = None,
    runs: RUNS = Path("runs"),
    json_file: JSON_FILE = None,
    progress: PROGRESS = True,
) -> None:
    """Try settings: a grid with --set, or a search with --search; the choice is made on validation rows.

    Of a run file, with --set only: `confu sweep run.yaml --set train.lr=1e-3,1e-4`; the lowest validation loss is
    marked, and losses of different temperatures or batch sizes cannot be compared. With `train.select: retrieval` the
    highest mean reciprocal rank is marked, and they can.

    Settings of a recipe are fused_weight (λ), mask_ratio, dim, fusion_depth, fusion_dim, lr, temperature,
    temperature_lr, epochs, batch_size, weight_decay and warmup_steps. Finished runs are reused, and a killed sweep goes
    on.
    """
    if on.endswith((".yaml", ".yml")):
        from confu.runs import sweep as sweep_run_file

        if searched:
            raise ValueError("--search tries settings of a recipe; of a run file give values with --set")
        print_wide(sweep_run_file(on, _grid(settings or []), progress=progress).to_rich())
        return
    from confu_paper.experiments.benchmark import Request
    from confu_paper.sweeps.command import Changes, tune

    request = Request(
        size=size.value,
        seeds=range(seeds),
        runs=runs,
        data=data,
        ps=numbers(ps, "--p"),
        limit=limit,
        epochs=epochs,
        progress=progress,
    )
    changes = Changes(method, settings or [], searched or [], trials, objective)
    outcome = tune(on, changes, request)
    _finish(outcome, runs / "tables" / size.value, json_file)


def print_table(table: "ResultTable") -> None:
    """A table with its title, and its notes below."""
    console.print(f"\n[bold]{escape(table.title)}[/bold]")
    print_wide(table.to_rich())
    for note in table.notes:
        console.print(f"- {note}", highlight=False, style="dim", soft_wrap=True)


def _finish(outcome: "Outcome", folder: Path, json_file: Path | None) -> None:
    """Show the tables of an outcome, and write them and their figures."""
    for table in outcome.tables.values():
        print_table(table)
    written = outcome.save(folder)
    if json_file is not None:
        from confu.files import write_json

        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, outcome.to_dict())
        written.append(json_file)
    console.print("Written: " + ", ".join(map(str, written)), highlight=False, soft_wrap=True)


def names(text: str) -> list[str]:
    """The names of an option's text, which stand between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str | None, option: str) -> list[float] | None:
    """The numbers of an option's text, None without one."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, e.g. 0,0.5,1; got {text!r}") from None


def _grid(settings: list[str]) -> dict[str, list[str]]:
    pairs = [text.partition("=") for text in settings]
    if wrong := [text for text, (name, _, values) in zip(settings, pairs) if not (name and values)]:
        raise ValueError(f"--set takes NAME=VALUE,VALUE, e.g. train.lr=1e-3,1e-4; got {wrong[0]!r}")
    return {name.strip(): [value.strip() for value in values.split(",")] for name, _, values in pairs}


def register(app: typer.Typer) -> None:
    """Add the commands to `confu`."""
    from confu_paper import data_commands

    app.command(rich_help_panel="Start here")(demo)
    for command in (reproduce, sweep):
        app.command(rich_help_panel="The paper")(command)
    app.add_typer(data_commands.app, name="data", rich_help_panel="The paper")
