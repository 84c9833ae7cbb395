"""The commands for one's own data: from a table to a trained model, its report and its embeddings."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from confu.cli.show import console, escape, print_wide, say

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
        str | None,
        typer.Option(
            help="The columns to use, with commas; name=a+b+c reads several as one modality, a table. By default all "
            "that seem to hold a modality."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The column of the classes; '' for none, by default guessed, as all four.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The column of what belongs together, in one part.")] = None,
    id: Annotated[str | None, typer.Option(help="The column that names the rows.")] = None,
    split: Annotated[str | None, typer.Option(help="The column that says train, validation or test.")] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="What stands between several labels of one cell, e.g. ';'.")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(help="Texts of a missing cell, with commas; nan, NA, None, ... as pandas by default."),
    ] = None,
    dedupe: Annotated[bool, typer.Option(help="Keep the first of the rows that are equal in every modality.")] = False,
    folder: Annotated[
        str | None, typer.Option(help="The run folder; runs/ and the manifest's name, beside the run file, by default.")
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            help="Propose pretrained encoders where there are some, frozen: their features are cached. By default "
            "for texts of many English words, if the sentence encoder is installed."
        ),
    ] = None,
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

    roles = {"label": label, "group": group, "id": id, "split": split}
    options = {
        "columns": None if columns is None else _names(columns),
        "roles": {role: column for role, column in roles.items() if column is not None},
        "label_separator": label_separator,
        "missing": None if missing is None else _names(missing),
        "dedupe": dedupe,
        "folder": folder,
        "pretrained": pretrained,
        "dim": dim,
        "seed": seed,
        "overwrite": overwrite,
        "allow_outside": allow_outside,
    }
    proposal = propose(manifest, out, **options)
    say(f"[bold]{proposal.manifest.address}[/bold]: {len(proposal.manifest)} rows")
    for name, guess in proposal.guesses.items():
        say(f"  {name}: {guess.kind} ({guess.why})", markup=False)
    for role, column in proposal.roles.items():
        say(f"  {role}: {column.column} ({column.why})", markup=False)
    for column, why in proposal.unused.items():
        say(f"  not used: {column} ({why})", markup=False, style="dim")
    console.print()
    print_wide(proposal.coverage.to_rich())
    say(f"\n{proposal.plan}\n", markup=False)
    for note in proposal.notes:
        say(f"- {note}", markup=False)
    file = proposal.file
    say(f"Written: [bold]{file}[/bold]. Next: confu check {file}, then confu train {file}")


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

    checked = open_all(address, out, workers=workers, allow_outside=allow_outside, progress=progress)
    print_wide(checked.coverage.to_rich())
    for note in checked.notes:
        say(f"- {note}", markup=False)
    if checked.sound:
        say(f"All {len(checked.manifest)} rows can be read.")
        return
    print_wide(checked.problems.to_rich())
    say(f"Every problem is in {checked.listed}. `data.on_error: skip` sets such rows aside.")
    raise typer.Exit(1)


def train(
    run: Annotated[Path, typer.Argument(help="The run file, as `confu init` writes it.", show_default=False)],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set train.lr=1e-3. May be repeated.")
    ] = None,
    on_error: Annotated[
        str | None, typer.Option(help="stop or skip: what broken rows do. Short for --set data.on_error=...")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", help="A run or model folder whose weights to start from: --set start_from=..."),
    ] = None,
    progress: PROGRESS = True,
) -> None:
    """Train as a run file says. Killed at any moment, the same command goes on where it was; a run
    that is done goes on to more epochs with --set train.epochs=60.

    What can be known to be wrong is found before training starts. Several processes: `torchrun --nproc-per-node 2 -m
    confu train RUN.yaml`.
    """
    from confu.runs import train as train_run

    changes = [*(sets or []), *([] if on_error is None else [f"data.on_error={on_error}"])]
    changes += [] if start_from is None else [f"start_from={json.dumps(str(Path(start_from).absolute()))}"]
    folder = train_run(run, changes, progress)
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        say(f"Next: confu evaluate {folder}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    part: Annotated[str, typer.Option(help="test, or validation, whose rows chose the epoch.")] = "test",
    max_rows: Annotated[int, typer.Option(min=2, help="Rank queries among so many rows at most.")] = 5000,
    template: Annotated[
        list[str] | None, typer.Option(help="A sentence with {} for a class, for zero-shot. May be repeated.")
    ] = None,
    map_method: Annotated[str, typer.Option("--map", help="pca, or tsne (needs scikit-learn).")] = "pca",
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness", help="Disturb each part of each fused query: missing, exchanged, noisy, attacked."
        ),
    ] = False,
    manifest: Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")] = None,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Measure a trained run and write one HTML page: retrieval, fusion's gain, information, classes, gaps, the worst
    queries."""
    from confu.runs import evaluate as measure
    from confu.runs.robustness import Robustness, robustness_table
    from confu.runs.run_file import RunFile
    from confu.runs.summary import QuerySummary, information_sentences, summary_sentences, summary_table

    options = {
        "part": part,
        "max_rows": max_rows,
        "templates": template,
        "map_method": map_method,
        "manifest": manifest,
        "allow_custom": allow_custom,
        "robustness": robustness,
    }
    report = measure(run, progress, **options)
    summary = [QuerySummary(**line) for line in report.settings["summary"]]
    if summary:
        print_wide(summary_table(summary))
    for sentence in summary_sentences(summary, str(run), RunFile.model_validate(report.settings["run"])):
        say(sentence, markup=False)
    for sentence in information_sentences(report.settings["information"]):
        say(sentence, markup=False)
    if robustness:
        disturbed = Robustness.from_dict(report.settings["robustness"])
        print_wide(robustness_table(disturbed))
        for sentence in disturbed.sentences():
            say(sentence, markup=False)
    name = "report" if part == "test" else part
    say(f"{len(report.rows)} numbers. The page: [bold]{run / name}.html[/bold]")


