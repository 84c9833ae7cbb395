"""A first run file for a table that confu has never seen: what its columns are, what to train, and what it costs."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu.data.coverage import Coverage, coverage
from confu.data.manifest import ColumnGuess, Manifest, guess_columns, read_manifest, unread_columns
from confu.files import written_whole
from confu.nn.encoders.registry import ENCODERS, proposed_encoder
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.runs.columns import class_names_of, modality_name, proposed_reader, readable_sources
from confu.runs.run_file import RunFile
from confu.runs.run_yaml import read_run_file, to_yaml

_REPEATED = 0.5  # with fewer distinct texts than this share of the rows, texts are captions that repeat
_COMMENT_COLUMN = 48

_COMMENTS = {
    "image": "pretrained: efficientnet-lite0, or an image model of the hub, e.g. org/model",
    "audio": "pretrained: speech (voices), or an audio model of the hub, e.g. org/model",
    "text": "pretrained: minilm, or a text model of the hub, e.g. org/model",
    "video": "pretrained: efficientnet-lite0 on every frame, or a video model of the hub",
    "vector": "hidden_dims: [] is one linear map; {kind: sequence, ...} reads steps",
    "number": "one number, standardised by the mean and spread of the training rows",
    "sequence": "a small transformer over the steps",
}
_COMMENTS = {
    "out": "the run folder: weights, log, settings, report",
    "seed": "of weights, split and order; the same seed gives the same run",
    "plan.fused_weight": "weight of the fused terms: 0 to 1 (λ of Eq. 7)",
    "plan.max_order": "most modalities in a subset; the terms grow as 3^modalities without it",
    "method": "also clip, tri-clip, symile, gram, triangle: what it is compared with",
    "model.dim": "numbers in an embedding",
    "model.fusion_dim": "width of the networks that fuse two modalities into one embedding",
    "model.mask_ratio": "above 0: share of features dropped before fusion, so that none is leaned on",
    "loss.temperature": "lower: harder negatives",
    "loss.learned": "true: the temperature is trained too",
    "loss.same_group": "rows of one group to each other: negatives, positives or excluded",
    "data.gaps": "a missing cell: each term takes the rows that have it. Baselines: drop, zeros",
    "data.allow_outside": "paths may leave the manifest's folder",
    "data.on_error": "skip: broken rows are set aside, listed and counted, never replaced",
    "data.workers": "threads that open files; decoded files are kept in `cache`, beside the run folder",
    "train.batch_size": "larger: more negatives for each row, and more memory",
    "train.lr": "the peak; lower it (1e-4) if whole pretrained networks are trained",
    "train.warmup_steps": "steps of rise before the cosine",
    "train.sampling": "balanced: enough complete rows for each term in a batch; unique: no group twice in it",
    "train.precision": "bfloat16 on a GPU that has it, else float32",
}


@dataclass(frozen=True)
class Proposal:
    """What `init` found and wrote.

    Attributes:
        run: the settings.
        file: where they were written.
        text: what was written.
        manifest: the table.
        guesses: modality -> what its column seems to be.
        unused: column -> why it is no modality.
        coverage: which rows have what.
        plan: with `print(plan)`, its cost.
        notes: what to look at.
    """

    run: RunFile
    file: Path
    text: str
    manifest: Manifest
    guesses: dict[str, ColumnGuess]
    unused: dict[str, str]
    coverage: Coverage
    plan: Plan
    notes: tuple[str, ...]


@dataclass(frozen=True)
class InitOptions:
    """What `init` may be told.

    Attributes:
        columns: those to use; by default all that seem to hold a modality.
        folder: the run folder, relative to the run file; by default `runs/` and the manifest's name.
        pretrained: propose pretrained encoders, where there are any, in place of small ones that learn from scratch.
        dim: size of an embedding.
        seed: of the run.
        overwrite: replace the run file if it is there.
        allow_outside: follow paths that leave the manifest's folder.
    """

    columns: Sequence[str] | None = None
    folder: str | None = None
    pretrained: bool = False
    dim: int = 128
    seed: int = 0
    overwrite: bool = False
    allow_outside: bool = False


def init(manifest: str | Path, out: str | Path = "run.yaml", **options: Any) -> Proposal:
    """Look at a manifest and write a commented run file for it.

    Args:
        manifest: a table, a folder of class folders or a WebDataset tar; see `read_manifest`.
        out: the run file to write.
        options: of `InitOptions`, e.g. `columns`, `folder`, `pretrained`, `dim`.

    Raises:
        ValueError: as `read_manifest`; for an unknown column, fewer than two modalities, or a file that is there.
    """
    opts, out = InitOptions(**options), Path(out)
    if out.exists() and not opts.overwrite:
        raise ValueError(f"{out} is there already; give another name, or --overwrite")
    table = read_manifest(manifest, allow_outside=opts.allow_outside)
    guesses, unused = guess_modalities(table, opts.columns)
    if len(guesses) < 2:
        why = "; ".join(f"{column!r}: {text}" for column, text in unused.items()) or "there are no others"
        raise ValueError(
            f"{table.address}: {len(guesses)} column{'s' * (len(guesses) != 1)} can be a modality "
            f"({', '.join(guesses) or 'none'}), but at least two are aligned. Not used: {why}"
        )
    present = coverage({name: table.present(guess.column) for name, guess in guesses.items()})
    plan_settings, plan = _proposed_plan(list(guesses))
    group, same_group, notes = _proposed_groups(table, guesses)
    sparse = sparse_terms(plan, present)
    if sparse:
        few = ", ".join(sparse[:3]) + (", ..." if len(sparse) > 3 else "")
        notes.append(f"Few rows are complete for {few}: sampling is balanced, so that each batch has some.")
    in_training = max(2, int(0.8 * len(table)) if table.splits is None else table.splits.count("train"))
    size = training_size(in_training)
    address = table.address
    stem = address.partition("::")[0].rstrip("/").rpartition("/")[2].split(".")[0] or "run"
    settings: dict[str, Any] = {
        "manifest": address if "://" in address else os.path.relpath(address, out.absolute().parent),
        "out": opts.folder or f"runs/{stem}",
        "seed": opts.seed,
        "modalities": {name: _proposed_modality(table, guess, opts) for name, guess in guesses.items()},
        "plan": plan_settings,
        "method": "confu",
        "model": {"dim": opts.dim, "fusion_dim": 2 * opts.dim, "mask_ratio": 0.0},
        "loss": {"temperature": 0.07, "learned": False, "same_group": same_group},
        "data": {
            "gaps": "mask",
            "group": group[0],
            **({"allow_outside": True} if opts.allow_outside else {}),
            "on_error": "stop",
            "workers": 4,
            "shares": [0.8, 0.1, 0.1],
        },
        "train": {
            "epochs": size["epochs"],
            "batch_size": size["batch_size"],
            "lr": 1e-3,
            "warmup_steps": size["warmup_steps"],
            "weight_decay": 0.01,
            "sampling": "balanced" if sparse else "uniform",
            "precision": "auto",
        },
    }
    comments = {
        **_COMMENTS,
        "manifest": f"{len(table):,} rows; paths in this file start at its folder",
        "plan.kind": _kind_comment(len(guesses)),
        "data.group": group[1],
        "data.shares": _split_comment(table),
        "train.epochs": f"passes over the rows, {in_training // size['batch_size']:,} steps each",
    }
    above = {
        "manifest": _head_lines(settings, out.name, notes),
        "modalities": [*(f"# The column {role}" for role in _roles(table)), *_coverage_lines(present)],
        "plan": _plan_lines(settings["plan"]["kind"], plan),
    }
    text = _run_text(settings, comments, above, guesses, unused, len(table))
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Proposal(read_run_file(out), out, text, table, guesses, unused, present, plan, tuple(notes))


def guess_modalities(
    table: Manifest, columns: Sequence[str] | None = None
) -> tuple[dict[str, ColumnGuess], dict[str, str]]:
    """The columns that can be modalities, by modality name, and why the others are not used."""
    for column in columns or ():
        check_known(f"{table.address}: column", column, table.columns)
    unused = dict(unread_columns(table))
    guesses: dict[str, ColumnGuess] = {}
    for column, guess in guess_columns(table).items():
        if columns and column not in columns:
            unused[column] = "not among those that were asked for"
        elif guess.filled < 2:
            unused[column] = "one cell is filled" if guess.filled else "every cell is empty"
        else:
            guesses[modality_name(column, list(guesses))] = guess
    return guesses, unused


def training_size(rows: int, workload: int = 600) -> dict[str, int]:
    """Batch size, epochs and warm-up for so many training rows: eight batches an epoch or more, 5 to 30 epochs.

    Few rows are learned by heart in more epochs than that; the best epoch is kept in any case.

    >>> training_size(800), training_size(50_000)
    ({'epochs': 30, 'batch_size': 64, 'warmup_steps': 18}, {'epochs': 5, 'batch_size': 256, 'warmup_steps': 48})
    """
    batch = min(256, 2 ** int(math.log2(max(16, rows // 8))), rows)
    steps = max(1, rows // batch)
    epochs = min(30, max(5, round(workload / steps)))
    return {"epochs": epochs, "batch_size": batch, "warmup_steps": min(100, epochs * steps // 20)}


def sparse_terms(plan: Plan, present: Coverage) -> list[str]:
    """The terms for which a batch drawn at random would hold few complete rows: under a quarter of it."""
    return [str(term) for term in plan.terms if present.complete(Subset(*term.left, *term.right)) < 0.25 * present.rows]


def _proposed_plan(names: list[str]) -> tuple[dict[str, Any], Plan]:
    if len(names) == 2:
        return {"kind": "pairwise"}, pairwise_plan(names)
    if len(names) == 3:
        return {"kind": "confu", "fused_weight": 0.5}, confu_plan(names)
    plan = disjoint_plan(names, max_order=2, fused_weight=0.5)
    return {"kind": "disjoint", "fused_weight": 0.5, "max_order": 2}, plan


def _proposed_modality(table: Manifest, guess: ColumnGuess, opts: InitOptions) -> dict[str, Any]:
    encoder = proposed_encoder(guess.kind, opts.dim, opts.pretrained)
    settings: dict[str, Any] = {"column": guess.column, "kind": guess.kind}
    if guess.kind in ("image", "audio", "video") and isinstance(encoder, dict):
        sources = readable_sources(table, guess.column, guess.kind, range(len(table)))
        settings["reader"] = proposed_reader(guess.kind, sources)
    return {**settings, "encoder": encoder}


def _proposed_groups(
    table: Manifest, guesses: Mapping[str, ColumnGuess]
) -> tuple[tuple[str | None, str], str, list[str]]:
    """`data.group` with its comment, `loss.same_group`, and notes."""
    if table.groups is not None:
        return ("group", "rows of one group are no negatives of one another; null: they are"), "excluded", []
    for name, guess in guesses.items():
        if guess.kind != "text":
            continue
        distinct = len(set(readable_sources(table, guess.column, "text", range(len(table)))))
        if distinct < _REPEATED * guess.filled:
            note = (
                f"Only {distinct:,} of {guess.filled:,} texts in {guess.column!r} differ: rows with the same one "
                "are one group, and no negatives of one another."
            )
            return (name, "rows with the same text are one group; null: each stands for itself"), "excluded", [note]
    return (None, "'group' (a column of that name), or a text modality: rows with one text"), "negatives", []


def _kind_comment(modalities: int) -> str:
    if modalities == 2:
        return "two modalities have one pair, and nothing to fuse"
    kinds = "pairs and fused pairs" if modalities == 3 else "all disjoint subsets up to max_order"
    return f"{kinds}; pairwise: no fusion; target: only what reaches one modality (target: NAME)"


def _encoder_comment(kind: str) -> str:
    pretrained = [row for row in ENCODERS.values() if kind in row.pretrained]
    if pretrained:
        names = ", ".join(f"{row.name} ({row.note})" if row.note else row.name for row in pretrained)
        names += " on every frame" if kind == "video" else ""
        example = "" if kind == "video" else ", e.g. org/model"
        return f"pretrained: {names}, or a{'n' * (kind[0] in 'aeiou')} {kind} model of the hub{example}"
    if kind == "vector":
        return "hidden_dims: [] is one linear map; {kind: sequence, ...} reads steps"
    if kind == "number":
        return "one number, standardised by the mean and spread of the training rows"
    return next((row.note for row in ENCODERS.values() if kind in row.proposed), "")


def _split_comment(table: Manifest) -> str:
    if table.splits is not None:
        return "not used: the column split says it"
    apart = ", no group in two of them" if table.groups is not None else "; a column split would decide instead"
    return f"train, validation, test: drawn at random{apart}"


def _head_lines(settings: Mapping[str, Any], file_name: str, notes: Sequence[str]) -> list[str]:
    out = settings["out"]
    return [
        f"# Proposed by `confu init` from the columns of {settings['manifest']}. Change what you like.",
        f"#   confu train {file_name}                       (stopped at any moment, the same command goes on)",
        f"#   confu train {file_name} --set train.epochs=1 --set out={out}-try      (any setting, once)",
        f"#   confu evaluate {out}",
        *(f"# {note}" for note in notes),
        "",
    ]


def _plan_lines(kind: str, plan: Plan) -> list[str]:
    command = f"confu plan {' '.join(plan.modalities)} --kind {kind}"
    terms = f"{len(plan.terms)} term{'s' * (len(plan.terms) != 1)}, {len(plan.fused_subsets)} fusion networks."
    return [f"# What is aligned with what. `{command}` shows every term:", f"# {terms}"]


def _run_text(
    settings: Mapping[str, Any],
    comments: Mapping[str, str],
    above: Mapping[str, Sequence[str]],
    guesses: Mapping[str, ColumnGuess],
    unused: Mapping[str, str],
    rows: int,
) -> str:
    """The YAML of proposed settings, every choice with what it means and what else could stand there."""
    lines: list[str] = []
    for key, value in settings.items():
        if not isinstance(value, Mapping):
            lines += [*above.get(key, ()), *_line(0, key, value, comments.get(key, ""))]
            continue
        lines += ["", *above.get(key, ()), f"{key}:"]
        if key != "modalities":
            for name, inner in value.items():
                lines += _line(1, name, inner, comments.get(f"{key}.{name}", ""))
            continue
        for name, modality in value.items():
            guess = guesses[name]
            quoted = to_yaml({name: {}}, flow=True).rpartition(":")[0]
            lines.append(f"  {quoted}:  # {guess.filled:,} of {rows:,} cells; {guess.why}")
            inner_comments = {
                "kind": "image audio video text vector sequence number",
                "reader": "how a cell becomes numbers",
                "encoder": _encoder_comment(guess.kind),
            }
            for setting, inner in modality.items():
                lines += _line(2, setting, inner, inner_comments.get(setting, ""))
        lines += [f"  # not used: {column!r}, {why}" for column, why in unused.items()]
    return "\n".join(lines) + "\n"


def _roles(table: Manifest) -> list[str]:
    """What the columns hold that are no modality."""
    roles = []
    if "id" in table.table.column_names:
        roles.append("id names the rows.")
    if table.labels is not None:
        classes = class_names_of(table.labels)
        some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        roles.append(f"label holds {len(classes):,} classes ({some}); the report asks for them, training does not.")
    if table.splits is not None:
        counts = ", ".join(f"{table.splits.count(part):,} {part}" for part in dict.fromkeys(table.splits) if part)
        roles.append(f"split says which rows are for what: {counts}.")
    if table.groups is not None:
        roles.append(f"group holds {len(set(table.groups)):,} groups.")
    return roles


def _coverage_lines(present: Coverage) -> list[str]:
    lines, line = [], "# Rows that have:"
    for subset in present.subsets:
        text = f"{subset} {present.complete(subset):,}"
        if len(line) + len(text) > 110:
            lines, line = [*lines, line], "#                "
        line += f"  {text}"
    return [*lines, line]


def _line(depth: int, key: str, value: Any, comment: str) -> list[str]:
    """A key with its value on one line, and its comment beside it, or above it where it does not fit."""
    indent = "  " * depth
    text = indent + to_yaml({key: value}, flow=True).strip()
    if not comment:
        return [text]
    if len(text) > _COMMENT_COLUMN - 2 or len(comment) > 118 - _COMMENT_COLUMN:
        return [f"{indent}# {comment}", text]
    return [f"{text:<{_COMMENT_COLUMN}}# {comment}"]
