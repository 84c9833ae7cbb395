"""Evaluate a trained run on its test rows: embeddings, every number, and a page that shows them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from confu.checks import check_known
from confu.data.dataset import RowsOf
from confu.data.gaps import FilledDataset
from confu.data.manifest import Manifest
from confu.embeddings import EmbeddingTable
from confu.evaluation.map2d import METHODS as MAPS
from confu.evaluation.mutual_information import information
from confu.evaluation.report import Report
from confu.inference import embed
from confu.plan import Subset
from confu.runs.columns import class_names_of
from confu.runs.measures import (
    TEMPLATES,
    ClassMeasures,
    Labels,
    Prompts,
    class_prompts,
    embed_texts,
    has_class,
    label_tensor,
    listed,
    measure_centroids,
    measure_retrieval,
    measure_zero_shot,
    readable_names,
)
from confu.runs.page import Evaluated, training_facts, write_page
from confu.runs.page_media import CellView
from confu.runs.prepare import RUN, OpenedRun, open_run
from confu.runs.robustness import Robustness, measure_robustness
from confu.runs.rows import PARTS, RowTable, group_numbers, run_contents, sampled
from confu.runs.summary import summarise

REPORT = "report"
_SCALE_ROWS = 1000  # validation rows at most
_ROBUSTNESS_ROWS = 1000


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and how it is shown.

    Attributes:
        part: `"test"`, or `"validation"`, whose rows chose the epoch; the files are then called `validation`.
        max_rows: queries are ranked among so many rows at most, drawn with a fixed seed; the report says so.
            Classification and the embeddings are of all rows.
        templates: sentences with `{}` for a class's name, for zero-shot; without a text modality the nearest centroid
            of the training rows is measured in its place.
        map_method: `"pca"`, or `"tsne"`, which needs scikit-learn.
        manifest: where the data are now, if they have moved.
        allow_custom: build the encoders that are functions of the user's own, as the run names them.
        robustness: disturb each part of each fused query as well, on 1,000 rows at most.

    Raises:
        ValueError: if one is out of range.
    """

    part: str = "test"
    max_rows: int = 5000
    templates: Sequence[str] | None = None
    map_method: str = "pca"
    manifest: str | Path | None = None
    allow_custom: bool = False
    robustness: bool = False

    def __post_init__(self) -> None:
        check_known("part", self.part, PARTS[1:])
        check_known("map_method", self.map_method, MAPS)
        if self.max_rows < 2:
            raise ValueError(f"max_rows must be at least 2; got {self.max_rows}")
        class_prompts([], tuple(self.templates or TEMPLATES))


