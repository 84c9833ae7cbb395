"""The report page: its sections in their order, and what was found in one paragraph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.manifest import Problem
from confu.embeddings import EmbeddingTable
from confu.evaluation.html import Card, Examples, Figure, Group, Part, PlanText, Section, Table, write_report
from confu.evaluation.map2d import map_2d
from confu.evaluation.mutual_information import InformationAccount
from confu.evaluation.plots import point_map, to_svg, training_curves
from confu.evaluation.report import Report
from confu.plan import Plan
from confu.runs.measures import ClassMeasures, RetrievalMeasures, listed
from confu.runs.page_media import CellView
from confu.runs.page_results import (
    availability_parts,
    class_section,
    gain_section,
    information_section,
    overlap_section,
    percent,
    retrieval_section,
    robustness_section,
)
from confu.runs.robustness import Robustness
from confu.runs.summary import QuerySummary, chance_sentences
from confu.training.log import best_record, read_log

_MAX_CURVES = 12
_MAX_POINTS = 1000  # of a map: each is an element of the page
_MAX_MAPPED = 8  # subsets in a map
_MAX_PROBLEMS = 200
_WORST = 6  # queries with their pictures and sounds

Presence = Mapping[str, Bool[Tensor, " _"]]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What the page is about.

    Attributes:
        folder: of the run; its log makes the curves.
        title: of the page.
        plan: of the model.
        table: the embeddings of all rows of the part.
        retrieval: on these rows or on some of them.
        summary: of the retrieval.
        information: what modalities tell of one another, on the rows of `retrieval`.
        robustness: what queries find when a part of them is disturbed; empty if that was not measured.
        classes: None without labels.
        splits: "train", ... -> modality -> which rows have it.
        skipped: why rows were set aside.
        views: by modality, how its cells are shown.
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
    summary: Sequence[QuerySummary] = ()
    information: InformationAccount | None = None
    robustness: Robustness = field(default_factory=Robustness)
    classes: ClassMeasures | None = None
    splits: Mapping[str, Presence] = field(default_factory=dict)
    skipped: Sequence[Problem] = ()
    views: Mapping[str, CellView] = field(default_factory=dict)
    labels: Int[Tensor, " n"] | None = None
    names: Sequence[str] = ()
    group_words: str = ""
    settings: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    part: str = "test"
    map_method: str = "pca"


def write_page(path: Path, evaluated: Evaluated, report: Report) -> Path:
    """Write the page, whole or not at all."""
    return write_report(path, evaluated.title, page_sections(evaluated), page_summary(evaluated), report.versions)


def page_sections(evaluated: Evaluated) -> list[Section]:
    """The sections from top to bottom; one that has nothing to say is left out."""
    retrieval, classes = evaluated.retrieval, evaluated.classes
    sections: list[Group | None] = [
        _training_section(evaluated.folder),
        retrieval_section(retrieval, evaluated.group_words, evaluated.notes),
        gain_section(retrieval),
        None if evaluated.information is None else information_section(evaluated.information),
        None if classes is None else class_section(classes),
        overlap_section(retrieval, classes),
        robustness_section(evaluated.robustness),
        _worst_section(evaluated),
        _map_section(evaluated),
        _data_section(evaluated) if evaluated.splits else None,
        _settings_section(evaluated),
    ]
    return [section for section in sections if section is not None]


def page_summary(evaluated: Evaluated) -> str:
    """What was found, in a few sentences."""
    retrieval, classes, part = evaluated.retrieval, evaluated.classes, evaluated.part
    sentences = [f"{len(evaluated.table):,} {part} rows of {listed(evaluated.plan.modalities)}."]
    if retrieval.main is None:
        sentences.append("Nothing could be ranked.")
    else:
        query, target = map(str, retrieval.main)
        k, chance = retrieval.k, retrieval.ranked[query, target].chance(retrieval.k)
        first, among_k = (retrieval.find(f"recall@{number}", query, target) for number in (1, k))
        if first is not None and among_k is not None:
            also = f", and among the first {k} for {percent(among_k.value)} %" if k > 1 else ""
            sentences.append(
                f"Asked with {query}, the model finds the row's own {target} first for {percent(first.value)} % of "
                f"{first.count:,} rows{also} (chance {percent(chance)} %)."
            )
        gain = retrieval.find(f"recall@{k} gain", query, target)
        if gain is not None and gain.low is not None and gain.high is not None:
            word = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not clearly different from"
            sentences.append(
                f"The fused embedding is {word} the mean of the single ones ({100 * gain.value:+.1f} points, 95 % "
                f"interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
            )
        sentences += chance_sentences([line for line in evaluated.summary if not line.learned])
    if classes is not None:
        accuracy = {row.query: row.value for row in classes.result.rows}
        mean = accuracy.get(f"mean({', '.join(classes.main.split('+'))})")
        beside = f", the mean of the single embeddings {percent(mean)} %" if mean is not None else ""
        sentences.append(
            f"By {classes.how}, {classes.main} names the class of {percent(accuracy[classes.main])} % of rows{beside} "
            f"(guessing: {percent(1 / len(classes.names))} %)."
        )
    presence = evaluated.splits.get(part, {})
    lacking = int((~torch.stack(list(presence.values())).all(0)).sum()) if presence else 0
    if lacking:
        sentences.append(f"{lacking:,} {part} rows lack a modality.")
    return " ".join(sentences)


def training_facts(folder: Path) -> dict[str, Any]:
    """Steps, epochs, the epoch that the validation rows chose, and seconds; empty before the first validation."""
    records = read_log(folder, "validation")
    if not records:
        return {}
    best = best_record(records)
    return {
        "steps": records[-1]["step"],
        "epochs": records[-1]["epoch"],
        "best_epoch": best["epoch"],
        "best_validation_loss": best["total"],
        **({"best_validation_mrr": best["mrr"]} if "mrr" in best else {}),
        "train_seconds": round(records[-1].get("seconds", 0.0), 1),
    }


def _training_section(folder: Path) -> Group:
    """Loss curves from the log, and how training went."""
    if not (folder / "log.jsonl").exists():
        return Group("Training", [], "There is no log.jsonl in the run folder, so that the curves cannot be drawn.")
    curves: list[dict[str, tuple[list[float], list[float]]]] = []
    for kind in ("train", "validation"):
        curves.append({})
        for record in read_log(folder, kind):  # a term without complete rows in a batch has no point there
            for name, value in {"total": record["total"], **record["terms"]}.items():
                steps, losses = curves[-1].setdefault(name, ([], []))
                steps.append(record["step"])
                losses.append(value)
    names = list(dict.fromkeys(["total", *curves[0], *curves[1]]))
    if not any(curves):
        return Group("Training", [], "The log holds no step yet.")
    shown, left = names[:_MAX_CURVES], names[_MAX_CURVES:]
    drawn = [{name: one[name] for name in shown if name in one} for one in curves]
    svg = to_svg(training_curves(*drawn, x_label="step", y_label="loss"))
    caption = "The loss of each term in nats, on batches of the training rows and on the validation rows."
    if left:
        caption += f" {len(left)} further terms are not drawn; log.jsonl has them."
    validations = read_log(folder, "validation")
    figures = [Figure("", svg, f"Curves of {len(shown)} losses over training.", caption)]
    ranked = [{"mean": record["mrr"], **record["mrr_by_query"]} for record in validations if "mrr" in record]
    if ranked:
        steps = [record["step"] for record in validations]
        ranks = {name: (steps, [one[name] for one in ranked]) for name in list(ranked[0])[:_MAX_CURVES]}
        svg = to_svg(training_curves({}, ranks, x_label="step", y_label="mean reciprocal rank"))
        caption = (
            "The mean reciprocal rank of each query among validation rows; the mean over queries chooses the epoch."
        )
        figures.append(Figure("", svg, f"Curves of {len(ranks)} mean reciprocal ranks over training.", caption))
    text, facts = "", training_facts(folder)
    if facts:
        chosen = "mean reciprocal rank is highest" if "best_validation_mrr" in facts else "loss is lowest"
        text = (
            f"{facts['steps']:,} steps, {facts['epochs']} epochs, {facts['train_seconds']:.0f} s. The model is that of "
            f"epoch {facts['best_epoch']}, whose validation {chosen}."
        )
    return Group("Training", figures, text)


def _worst_section(evaluated: Evaluated) -> Group | None:
    """The queries whose own target stands furthest back: what was asked, sought, and found first."""
    measures, views, labels = evaluated.retrieval, evaluated.views, evaluated.labels
    if measures.main is None:
        return None
    query, target = measures.main
    outcome = measures.ranked[str(query), str(target)]
    ranks = outcome.ranks()
    order = torch.argsort(ranks, descending=True, stable=True)
    order = order[ranks[order] > 1][:_WORST]
    if not len(order):
        return Group("The worst queries", [], f"None: each {query} finds its own {target} first.")
    cards, ids = [], measures.table.ids
    for at in order.tolist():
        row, first = int(outcome.rows[at]), int(outcome.first[at])
        text = ""
        if labels is not None and int(labels[row]) >= 0 and int(labels[first]) >= 0:
            text = f"class: {evaluated.names[int(labels[row])]}; found first: {evaluated.names[int(labels[first])]}"
        own, other = ids[row], ids[first]
        exhibits = [views[name].show(own, f"asked with: {name}") for name in query if name in views]
        exhibits += [views[name].show(own, f"sought: its {name}") for name in target if name in views]
        exhibits += [views[name].show(other, f"found first: {name} of {other}") for name in target if name in views]
        title = f"{own}: rank {ranks[at]:g} of {outcome.gallery:,}"
        cards.append(Card(title, text=text, exhibits=exhibits))
    text = (
        f"{query} → {target}: the rows whose own {target} stands furthest back, as the model sees them. Look for wrong "
        "pairs and for targets that say the same: they are not the model's errors."
    )
    return Group("The worst queries", [Examples("", cards)], text)


def _map_section(evaluated: Evaluated) -> Group:
    """Points by subset, and those of the main subset by class."""
    table, labels, method = evaluated.retrieval.table, evaluated.labels, evaluated.map_method
    main = None if evaluated.retrieval.main is None else evaluated.retrieval.main[0]
    singles = [subset for subset in table.subsets if not subset.is_fused]
    fused = sorted((one for one in table.subsets if one.is_fused), key=lambda one: (one != main, -len(one)))
    chosen = [*singles, *fused][:_MAX_MAPPED]
    limit = _MAX_POINTS // len(chosen)
    vectors, colours, few = [], [], False
    for subset in chosen:
        complete = table.rows_with(subset)
        rows = _drawn(complete, limit)
        vectors.append(table[subset][rows])
        colours += [str(subset)] * len(rows)
        few |= len(rows) < len(complete)
    parts = []
    if colours:
        caption = (
            "Subsets that lie apart are a modality gap: each side is still ranked by its neighbours on the other side."
        )
        caption += f" Of each, {limit:,} rows at most, drawn at random." if few else ""
        more = len(table.subsets) - len(chosen)
        caption += f" {more} further subsets are not drawn." if more else ""
        parts.append(_map_figure("By subset", (torch.cat(vectors), colours), list(map(str, chosen)), caption, method))
    if labels is not None and evaluated.names and bool((labels >= 0).any()):
        subset = main if main is not None and main in table.vectors else max(table.subsets, key=len)
        complete = table.rows_with(subset)
        complete = complete[labels[complete] >= 0]
        rows = _drawn(complete, _MAX_POINTS)
        if len(rows):
            few_rows = (
                f" {len(rows):,} of {len(complete):,} rows, drawn at random." if len(rows) < len(complete) else ""
            )
            classes = [str(evaluated.names[label]) for label in labels[rows].tolist()]
            caption = f"The embeddings of {subset}.{few_rows}"
            points = table[subset][rows], classes
            parts.append(_map_figure(f"{subset}, by class", points, list(evaluated.names), caption, method))
    text = "t-SNE: neighbours are kept, distances and sizes are not."
    if method == "pca":
        text = (
            "Vectors of many numbers, drawn in the two directions in which they differ most. What is far apart here is "
            "far apart; what is close here need not be."
        )
    return Group("A map of the embeddings", parts, text)


def _map_figure(
    heading: str, points: tuple[Tensor, Sequence[str]], order: Sequence[str], caption: str, method: str
) -> Figure:
    vectors, colours = points
    placed = map_2d(vectors, method)
    across, up = [f"{percent(share)} % of the variance" for share in placed.shares or ()] or ["", ""]
    svg = to_svg(point_map(placed.points.tolist(), colours, across, up, order))
    return Figure(heading, svg, f"{len(colours)} points in {len(set(colours))} colours.", caption)


def _drawn(rows: Tensor, limit: int) -> Tensor:
    """All of the rows, or so many of them, always the same ones, in their order."""
    if len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:limit].sort().values]


def _data_section(evaluated: Evaluated) -> Group:
    """How complete the data are, what was set aside, and the numbers by what rows have."""
    splits, subsets, skipped = evaluated.splits, evaluated.plan.subsets, evaluated.skipped
    totals = {name: len(next(iter(presence.values()), ())) for name, presence in splits.items()}
    rows = [["all rows", *(f"{total:,}" for total in totals.values())]]
    for subset in subsets:
        counts = {name: int(torch.stack([one[m] for m in subset]).all(0).sum()) for name, one in splits.items()}
        shares = [f"{n:,} ({percent(n / totals[name])} %)" if totals[name] else "0" for name, n in counts.items()]
        rows.append([str(subset), *shares])
    folded = f"All {len(subsets)} subsets" if len(subsets) > 16 else ""
    patterns = {}
    for name, presence in splits.items():
        masks = zip(*(mask.tolist() for mask in presence.values()))
        patterns[name] = Counter("+".join(m for m, has in zip(presence, row) if has) or "nothing" for row in masks)
    total = sum(patterns.values(), Counter())
    pattern_rows = [[one, *(f"{counts[one]:,}" for counts in patterns.values())] for one, _ in total.most_common()]
    parts: list[Part] = [
        Table("Complete rows of each subset", ["", *splits], rows, "", (0,), folded),
        Table(
            "What rows have", ["exactly", *splits], pattern_rows, "How many rows have these modalities and no others."
        ),
        *availability_parts(evaluated.retrieval, evaluated.classes),
    ]
    if skipped:
        more = f" The first {_MAX_PROBLEMS} of {len(skipped)}." if len(skipped) > _MAX_PROBLEMS else ""
        by_column = Counter(problem.column or "the table" for problem in skipped).most_common()
        caption = f"{listed([f'{number} in {column}' for column, number in by_column])}.{more}"
        cells = [[one.id, str(one.row), one.column, one.what] for one in skipped[:_MAX_PROBLEMS]]
        folded = f"All {len(skipped)} problems" if len(skipped) > 12 else ""
        columns = ["id", "row", "column", "what is wrong"]
        parts.append(Table("Rows set aside, and why", columns, cells, caption, (), folded))
    text = "Every row has every modality."
    if not all(bool(mask.all()) for presence in splits.values() for mask in presence.values()):
        text = (
            "Rows lack modalities. A row that is complete for two subsets is a pair of theirs; one with a modality "
            "alone is a wrong answer for others."
        )
    aside = len({problem.row for problem in skipped})
    text += f" {aside:,} rows were set aside." if aside else " No row was set aside."
    return Group("The data", parts, text)


def _settings_section(evaluated: Evaluated) -> Group:
    """The plan, the run file, and what took how long."""
    plan_words = "Which subsets are aligned with which, with what weight."
    parts: list[Part] = [PlanText("The plan", str(evaluated.plan), plan_words)]
    if evaluated.settings:
        parts.append(PlanText("Settings", evaluated.settings, folded="The resolved run file"))
    seconds = dict(evaluated.seconds)
    if (evaluated.folder / "log.jsonl").exists() and (facts := training_facts(evaluated.folder)):
        seconds = {"training": facts["train_seconds"], **seconds}
    parts.append(Table("Times", ["", "seconds"], [[name, f"{value:.1f}"] for name, value in seconds.items()]))
    return Group("Settings", parts)
