"""The page as a whole: its sections in their order, and what was found in one paragraph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.manifest import Problem
from confu.embeddings import EmbeddingTable
from confu.evaluation.html import Group, Section, write_html
from confu.evaluation.report import Report
from confu.plan import Plan
from confu.runs.evaluating.class_measures import ClassMeasures
from confu.runs.evaluating.evaluation_page.classes import available_table, class_section, overlap_section
from confu.runs.evaluating.evaluation_page.coverage import Presence, coverage_section
from confu.runs.evaluating.evaluation_page.map import map_section
from confu.runs.evaluating.evaluation_page.media import Shown
from confu.runs.evaluating.evaluation_page.retrieval import available_parts, gain_section, retrieval_section
from confu.runs.evaluating.evaluation_page.training import settings_section, training_section
from confu.runs.evaluating.evaluation_page.worst import worst_section
from confu.runs.evaluating.retrieval_measures import RetrievalMeasures
from confu.runs.words import count, listed, percent, points


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What the page is about.

    Attributes:
        folder: of the run; its log makes the curves.
        title: of the page.
        plan: of the model.
        table: the embeddings of all rows of the part.
        retrieval: on these rows or on some of them.
        classes: None without labels.
        splits: "train", ... -> modality -> which rows have it.
        skipped: why rows were set aside.
        shown: by modality, how its cells are shown.
        labels: (n,) the class of each row of `retrieval.table`, -1 where it is not known.
        names: of the classes.
        group_words: what rows of one group are; empty without groups.
        settings: the resolved run file.
        seconds: what took how long.
        notes: what a reader must know of the retrieval, e.g. that only some rows were measured.
        part: which rows were evaluated, "test" or "validation".
        map_method: see `confu.evaluation.map2d.map_2d`.
    """

    folder: Path
    title: str
    plan: Plan
    table: EmbeddingTable
    retrieval: RetrievalMeasures
    classes: ClassMeasures | None = None
    splits: Mapping[str, Presence] = field(default_factory=dict)
    skipped: Sequence[Problem] = ()
    shown: Mapping[str, Shown] = field(default_factory=dict)
    labels: Int[Tensor, " n"] | None = None
    names: Sequence[str] = ()
    group_words: str = ""
    settings: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    part: str = "test"
    map_method: str = "pca"


def page_sections(found: Evaluated) -> list[Section]:
    """The sections from top to bottom; one that has nothing to say is left out."""
    retrieval, classes = found.retrieval, found.classes
    by_availability = available_parts(retrieval)
    if classes is not None and (by_class := available_table(classes)) is not None:
        by_availability.append(by_class)
    main = None if retrieval.main is None else retrieval.main[0]
    training, trained = training_section(found.folder)
    seconds = {"training": trained["train_seconds"]} if trained else {}
    sections: list[Group | None] = [
        training,
        retrieval_section(retrieval, found.group_words, found.notes),
        gain_section(retrieval),
        None if classes is None else class_section(classes),
        overlap_section(retrieval, classes),
        worst_section(retrieval, found.shown, found.labels, found.names),
        map_section(retrieval.table, found.labels, found.names, main, found.map_method),
        coverage_section(found.splits, found.plan.subsets, found.skipped, by_availability) if found.splits else None,
        settings_section(found.plan, found.settings, {**seconds, **found.seconds}),
    ]
    return [one for one in sections if one is not None]


def page_summary(found: Evaluated) -> str:
    """What was found, in a few sentences."""
    sentences = [f"{count(len(found.table))} {found.part} rows of {listed(found.plan.modalities)}."]
    sentences += _found_by_retrieval(found.retrieval)
    if found.classes is not None:
        sentences.append(_found_by_class(found.classes))
    presence = found.splits.get(found.part, {})
    lacking = int((~torch.stack(list(presence.values())).all(0)).sum()) if presence else 0
    if lacking:
        sentences.append(f"{count(lacking)} {found.part} rows lack a modality.")
    return " ".join(sentences)


def _found_by_retrieval(measures: RetrievalMeasures) -> list[str]:
    if measures.main is None:
        return ["Nothing could be ranked."]
    query, target = map(str, measures.main)
    k, gallery = measures.k, measures.ranked[query, target].gallery
    first, most = (measures.find(f"recall@{one}", query, target) for one in (1, k))
    sentences = []
    if first is not None and most is not None:
        also = f", and among the first {k} for {points(most.value)}" if k > 1 else ""
        sentences.append(
            f"Asked with {query}, the model finds the row's own {target} first for {points(first.value)} of "
            f"{count(first.count)} rows{also} (chance {percent(min(1.0, k / gallery))} %)."
        )
    gain = measures.find(f"recall@{k} gain", query, target)
    if gain is not None and gain.low is not None and gain.high is not None:
        word = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not clearly different from"
        sentences.append(
            f"The fused embedding is {word} the mean of the single ones ({100 * gain.value:+.1f} points, 95 % interval "
            f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
        )
    return sentences


def _found_by_class(measures: ClassMeasures) -> str:
    accuracy = {row.query: row.value for row in measures.result.rows}
    query = measures.main
    mean = accuracy.get(f"mean({', '.join(query.split('+'))})")
    beside = f", the mean of the single embeddings {points(mean)}" if mean is not None else ""
    return (
        f"By {measures.how}, {query} names the class of {points(accuracy[query])} of rows{beside} (guessing: "
        f"{points(1 / len(measures.names))})."
    )


def write_page(path: Path, found: Evaluated, report: Report) -> Path:
    """Write the page, whole or not at all."""
    return write_html(path, found.title, page_sections(found), page_summary(found), report.versions)
