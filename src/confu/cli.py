"""The command `confu`: each command is a few lines that call one function."""

import json
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import confu

if TYPE_CHECKING:
    from confu.recipes.tables import ResultTable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Align three or more kinds of data in one embedding space by contrastive fusion (ConFu, arXiv 2511.21331).",
    epilog="Start with [bold]confu demo[/bold]: it trains on images, sounds and words and writes a page.",
)
data_app = typer.Typer(no_args_is_help=True, help="Build the data sets of the paper from their public sources.")
app.add_typer(data_app, name="data")
console = Console()


class Size(str, Enum):
    """How large an experiment is."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class Experiment(str, Enum):
    """What can be reproduced."""

    xor = "xor"
    xor_dimension = "xor-dimension"
    av_mnist = "av-mnist"


RUNS = Annotated[Path, typer.Option(help="Folder of the runs. Finished ones are reused, interrupted ones go on.")]


@app.command()
def demo(
    runs: RUNS = Path("runs"),
    seed: Annotated[int, typer.Option(help="Of the data, the weights and the order of the rows.")] = 0,
) -> None:
    """Train ConFu on small real images, sounds and words, and write one HTML page about it (two minutes)."""
    from confu.recipes.demo import run_demo

    page, table, lines = run_demo(runs, seed)
    _print_table(table)
    console.print(f"\nThe report: [bold]{page}[/bold] (one file, opens in any browser)\nNext:", highlight=False)
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True)


@app.command()
def plan(
    modalities: Annotated[list[str], typer.Argument(help="Two or more names, e.g. image audio text.")],
    kind: Annotated[
        str, typer.Option(help="confu (Eq. 7), pairwise (Eq. 3), disjoint (Eq. 15) or target (Eq. 16).")
    ] = "confu",
    fused_weight: Annotated[
        float | None,
        typer.Option(help="λ of Eq. 7, for confu (0.5 by default) and disjoint (all weights 1 by default)."),
    ] = None,
    max_order: Annotated[int | None, typer.Option(help="Most modalities in a subset, for disjoint.")] = None,
    target: Annotated[
        str | None, typer.Option(help="The modality to reach, for target; the last one by default.")
    ] = None,
) -> None:
    """Print the terms that a plan has, and what they cost, before anything is trained."""
    from confu.checks import check_known

    builders = {
        "confu": lambda: confu.confu_plan(modalities, 0.5 if fused_weight is None else fused_weight),
        "pairwise": lambda: confu.pairwise_plan(modalities),
        "disjoint": lambda: confu.disjoint_plan(modalities, max_order=max_order, fused_weight=fused_weight),
        "target": lambda: confu.target_plan(modalities, target or modalities[-1]),
    }
    check_known("kind of plan", kind, builders)
    console.print(str(builders[kind]()), highlight=False, soft_wrap=True)


@app.command()
def reproduce(
    experiment: Annotated[Experiment, typer.Argument(help="xor: Fig 3. xor-dimension: Fig 6. av-mnist: Table 1.")],
    size: Annotated[
        Size, typer.Option(help="smoke: does it run. small: for two cores. paper: the paper's own settings.")
    ] = Size.small,
    methods: Annotated[
        str | None, typer.Option(help="Names with commas, e.g. confu,tri-clip,clip. All by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method, with the seeds 0, 1, ...")] = 3,
    data: Annotated[
        Path, typer.Option(help="Folder of AV-MNIST, built by `confu data av-mnist` or MultiBench's.")
    ] = Path("data/av-mnist"),
    ps: Annotated[str | None, typer.Option("--p", help="Shares of XOR rows with commas, for xor.")] = None,
    dims: Annotated[str | None, typer.Option(help="Embedding dimensions with commas, for xor-dimension.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Train on the first rows only, for av-mnist.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the size's, for av-mnist.")] = None,
    runs: RUNS = Path("runs"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every number with its settings here.")] = None,
    progress: Annotated[bool, typer.Option(help="Draw progress bars.")] = True,
) -> None:
    """Run an experiment of the paper and print its table: ours, with the paper's value beside it.

    Killed at any moment, the same command goes on where it was. The table is also written as Markdown, and drawn.
    """
    from confu.recipes import av_mnist, xor

    seed_list = list(range(seeds))
    if experiment is Experiment.xor:
        names = _names(methods, ["confu", "tri-clip", "clip"])
        outcome = xor.reproduce_xor(size.value, names, seed_list, runs, _numbers(ps, "--p"), progress=progress)
    elif experiment is Experiment.xor_dimension:
        names = _names(methods, ["confu", "confu-released", "confu-bilinear"])
        values = _numbers(dims, "--dims")
        whole = None if values is None else [int(value) for value in values]
        outcome = xor.reproduce_xor_dimension(size.value, names, seed_list, runs, whole, progress=progress)
    else:
        names = _names(methods, [*av_mnist.METHODS, "supervised"])
        outcome = av_mnist.reproduce_av_mnist(size.value, names, seed_list, runs, data, limit, epochs, progress)
    for table in outcome.tables.values():
        _print_table(table)
    written = outcome.save(runs / "tables" / size.value)
    if json_file is not None:
        from confu.files import write_json

        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, outcome.to_dict())
        written.append(json_file)
    console.print("Written: " + ", ".join(map(str, written)), highlight=False, soft_wrap=True)


@data_app.command("av-mnist")
def data_av_mnist(
    mnist: Annotated[Path, typer.Option(help="Folder of MNIST's four IDX files, gzip or plain.")],
    speech: Annotated[Path, typer.Option(help="Folder of the Free Spoken Digit Dataset's WAV files.")],
    noise: Annotated[Path, typer.Option(help="Folder of WAV files of background sound, e.g. ESC-50's audio/.")],
    out: Annotated[Path, typer.Option(help="Folder to make; in MultiBench's layout.")] = Path("data/av-mnist"),
    snr_db: Annotated[
        float, typer.Option(help="Speech against noise, in dB; `confu data av-mnist-calibrate` finds it.")
    ] = -13.5,
    seed: Annotated[int, typer.Option(help="Of the pairing of images, recordings and noise.")] = 0,
) -> None:
    """Build AV-MNIST: weakened digits, spoken digits in noise, captions (55,000 / 5,000 / 10,000 rows)."""
    from confu.data.datasets import build_av_mnist

    build_av_mnist(mnist, speech, noise, out, snr_db, seed=seed)
    console.print(f"AV-MNIST is in {out}. Next: confu reproduce av-mnist --data {out}", highlight=False, soft_wrap=True)


@data_app.command("av-mnist-calibrate")
def data_av_mnist_calibrate(
    mnist: Annotated[Path, typer.Option(help="Folder of MNIST's four IDX files, gzip or plain.")],
    speech: Annotated[Path, typer.Option(help="Folder of the Free Spoken Digit Dataset's WAV files.")],
    noise: Annotated[Path, typer.Option(help="Folder of WAV files of background sound, e.g. ESC-50's audio/.")],
    out: Annotated[Path, typer.Option(help="Folder for the builds, the curve and its numbers.")] = Path(
        "data/calibration"
    ),
    target: Annotated[float, typer.Option(help="Published accuracy of an audio classifier, in percent.")] = 42.0,
    tolerance: Annotated[float, typer.Option(help="Stop within so many points of it.")] = 1.5,
    levels: Annotated[str, typer.Option(help="The first noise levels in dB, with commas.")] = "-12,-15",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings at each level; their mean counts.")] = 2,
    size: Annotated[Size, typer.Option(help="Whose audio encoder and training to use.")] = Size.small,
    runs: RUNS = Path("runs"),
) -> None:
    """Find the noise at which a supervised audio classifier is as good as the published one, and draw the curve."""
    from confu.recipes.calibrate import calibrate

    first = _numbers(levels, "--levels") or []
    found = calibrate(mnist, speech, noise, out, target, tolerance, first, size.value, runs, range(seeds))
    console.print(found.to_rich())
    console.print(
        f"Next: confu data av-mnist --mnist {mnist} --speech {speech} --noise {noise} --snr-db {found.snr_db:g}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _print_table(table: "ResultTable") -> None:
    console.print(f"\n[bold]{_escape(table.title)}[/bold]")
    console.print(table.to_rich())
    for note in table.notes:
        console.print(f"- {note}", highlight=False, style="dim")


def _names(text: str | None, default: Sequence[str]) -> list[str]:
    return list(default) if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, e.g. 0,0.5,1; got {text!r}") from None


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
    except ValueError as error:
        if os.environ.get("CONFU_TRACEBACK"):
            raise
        Console(stderr=True).print(f"[red bold]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from the last checkpoint")
        sys.exit(130)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
