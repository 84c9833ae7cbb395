"""Evaluate a trained run on its test rows: embeddings, every number, and a page that shows them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from confu.checks import check_known
from confu.data.gaps import FilledDataset
from confu.data.view import RowsOf
from confu.embeddings import EmbeddingTable
from confu.evaluation.map2d import METHODS as MAPS
from confu.evaluation.report import Report
from confu.inference import embed
from confu.plan import Subset
from confu.runs.evaluating.class_measures import (
    TEMPLATES,
    ClassMeasures,
    class_prompts,
    embed_texts,
    measure_centroids,
    measure_zero_shot,
)
from confu.runs.evaluating.evaluation_data import EvaluationData, evaluation_data
from confu.runs.evaluating.evaluation_page import Evaluated, write_page
from confu.runs.evaluating.evaluation_page.training import training_facts
from confu.runs.evaluating.retrieval_measures import measure_retrieval
from confu.runs.prepare import RUN, OpenedRun, open_run

MAX_ROWS = 5000
REPORT = "report"
PARTS = ("test", "validation")


def evaluate(
    folder: str | Path,
    progress: bool = True,
    *,
    part: str = "test",
    max_rows: int = MAX_ROWS,
    templates: Sequence[str] | None = None,
    map_method: str = "pca",
    encoders: Mapping[str, nn.Module] | None = None,
    manifest: str | Path | None = None,
    allow_custom: bool = False,
) -> Report:
    """Measure a trained run, and write `test.parquet`, `report.json` and `report.html` into its folder.

    The page is one file without scripts that loads nothing.

    Args:
        folder: of the run.
        progress: show what is being done.
        part: `"test"`, or `"validation"`, whose rows chose the epoch; the files are then called `validation`.
        max_rows: queries are ranked among so many rows at most, drawn with a fixed seed; the report says so.
            Classification and the embeddings are of all rows.
        templates: sentences with `{}` for a class's name, for zero-shot; without a text modality the nearest centroid
            of the training rows is measured in its place.
        map_method: `"pca"`, or `"tsne"`, which needs scikit-learn.
        encoders: modules for the modalities whose encoders are the user's own, as for `open_run`.
        manifest: where the data are now, if they have moved.
        allow_custom: build the encoders that are functions of the user's own, as the run names them.

    Returns:
        every number, as in `report.json`.

    Raises:
        ValueError: if the folder is no trained run, the part has no rows, or an argument is out of range.
    """
    check_known("part", part, PARTS)
    check_known("map_method", map_method, MAPS)
    if max_rows < 2:
        raise ValueError(f"max_rows must be at least 2; got {max_rows}")
    folder = Path(folder)
    texts = tuple(templates or TEMPLATES)
    class_prompts([], texts)  # a bad template is an error before anything is computed
    seconds: dict[str, float] = {}
    opened = open_run(folder, encoders, manifest, progress, allow_custom)
    data = evaluation_data(opened, part)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    opened.model.to(device)
    with _timed(seconds, "embedding"):
        table = embed(opened.model, data.rows, progress=progress, model_name=folder.absolute().name)
    table.save(folder / f"{part}.parquet")
    with _timed(seconds, "measuring"), _told(progress) as tick:
        chosen = sampled(len(table), max_rows)
        few = table if len(chosen) == len(table) else table.select(chosen)
        groups = None if data.groups is None else data.groups[chosen]
        retrieval = measure_retrieval(few, groups, data.texts, opened.run.method, opened.run.seed, tick)
        classes, notes = _classes(opened, data, table, texts, max_rows, tick)
    if len(few) < len(table):
        notes.insert(0, f"Ranked among {len(few):,} of {len(table):,} {part} rows, drawn at random with seed 0: recall "
                        "is higher than it would be among all of them.")  # fmt: skip
    rows = [*retrieval.rows, *([] if classes is None else classes.rows)]
    settings: dict[str, Any] = {
        "run": opened.run.model_dump(mode="json"),
        "evaluation": {"part": part, "rows": len(table), "ranked_rows": len(few), "templates": list(texts),
                       "classification": None if classes is None else classes.how, "groups": data.group_words},
        "skipped_rows": len({one.row for one in opened.skipped}),
        "trained": training_facts(folder) if (folder / "log.jsonl").exists() else {},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "notes": [*notes, *retrieval.refused, *([] if classes is None else classes.notes)],
    }  # fmt: skip
    report = Report(rows, settings)
    name = REPORT if part == "test" else part
    report.save(folder / f"{name}.json")
    found = Evaluated(
        folder=folder, title=f"{folder.absolute().name}: {', '.join(opened.model.plan.modalities)}",
        plan=opened.model.plan, table=table, retrieval=retrieval, classes=classes, splits=data.splits,
        skipped=opened.skipped, shown=data.shown, labels=None if data.labels is None else data.labels[chosen],
        names=data.names, group_words=data.group_words, settings=(folder / RUN).read_text(encoding="utf-8"),
        seconds=seconds, notes=notes, part=part, map_method=map_method,
    )  # fmt: skip
    write_page(folder / f"{name}.html", found, report)
    return report


def sampled(n: int, most: int) -> Int[Tensor, " rows"]:
    """All of n rows, or so many of them, always the same ones, in their order.

    >>> sampled(3, 5).tolist(), len(sampled(100, 5))
    ([0, 1, 2], 5)
    """
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


def _classes(
    opened: OpenedRun,
    data: EvaluationData,
    table: EmbeddingTable,
    templates: Sequence[str],
    max_rows: int,
    tick: Callable[[str], None],
) -> tuple[ClassMeasures | None, list[str]]:
    """Zero-shot if the model reads texts, else class centroids; and what there is to say if neither can be."""
    if data.labels is None or not bool((data.labels >= 0).any()):
        return None, []
    if len(data.names) == 1:
        return None, [f"There is one class only, {data.names[0]!r}, so that nothing is classified."]
    method, seed = opened.run.method, opened.run.seed
    spoken = [name for name in data.texts if opened.model.supports(Subset(name))]
    if spoken:
        target = spoken[0]
        texts, numbers = class_prompts(data.names, templates)
        vectors = embed_texts(opened.model, opened.readers[target], target, texts)
        prompts = vectors, numbers
        found = measure_zero_shot(table, data.labels, data.names, prompts, Subset(target), texts, method, seed, tick)
        return found, [] if found else [f"No query could be compared with prompts in {target}."]
    tick("training rows, for class centroids")
    train = opened.splits.train
    if isinstance(train, FilledDataset):  # centroids of what is there, not of zeros
        train = train.dataset
    labelled = (data.train_labels >= 0).nonzero().squeeze(1)
    if not len(labelled):
        return None, ["No training row has a class, so that nothing is classified."]
    rows = labelled[sampled(len(labelled), max_rows)]
    known = replace(embed(opened.model, RowsOf(train, rows)), labels=data.train_labels[rows])
    notes = [f"Class centroids are of {len(rows):,} of {len(labelled):,} training rows, drawn at random."]
    found = measure_centroids(known, table, data.labels, data.names, method, seed)
    return found, notes if len(rows) < len(labelled) else []


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


@contextmanager
def _told(progress: bool) -> Iterator[Callable[[str], None]]:
    """A line that says what is being measured."""
    columns = (SpinnerColumn(), TextColumn("measuring {task.description}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not progress) as bar:
        task = bar.add_task("")
        yield lambda what: bar.update(task, description=what)