def doctor(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    manifest: Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of findings as JSON.")] = False,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Look for causes why a trained run finds little: overfitting, leaks, unscaled inputs, parts that are ignored.

    Each comes with its evidence and what to do. Nothing is changed.
    """
    from confu.runs.doctor import diagnose

    findings = diagnose(run, manifest, allow_custom, progress and not as_json)
    if as_json:
        console.print_json(json.dumps([finding.to_dict() for finding in findings]))
        return
    for finding in findings:
        say(f"[bold]{finding.cause}[/bold]: {escape(finding.evidence)}.")
        say(f"  {finding.advice}.", markup=False)
    if not findings:
        say("No cause was found why this run should find little.")


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
    done = embed_manifest(run, manifest, out, options, progress)
    skipped = f", {done.skipped} set aside" if done.skipped else ""
    files = f"{done.shards} file{'s' * (done.shards != 1)} of [bold]{done.folder}[/bold]"
    subsets = ", ".join(map(str, done.subsets))
    say(f"{done.rows} rows{skipped} in {files}: {subsets}. Read them with confu.load_shards")
    if done.without:
        say(f"Without {', '.join(done.without)}: the table has no such column. --column names another.")
    if done.left:
        say(f"{done.left} files are still with other processes.")


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
        inputs = ", ".join(tower.inputs)
        say(f"{tower.path}  inputs {inputs}  differs from torch by {tower.difference:.1e}")


def push(
    run: RUN,
    repo_id: Annotated[str, typer.Argument(help="owner/name on the Hugging Face hub; made if it is not there.")],
    licence: Annotated[str | None, typer.Option(help="Of the weights, as the hub names it: apache-2.0.")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
    allow_custom: CUSTOM = False,
) -> None:
    """Upload a trained model to the Hugging Face hub, with a model card that is filled in."""
    from confu.inference import load

    say(load(run, allow_custom=allow_custom).push_to_hub(repo_id, licence, private=private))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_pairs(texts: list[str] | None, option: str, what: str = "VALUE") -> dict[str, str]:
    """The values of an option that is written NAME=VALUE and may be repeated.

    Raises:
        ValueError: for a text without a name or a value.
    """
    pairs = [text.partition("=") for text in texts or []]
    if wrong := ["".join(parts) for parts in pairs if not (parts[0].strip() and parts[2])]:
        raise ValueError(f"{option} takes NAME={what}; got {wrong[0]!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}
