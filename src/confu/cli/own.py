"""The commands for one's own data: from a table to a trained model, its report and its embeddings."""

import os
from pathlib import Path
from typing import Annotated

import typer

from confu.cli.show import console, print_wide

MANIFEST = Annotated[
    str,
    typer.Argument(
        help="A table of samples: .parquet, .jsonl, .csv, a folder of class folders or a WebDataset .tar; a path, or "
        "any address that fsspec opens.",
        show_default=False,
    ),
]
RUN = Annotated[str, typer.Argument(help="The run folder, or a model folder.", show_default=False)]
OUTSIDE = Annotated[bool, typer.Option(help="Follow paths that leave the manifest's folder.")]
CUSTOM = Annotated[bool, typer.Option(help="Run the encoder functions that the model names. Only if you trust it.")]
PROGRESS = Annotated[bool, typer.Option(help="Draw progress bars.")]


def init(
    manifest: MANIFEST,
    out: Annotated[Path, typer.Option(help="The run file to write.")] = Path("run.yaml"),
    columns: Annotated[
        str | None, typer.Option(help="The columns to use, with commas; all that seem to hold a modality by default.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="The run folder; runs/ and the manifest's name by default.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option(help="Propose pretrained encoders where there are some, frozen: their features are cached.")
    ] = False,
    dim: Annotated[int, typer.Option(min=1, help="Size of an embedding.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the split and the order of the rows.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the run file if it is there.")] = False,
    allow_outside: OUTSIDE = False,
) -> None:
    """Look at a table and write a commented run file for it: columns, encoders, plan, split.

    Shows what each column seems to be, how complete each subset of modalities is, and what the plan costs. Nothing is
    trained. Edit the file, then `confu train` it.
    """
    from confu.runs import init as propose

    chosen = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    found = propose(
        manifest, out, columns=chosen, folder=folder, pretrained=pretrained, dim=dim, seed=seed, overwrite=overwrite,
        allow_outside=allow_outside,
    )  # fmt: skip
    console.print(f"[bold]{found.manifest.address}[/bold]: {len(found.manifest)} rows", highlight=False, soft_wrap=True)
    for name, guess in found.guesses.items():
        console.print(f"  {name}: {guess.kind} ({guess.why})", highlight=False, markup=False, soft_wrap=True)
    for column, why in found.unused.items():
        console.print(f"  not used: {column} ({why})", highlight=False, style="dim", markup=False, soft_wrap=True)
    console.print()
    print_wide(found.coverage.to_rich())
    console.print(f"\n{found.plan}\n", highlight=False, soft_wrap=True, markup=False)
    for note in found.notes:
        console.print(f"- {note}", highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"Written: [bold]{found.file}[/bold]. Next: confu check {found.file}, then confu train {found.file}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def check(
    address: Annotated[
        str, typer.Argument(help="A manifest, or the run file that names it.", metavar="MANIFEST", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for problems.csv, if there are any.")] = Path(),
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one a processor by default.")] = None,
    allow_outside: OUTSIDE = False,
    progress: PROGRESS = True,
) -> None:
    """Open every file of a table and list what is broken, with row, id and column. Ends with 1 if something is."""
    from confu.runs import check as open_all

    found = open_all(address, out, workers=workers, allow_outside=allow_outside, progress=progress)
    print_wide(found.coverage.to_rich())
    if found.sound:
        console.print(f"All {len(found.manifest)} rows can be read.", highlight=False)
        return
    print_wide(found.problems.to_rich())
    console.print(
        f"Every problem is in {found.listed}. `data.on_error: skip` sets such rows aside.",
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(1)


def train(
    run: Annotated[Path, typer.Argument(help="The run file, as `confu init` writes it.", show_default=False)],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set train.lr=1e-3. May be repeated.")
    ] = None,
    on_error: Annotated[
        str | None, typer.Option(help="stop or skip: what broken rows do. Short for --set data.on_error=...")
    ] = None,
    progress: PROGRESS = True,
) -> None:
    """Train as a run file says. Killed at any moment, the same command goes on where it was.

    What can be known to be wrong is found before training starts. Several processes: `torchrun --nproc-per-node 2 -m
    confu train RUN.yaml`.
    """
    from confu.runs import train as train_run

    changes = [*(sets or []), *([] if on_error is None else [f"data.on_error={on_error}"])]
    folder = train_run(run, changes, progress)
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        console.print(f"Next: confu evaluate {folder}", highlight=False, soft_wrap=True)


def evaluate(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    part: Annotated[str, typer.Option(help="test, or validation, whose rows chose the epoch.")] = "test",
    max_rows: Annotated[int, typer.Option(min=2, help="Rank queries among so many rows at most.")] = 5000,
    template: Annotated[
        list[str] | None, typer.Option(help="A sentence with {} for a class, for zero-shot. May be repeated.")
    ] = None,
    map_method: Annotated[str, typer.Option("--map", help="pca, or tsne (needs scikit-learn).")] = "pca",
    manifest: Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")] = None,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Measure a trained run and write one HTML page: retrieval, fusion's gain, classes, gaps, the worst queries."""
    from confu.runs import evaluate as measure

    report = measure(
        run, progress, part=part, max_rows=max_rows, templates=template, map_method=map_method, manifest=manifest,
        allow_custom=allow_custom,
    )  # fmt: skip
    name = "report" if part == "test" else part
    console.print(
        f"{len(report.rows)} numbers. The page: [bold]{run / name}.html[/bold]", highlight=False, soft_wrap=True
    )


def embed(
    run: RUN,
    manifest: MANIFEST,
    out: Annotated[Path, typer.Option(help="Folder of the Parquet files.", show_default=False)],
    subset: Annotated[
        list[str] | None, typer.Option(help="What to embed, e.g. image+audio; all by default. May be repeated.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A modality's column, if it is another: --column image=photo.")
    ] = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows in a file.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch; part of what makes the files the same.")] = 1,
    on_error: Annotated[str, typer.Option(help="stop or skip: what broken rows do; skipped.csv lists them.")] = "stop",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")] = None,
    allow_outside: OUTSIDE = False,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Embed a table into Parquet files. Goes on where it was; under torchrun each process takes its share."""
    from confu.runs import EmbedOptions, embed_manifest

    options = EmbedOptions(
        subsets=subset,
        columns=parse_pairs(column, "--column", "COLUMN, e.g. image=photo"),
        shard_rows=shard_rows,
        batch_size=batch_size,
        workers=workers,
        threads=threads,
        on_error=on_error,
        device=device,
        allow_outside=allow_outside,
        allow_custom=allow_custom,
    )
    found = embed_manifest(run, manifest, out, options, progress)
    skipped = f", {found.skipped} set aside" if found.skipped else ""
    console.print(
        f"{found.rows} rows{skipped} in {found.shards} file{'s' * (found.shards != 1)} of [bold]{found.folder}[/bold]: "
        f"{', '.join(map(str, found.subsets))}. Read them with confu.load_shards",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if found.without:
        console.print(f"Without {', '.join(found.without)}: the table has no such column. --column names another.")
    if found.left:
        console.print(f"{found.left} files are still with other processes.", highlight=False)


def export(
    run: RUN,
    onnx: Annotated[Path, typer.Option("--onnx", help="Folder for one .onnx file a subset.", show_default=False)],
    subset: Annotated[
        list[str] | None, typer.Option(help="What to export, e.g. image+audio; all by default. May be repeated.")
    ] = None,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Export each tower to ONNX, and compare it with torch."""
    from confu.inference import load
    from confu.inference.onnx import export_onnx

    for tower in export_onnx(load(run, allow_custom=allow_custom), onnx, subset, progress=progress):
        console.print(
            f"{tower.path}  inputs {', '.join(tower.inputs)}  differs from torch by {tower.difference:.1e}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def push(
    run: RUN,
    repo_id: Annotated[str, typer.Argument(help="owner/name on the Hugging Face hub; made if it is not there.")],
    licence: Annotated[str | None, typer.Option(help="Of the weights, as the hub names it: apache-2.0.")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
    allow_custom: CUSTOM = False,
) -> None:
    """Upload a trained model to the Hugging Face hub, with a model card that is filled in."""
    from confu.inference import load

    console.print(load(run, allow_custom=allow_custom).push_to_hub(repo_id, licence, private=private), highlight=False)


def parse_pairs(texts: list[str] | None, option: str, what: str = "VALUE") -> dict[str, str]:
    """The values of an option that is written NAME=VALUE and may be repeated.

    Raises:
        ValueError: for a text without a name or a value.
    """
    pairs = [text.partition("=") for text in texts or []]
    if wrong := ["".join(parts) for parts in pairs if not (parts[0].strip() and parts[2])]:
        raise ValueError(f"{option} takes NAME={what}; got {wrong[0]!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}
