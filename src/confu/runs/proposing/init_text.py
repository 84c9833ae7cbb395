"""The text of a proposed run file: every choice with what it means and what else could stand there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confu.data.coverage import Coverage
from confu.data.manifest import ColumnGuess
from confu.plan import Plan
from confu.runs.run_files.yaml_text import to_yaml

_WIDTH = 48  # where the comments begin

_ENCODERS = {
    "image": "pretrained: efficientnet-lite0, or an image model of the hub, e.g. org/model",
    "audio": "pretrained: speech (voices), or an audio model of the hub, e.g. org/model",
    "text": "pretrained: minilm, or a text model of the hub, e.g. org/model",
    "video": "pretrained: efficientnet-lite0 on every frame, or a video model of the hub",
    "vector": "hidden_dims: [] is one linear map; {kind: sequence, ...} reads steps",
    "number": "one number, standardised by the mean and spread of the training rows",
    "sequence": "a small transformer over the steps",
}


@dataclass(frozen=True)
class Draft:
    """What a proposed run file says.

    Attributes:
        manifest: its address as it is written, relative to the file.
        run_file: the name of the file, for the commands in its head.
        out: the run folder, relative to the file.
        rows: of the manifest.
        modalities: name -> settings.
        guesses: name -> what its column seems to be.
        unused: column -> why it is no modality.
        roles: what the columns id, label, split and group hold, in words.
        plan: as it will be.
        plan_kind: "confu", "pairwise" or "disjoint".
        coverage: of the modalities.
        split: how rows are split, in words.
        group: for `data.group`, or None; and why.
        same_group: for `loss.same_group`.
        train: settings.
        dim: of the embeddings.
        seed: of the run.
        allow_outside: whether paths may leave the manifest's folder.
        notes: what the reader should know first.
    """

    manifest: str
    run_file: str
    out: str
    rows: int
    modalities: Mapping[str, Mapping[str, Any]]
    guesses: Mapping[str, ColumnGuess]
    unused: Mapping[str, str]
    roles: Sequence[str]
    plan: Plan
    plan_kind: str
    coverage: Coverage
    split: str
    group: tuple[str | None, str]
    same_group: str
    train: Mapping[str, Any]
    dim: int
    seed: int
    allow_outside: bool
    notes: Sequence[str]


def draft_text(draft: Draft) -> str:
    """The YAML of a draft with its comments."""
    names, count = list(draft.modalities), len(draft.plan.terms)
    terms = f"{count} term{'s' * (count != 1)}, {len(draft.plan.fused_subsets)} fusion networks"
    lines = [
        f"# Proposed by `confu init` from the columns of {draft.manifest}. Change what you like.",
        f"#   confu train {draft.run_file}                       (stopped at any moment, the same command goes on)",
        f"#   confu train {draft.run_file} --set train.epochs=1 --set out={draft.out}-try      (any setting, once)",
        f"#   confu evaluate {draft.out}",
        *(f"# {note}" for note in draft.notes),
        "",
        *_line(0, "manifest", draft.manifest, f"{draft.rows:,} rows; paths in this file start at its folder"),
        *_line(0, "out", draft.out, "the run folder: weights, log, settings, report"),
        *_line(0, "seed", draft.seed, "of weights, split and order; the same seed gives the same run"),
        "",
        *(f"# The column {role}" for role in draft.roles),
        *_coverage(draft.coverage),
        "modalities:",
    ]
    for name in names:
        lines += _modality(name, draft.modalities[name], draft.guesses[name], draft.rows)
    lines += [f"  # not used: {column!r}, {why}" for column, why in draft.unused.items()]
    lines += [
        "",
        "# What is aligned with what. `confu plan " + " ".join(names) + f" --kind {draft.plan_kind}` shows every term:",
        f"# {terms}.",
        "plan:",
        *_line(1, "kind", draft.plan_kind, _kinds(len(names))),
        *_plan_lines(draft),
        *_line(0, "method", "confu", "also clip, tri-clip, symile, gram, triangle: what it is compared with"),
        "",
        "model:",
        *_line(1, "dim", draft.dim, "numbers in an embedding"),
        *_line(1, "fusion_dim", 2 * draft.dim, "width of the networks that fuse two modalities into one embedding"),
        *_line(1, "mask_ratio", 0.0, "above 0: share of features dropped before fusion, so that none is leaned on"),
        "",
        "loss:",
        *_line(1, "temperature", 0.07, "lower: harder negatives"),
        *_line(1, "learned", False, "true: the temperature is trained too"),
        *_line(1, "same_group", draft.same_group, "rows of one group to each other: negatives, positives or excluded"),
        "",
        "data:",
        *_line(1, "gaps", "mask", "a missing cell: each term takes the rows that have it. Baselines: drop, zeros"),
        *_line(1, "group", draft.group[0], draft.group[1]),
        *(_line(1, "allow_outside", True, "paths may leave the manifest's folder") if draft.allow_outside else []),
        *_line(1, "on_error", "stop", "skip: broken rows are set aside, listed and counted, never replaced"),
        *_line(1, "workers", 4, "threads that open files; decoded files are kept in `cache`, beside the run folder"),
        *_line(1, "shares", [0.8, 0.1, 0.1], draft.split),
        "",
        "train:",
        *_line(1, "epochs", draft.train["epochs"], f"passes over the rows, {draft.train['steps']:,} steps each"),
        *_line(1, "batch_size", draft.train["batch_size"], "larger: more negatives for each row, and more memory"),
        *_line(1, "lr", draft.train["lr"], "the peak; lower it (1e-4) if whole pretrained networks are trained"),
        *_line(1, "warmup_steps", draft.train["warmup_steps"], "steps of rise before the cosine"),
        *_line(1, "weight_decay", draft.train["weight_decay"], ""),
        *_line(1, "sampling", draft.train["sampling"], _SAMPLING),
        *_line(1, "precision", "auto", "bfloat16 on a GPU that has it, else float32"),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


_SAMPLING = "balanced: enough complete rows for each term in a batch; unique: no group twice in it"


def _kinds(count: int) -> str:
    fused = "pairwise: no fusion; target: only what reaches one modality (target: NAME)"
    if count == 2:
        return "two modalities have one pair, and nothing to fuse"
    if count == 3:
        return f"pairs and fused pairs; {fused}"
    return f"all disjoint subsets up to max_order; {fused}"


def _plan_lines(draft: Draft) -> list[str]:
    if draft.plan_kind == "pairwise":
        return []
    lines = _line(1, "fused_weight", 0.5, "weight of the fused terms: 0 to 1 (λ of Eq. 7)")
    if draft.plan_kind == "disjoint":
        lines += _line(1, "max_order", 2, "most modalities in a subset; the terms grow as 3^modalities without it")
    return lines


def _modality(name: str, settings: Mapping[str, Any], guess: ColumnGuess, rows: int) -> list[str]:
    key = to_yaml({name: {}}, flow=True).rpartition(":")[0]
    lines = [f"  {key}:  # {guess.filled:,} of {rows:,} cells; {guess.why}"]
    lines += _line(2, "column", settings["column"], "")
    lines += _line(2, "kind", settings["kind"], "image audio video text vector sequence number")
    if "reader" in settings:
        lines += _line(2, "reader", settings["reader"], "how a cell becomes numbers")
    return lines + _line(2, "encoder", settings["encoder"], _ENCODERS[settings["kind"]])


def _coverage(coverage: Coverage) -> list[str]:
    found = [f"{subset} {coverage.complete(subset):,}" for subset in coverage.subsets]
    lines, line = [], "# Rows that have:"
    for one in found:
        if len(line) + len(one) > 110:
            lines, line = [*lines, line], "#                "
        line += f"  {one}"
    return [*lines, line]


def _line(depth: int, key: str, value: Any, comment: str) -> list[str]:
    """A key with its value on one line, and its comment beside it, or above it where it does not fit."""
    indent = "  " * depth
    text = indent + to_yaml({key: value}, flow=True).strip()
    if not comment:
        return [text]
    if len(text) > _WIDTH - 2 or len(comment) > 118 - _WIDTH:
        return [f"{indent}# {comment}", text]
    return [f"{text:<{_WIDTH}}# {comment}"]