def evaluate(
    folder: str | Path, progress: bool = True, *, encoders: Mapping[str, nn.Module] | None = None, **options: Any
) -> Report:
    """Measure a trained run, and write `test.parquet`, `report.json` and `report.html` into its folder.

    The page is one file without scripts that loads nothing.

    Args:
        folder: of the run.
        progress: show what is being done.
        encoders: modules for the modalities whose encoders are the user's own, as for `open_run`.
        options: of `EvaluateOptions`: part, max_rows, templates, map_method, manifest, allow_custom, robustness.

    Returns:
        every number, as in `report.json`.

    Raises:
        ValueError: if the folder is no trained run, the part has no rows, or an argument is out of range.
    """
    opts, folder = EvaluateOptions(**options), Path(folder).expanduser()
    seconds: dict[str, float] = {}
    opened = open_run(folder, encoders, opts.manifest, progress, opts.allow_custom)
    data = _evaluation_rows(opened, opts.part)
    opened.model.to("cuda" if torch.cuda.is_available() else "cpu")
    with _timed(seconds, "embedding"):
        dataset = getattr(opened.splits, opts.part)
        table = embed(opened.model, dataset, progress=progress, model_name=folder.absolute().name)
    table.save(folder / f"{opts.part}.parquet")
    with _timed(seconds, "measuring"), _spinner(progress) as tick:
        chosen = sampled(len(table), opts.max_rows)
        few = table if len(chosen) == len(table) else table.select(chosen)
        contents = run_contents(opened.run, RowsOf(dataset, chosen))
        groups = None if data.groups is None else data.groups[chosen]
        retrieval = measure_retrieval(few, groups, data.texts, tick, contents)
        summary = summarise(few, retrieval.ranked, contents)
        tick("information")
        account = information(few, _scale_rows(opened, opts.part))
        classes, notes = _measure_classes(opened, data, table, opts, tick)
        robustness = Robustness()
        if opts.robustness:
            rows = sampled(len(table), min(opts.max_rows, _ROBUSTNESS_ROWS))
            part = RowsOf(dataset, rows)
            contents = run_contents(opened.run, part)
            robustness = measure_robustness(opened.model, part, table.select(rows), contents, tick)
    if len(few) < len(table):
        notes.insert(
            0,
            f"Ranked among {len(few):,} of {len(table):,} {opts.part} rows, drawn at random with seed 0: recall "
            "is higher than it would be among all of them.",
        )
    class_rows, class_notes = ([], []) if classes is None else (classes.rows, classes.notes)
    method, seed = opened.run.method, opened.run.seed
    settings: dict[str, Any] = {
        "run": opened.run.model_dump(mode="json"),
        "evaluation": {
            "part": opts.part,
            "rows": len(table),
            "ranked_rows": len(few),
            "templates": list(opts.templates or TEMPLATES),
            "classification": None if classes is None else classes.how,
            "groups": data.group_words,
        },
        "skipped_rows": len({problem.row for problem in opened.skipped}),
        "trained": training_facts(folder) if (folder / "log.jsonl").exists() else {},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "notes": [*notes, *retrieval.refused, *class_notes],
        "summary": [line.to_dict() for line in summary],
        "information": account.to_dict(),
        **({"robustness": robustness.to_dict()} if opts.robustness else {}),
    }
    rows = (*retrieval.rows, *account.to_rows(), *robustness.to_rows(), *class_rows)
    report = Report([replace(row, method=method, seed=seed) for row in rows], settings)
    name = REPORT if opts.part == "test" else opts.part
    report.save(folder / f"{name}.json")
    evaluated = Evaluated(
        folder=folder,
        title=f"{folder.absolute().name}: {', '.join(opened.model.plan.modalities)}",
        plan=opened.model.plan,
        table=table,
        retrieval=retrieval,
        summary=summary,
        information=account,
        robustness=robustness,
        classes=classes,
        splits=data.splits,
        skipped=opened.skipped,
        views=data.views,
        labels=None if data.labels is None or data.labels.ndim == 2 else data.labels[chosen],
        names=data.names,
        group_words=data.group_words,
        settings=(folder / RUN).read_text(encoding="utf-8"),
        seconds=seconds,
        notes=notes,
        part=opts.part,
        map_method=opts.map_method,
    )
    write_page(folder / f"{name}.html", evaluated, report)
    return report


