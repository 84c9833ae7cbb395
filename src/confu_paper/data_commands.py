"""The commands that build the data sets of the paper, or say where they are: `confu data ...`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from confu.cli.show import console, print_wide
from confu_paper.commands import PROGRESS, RUNS, Size, names, numbers

app = typer.Typer(no_args_is_help=True, help="Build the data sets of the paper, and see which are there.")


@app.command("list")
def data_list(
    name: Annotated[str | None, typer.Argument(help="One data set, for all that is known of it.")] = None,
    data: Annotated[Path, typer.Option(help="Folder that holds a folder for each data set.")] = Path("data"),
    checksums: Annotated[
        bool, typer.Option(help="Compare downloads with their published checksums: minutes for 31 GB.")
    ] = False,
) -> None:
    """What each data set is, where it comes from, its licence and size, and whether its files are there and whole."""
    from confu_paper.datasets.registry import about_data_set, data_sets_table

    if name is None:
        print_wide(data_sets_table(data, checksums))
        return
    console.print(about_data_set(name, data, checksums), highlight=False, markup=False, soft_wrap=True)


@app.command("affect")
def data_affect(
    pickle: Annotated[Path, typer.Argument(help="MultiBench's file: mosi_data.pkl, humor.pkl, sarcasm.pkl, ...")],
    name: Annotated[str, typer.Option(help="Which data set it is: mosi, ur-funny, mustard or mosei.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.parquet, and NAME.json with what was changed.")] = Path(
        "data/affect"
    ),
    progress: PROGRESS = True,
) -> None:
    """Turn a pickle of affect data into a table, once; nothing in the pickle is run.

    As in MultiBench, rows without text are dropped, leading steps without a word are stripped, and 50 steps kept. Minus
    infinity becomes the least value of its feature; what is broken is missing. What was changed is counted.
    """
    from confu_paper.datasets.affect_build import build_affect

    file = build_affect(pickle, name, out, progress)
    console.print(f"{file}. Next: confu reproduce table2 --on {name}", highlight=False, soft_wrap=True)


@app.command("bird-mml")
def data_bird_mml(
    taxa: Annotated[Path, typer.Option(help="List of species: a text file with a scientific name a line, or a csv.")],
    out: Annotated[Path, typer.Option(help="Folder of the collection; the same one goes on.")] = Path("data/bird-mml"),
    per_species: Annotated[int, typer.Option(min=1, help="Photos, and so most rows, of each species.")] = 1000,
    summaries: Annotated[int, typer.Option(min=1, help="Summaries of each species' article.")] = 100,
    contact: Annotated[
        str | None, typer.Option(help="Your e-mail address or web page, which the sources are told.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Some steps with commas, e.g. photos,recordings; all by default.")
    ] = None,
    image_model: Annotated[
        str | None, typer.Option(help="InstructBLIP: hub id or folder; the paper's by default.")
    ] = None,
    language_model: Annotated[str | None, typer.Option(help="Hub id or folder; the paper's by default.")] = None,
    device: Annotated[str | None, typer.Option(help="Of the models: cuda, cpu; a GPU if there is one.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos or prompts at a time.")] = 16,
    photo_size: Annotated[str, typer.Option(help="small, medium (500 pixels), large or original.")] = "medium",
    name: Annotated[str, typer.Option(help="Of the data set, on its card.")] = "Bird-MML",
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    show: Annotated[bool, typer.Option("--show", help="Only say what is done.")] = False,
    progress: PROGRESS = True,
) -> None:
    """Build a set of photos, sounds and captions of any species, as the paper built Bird-MML.

    Each step keeps what it has finished: stop it whenever you like, the same command goes on. The steps taxa, photos,
    recordings, clips and sections need a network; image_captions, summaries, captions and manifest want a GPU.
    Recordings need your key of xeno-canto in the environment variable XENO_CANTO_KEY.
    """
    from confu_paper.collecting.bird_mml import collect_bird_mml, done_table
    from confu_paper.collecting.collection import Collection, Models

    print_wide(done_table(out))
    if show:
        return
    usual = Models()
    collection = Collection(
        taxa_file=taxa,
        out=out,
        per_species=per_species,
        summaries=summaries,
        seed=seed,
        name=name,
        key=os.environ.get("XENO_CANTO_KEY"),
        contact=contact,
        photo_size=photo_size,
        models=Models(image_model or usual.image, language_model or usual.language, device, batch_size),
        progress=progress,
    )
    file = collect_bird_mml(collection, None if steps is None else names(steps))
    print_wide(done_table(out))
    if file.is_file():
        console.print(f"Next: confu init {file} --columns photo_file,audio_file,combined_caption", soft_wrap=True)


@app.command("av-mnist")
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
    from confu_paper.datasets import build_av_mnist

    build_av_mnist(mnist, speech, noise, out, snr_db, seed=seed)
    console.print(f"AV-MNIST is in {out}. Next: confu reproduce av-mnist --data {out}", highlight=False, soft_wrap=True)


@app.command("av-mnist-calibrate")
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
    from confu_paper.experiments.benchmark import Request
    from confu_paper.experiments.calibrate import calibrate

    first = numbers(levels, "--levels") or []
    sources = {"mnist": mnist, "speech": speech, "noise": noise}
    request = Request(size=size.value, seeds=range(seeds), runs=runs)
    calibration = calibrate(sources, out, first, request, target, tolerance)
    console.print(calibration.to_rich())
    console.print(
        f"Next: confu data av-mnist --mnist {mnist} --speech {speech} --noise {noise} --snr-db {calibration.snr_db:g}",
        highlight=False,
        soft_wrap=True,
    )