def _scale_rows(opened: OpenedRun, part: str) -> EmbeddingTable | None:
    """Validation rows, on which the scale of scores is chosen that tells most of the test rows."""
    rows = opened.splits.validation
    return embed(opened.model, RowsOf(rows, sampled(len(rows), _SCALE_ROWS))) if part == "test" and len(rows) else None


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is known of the rows that are evaluated.

    `labels` and `train_labels` are None without labels; rows of one of the `groups` are
    right for one another; `splits` says by part and modality which rows have it.
    """

    labels: Labels | None
    train_labels: Labels | None
    names: tuple[str, ...]
    groups: Int[Tensor, " n"] | None
    group_words: str
    splits: Mapping[str, Mapping[str, Bool[Tensor, " _"]]]
    views: Mapping[str, CellView]
    texts: tuple[str, ...]


def _evaluation_rows(opened: OpenedRun, part: str) -> _Rows:
    ids = getattr(opened.splits, part).ids
    if len(ids) == 0:
        raise ValueError(
            f"{opened.folder}: the {part} split has no rows, so that there is nothing to evaluate. Evaluate the "
            "validation rows (part='validation'), or train with a share of test rows: data.shares, or a column split"
        )
    manifest, modalities = opened.manifest, opened.run.modalities
    row_of = {id: row for row, id in enumerate(manifest.ids)}
    rows = [row_of[id] for id in ids]
    labels, train_labels, names = None, None, ()
    if manifest.label_sets is not None:  # also where training did without labels because some are missing
        aside = {problem.row for problem in opened.skipped}
        kept = (label for row, own in enumerate(manifest.label_sets) if row not in aside for label in own)
        names = tuple(opened.splits.train.class_names or class_names_of(kept))
        known = label_tensor(manifest.label_sets, names, manifest.has_label_sets)
        labels = known[rows]
        train_labels = known[[row_of[id] for id in opened.splits.train.ids]]
    texts = tuple(name for name, modality in modalities.items() if modality.kind == "text")
    groups, group_words = _groups(opened, rows, texts)
    stored = RowTable.load(opened.folder)
    splits = {name: {modality: mask[stored.of(name)] for modality, mask in stored.present.items()} for name in PARTS}
    views = {
        name: CellView(name, one.kind, opened.readers[name], partial(_source, manifest, row_of, one.column, one.kind))
        for name, one in modalities.items()
    }
    return _Rows(labels, train_labels, names, groups, group_words, splits, views, texts)


def _source(manifest: Manifest, row_of: Mapping[str, int], column: str, kind: str, id: str) -> Any:
    return manifest.take([row_of[id]]).sources(column, kind)[0]


def _groups(opened: OpenedRun, rows: Sequence[int], texts: Sequence[str]) -> tuple[Tensor | None, str]:
    """The groups of the run file, else of the column `group`, else rows whose text is the same; and what they are."""
    setting, modalities = opened.run.data.group, opened.run.modalities
    kept = opened.manifest.take(rows)
    candidates: list[tuple[Sequence[str | None], str]] = []
    if setting in (None, "group") and kept.groups is not None:
        candidates.append((kept.groups, "rows of the same group"))
    else:
        for name in [setting] if setting in modalities else texts:
            values = kept.sources(modalities[str(name)].column, "text")
            candidates.append(([None if text is None else str(text) for text in values], f"rows with the same {name}"))
    for values, words in candidates:
        numbers = group_numbers(values)
        if bool((torch.bincount(numbers[numbers >= 0], minlength=1) > 1).any()):
            return numbers, words
    return None, ""


def _measure_classes(
    opened: OpenedRun, data: _Rows, table: EmbeddingTable, opts: EvaluateOptions, tick: Callable[[str], None]
) -> tuple[ClassMeasures | None, list[str]]:
    """Zero-shot if the model reads texts, else class centroids; and a note if neither can be."""
    if data.labels is None or not bool(has_class(data.labels).any()):
        return None, []
    if len(data.names) == 1:
        return None, [f"There is one class only, {data.names[0]!r}, so that nothing is classified."]
    notes: list[str] = []
    if target := next((name for name in data.texts if opened.model.supports(Subset(name))), None):
        reader = opened.readers[target]
        asked = readable_names(reader, data.names)
        if len(asked) < len(data.names):
            unread = [name for number, name in enumerate(data.names) if number not in asked]
            notes.append(
                f"{len(unread)} of {len(data.names)} classes have names that the reader of {target} cannot read "
                f"({listed(unread)}): their rows are not classified. Give them names in words to ask for them."
            )
        if len(asked) > 1:
            number = torch.full((len(data.names) + 1,), -1)  # the last is that of a row without a known class
            number[asked] = torch.arange(len(asked))
            several = data.labels.ndim == 2
            labels = data.labels[:, asked] if several else number[data.labels]
            names = [data.names[one] for one in asked]
            texts, classes = class_prompts(names, tuple(opts.templates or TEMPLATES))
            prompts = Prompts(texts, classes, embed_texts(opened.model, reader, target, texts), Subset(target))
            measures = measure_zero_shot(table, labels, names, prompts, tick)
            return measures, notes if measures else [*notes, f"No query could be compared with prompts in {target}."]
    tick("training rows, for class centroids")
    train = opened.splits.train
    if isinstance(train, FilledDataset):  # centroids of what is there, not of zeros
        train = train.dataset
    assert data.train_labels is not None
    labelled = has_class(data.train_labels).nonzero().squeeze(1)
    if not len(labelled):
        return None, [*notes, "No training row has a class, so that nothing is classified."]
    rows = labelled[sampled(len(labelled), opts.max_rows)]
    known = embed(opened.model, RowsOf(train, rows))
    drawn = f"Class centroids are of {len(rows):,} of {len(labelled):,} training rows, drawn at random."
    measures = measure_centroids(known, table, data.labels, data.names, data.train_labels[rows])
    return measures, [*notes, drawn] if len(rows) < len(labelled) else notes


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


@contextmanager
def _spinner(progress: bool) -> Iterator[Callable[[str], None]]:
    """A line that says what is being measured."""
    columns = (SpinnerColumn(), TextColumn("measuring {task.description}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not progress) as bar:
        task = bar.add_task("")
        yield lambda what: bar.update(task, description=what)
