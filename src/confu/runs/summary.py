"""What a trained model finds, as a table and in words: each query beside chance, each fusion beside its parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from rich.table import Table
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.ranking import first_hit_chances, usual_ks
from confu.evaluation.retrieval import Ranked, rank_pair
from confu.evaluation.scoring import mean_name, why_not
from confu.nn.encoders.registry import ENCODERS
from confu.plan import Subset
from confu.runs.columns import SCALED
from confu.runs.measures import listed
from confu.runs.run_file import RunFile

ERRORS = 3
"""Standard errors above chance that count as learned."""
_FEW = 30  # queries below which only large differences can be told from chance
_MOST_QUERIES = 30  # in the table
_MOST_NAMED = 6  # in a sentence
_MOST_TOLD = 16  # sentences on information


@dataclass(frozen=True)
class QuerySummary:
    """One query -> target, beside chance; of a fused query also its parts, on the same rows.

    Attributes:
        query, target: subsets, as text.
        k: of the recall.
        recall, mrr: recall@k and the mean reciprocal rank, fractions.
        chance, chance_mrr: those of a random order.
        count: queries, which are also the gallery.
        learned: whether one of the two is above chance by `ERRORS` standard errors.
        mean, mean_mrr: of the mean of the parts' embeddings; None for a single query.
        best_single, single, single_mrr: the part that finds most, and what it finds.
    """

    query: str
    target: str
    k: int
    recall: float
    chance: float
    mrr: float
    chance_mrr: float
    count: int
    learned: bool
    mean: float | None = None
    mean_mrr: float | None = None
    best_single: str | None = None
    single: float | None = None
    single_mrr: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def summarise(
    table: EmbeddingTable,
    ranked: Mapping[tuple[str, str], Ranked],
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> list[QuerySummary]:
    """A line for each query that has been ranked, of a single target where there are any; means are beside fusions.

    Args:
        table: whose rows were ranked.
        ranked: (query, target), by name -> the outcome; see `confu.runs.measures.rank_queries`.
        contents: with which they were ranked.
    """
    single_targets = {target for _, target in ranked if "+" not in target}
    beside = {(mean_name(Subset.parse(query)), target) for query, target in ranked if "+" in query}
    lines = []
    for (query, target), outcome in ranked.items():
        if (single_targets and target not in single_targets) or (query, target) in beside:
            continue
        k = usual_ks([outcome.gallery])[-1]
        recall, mrr = float(outcome.recall(k).mean()), float(outcome.reciprocal().mean())
        (chance, error), (chance_mrr, error_mrr) = chance_of(outcome, k)
        parts = _parts(table, ranked, Subset.parse(query), target, k, contents) if "+" in query else {}
        lines.append(
            QuerySummary(
                query=query,
                target=target,
                k=k,
                recall=recall,
                chance=chance,
                mrr=mrr,
                chance_mrr=chance_mrr,
                count=len(outcome),
                learned=recall > chance + ERRORS * error or mrr > chance_mrr + ERRORS * error_mrr,
                **parts,
            )
        )
    return sorted(lines, key=lambda line: (line.target, line.query.count("+"), line.query))


def _parts(
    table: EmbeddingTable,
    ranked: Mapping[tuple[str, str], Ranked],
    query: Subset,
    target: str,
    k: int,
    contents: Mapping[str, Tensor] | None,
) -> dict[str, Any]:
    """The mean of the parts and the best of them, on the rows of the fused query."""
    fused, mean = ranked[str(query), target], ranked.get((mean_name(query), target))
    parts: dict[str, Any] = {}
    if mean is not None:
        parts = {"mean": float(mean.recall(k).mean()), "mean_mrr": float(mean.reciprocal().mean())}
    rows, singles = None, []
    for name in query:
        single = ranked.get((name, target))
        if single is None or why_not(table, Subset(name), Subset.parse(target)) is not None:
            continue
        if len(single) != len(fused):  # more rows have the part than have all of it: a larger gallery
            rows = table.select(fused.rows) if rows is None else rows
            kept = None if contents is None else {key: numbers[fused.rows] for key, numbers in contents.items()}
            single = rank_pair(rows, Subset(name), Subset.parse(target), contents=kept)[name]
        singles.append((float(single.recall(k).mean()), float(single.reciprocal().mean()), name))
    if singles:
        parts["single"], parts["single_mrr"], parts["best_single"] = max(singles)
    return parts


def chance_of(outcome: Ranked, k: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """recall@k and mean reciprocal rank of a random order, each with the standard error of its mean over queries."""
    m, right = outcome.gallery, torch.ones_like(outcome.rows) if outcome.right is None else outcome.right
    members, counts = right.cpu().unique(return_counts=True)
    moments = []
    for g in members:
        chances = first_hit_chances(m - g, g)
        ranks = torch.arange(1, len(chances) + 1)
        hit, first, square = chances[:k].sum(), (chances / ranks).sum(), (chances / ranks**2).sum()
        moments.append(torch.stack([hit, first, hit * (1 - hit), square - first**2]))
    means = (torch.stack(moments) * counts[:, None]).sum(0) / counts.sum()
    hit, first, *variances = means.tolist()
    errors = [math.sqrt(max(0.0, variance) / len(right)) for variance in variances]
    return (hit, errors[0]), (first, errors[1])


def summary_table(lines: Sequence[QuerySummary]) -> Table:
    """The table of a terminal: chance in brackets, and beside a fused query the mean and the best of its parts."""
    k = max((line.k for line in lines), default=1)
    table = Table(box=None, pad_edge=False)
    table.add_column("query -> target", no_wrap=True)
    fused = any(line.mean is not None or line.single is not None for line in lines)
    names = [
        f"recall@{k} (chance)",
        "MRR (chance)",
        *(["mean: recall / MRR", "best part: recall / MRR"] if fused else []),
        "queries",
    ]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines[:_MOST_QUERIES]:
        at = f" at {line.k}" if line.k != k else ""
        cells = [f"{line.recall:.3f} ({line.chance:.3f}){at}", f"{line.mrr:.3f} ({line.chance_mrr:.3f})"]
        if fused:
            cells.append("" if line.mean is None else f"{line.mean:.3f} / {line.mean_mrr:.3f}")
            cells.append("" if line.single is None else f"{line.best_single} {line.single:.3f} / {line.single_mrr:.3f}")
        table.add_row(f"{line.query} -> {line.target}", *cells, f"{line.count:,}")
    return table


def chance_sentences(failed: Sequence[QuerySummary]) -> list[str]:
    """Of queries that are at chance: that nothing was learned, or that there are too few rows to tell."""
    sentences = []
    for few in (False, True):
        group = [line for line in failed if (line.count < _FEW) == few]
        if not group:
            continue
        names, many = listed([f"{line.query} -> {line.target}" for line in group], _MOST_NAMED), len(group) > 1
        if few:
            most = max(line.count for line in group)
            what = f"{names} cannot be told from chance among {most} rows"
        else:
            what = f"{names} {'are' if many else 'is'} at chance: nothing was learned"
        best = max(group, key=lambda line: line.recall - line.chance)
        sentences.append(f"{what} (recall@{best.k} {'at most ' * many}{best.recall:.3f}, by chance {best.chance:.3f}).")
    return sentences


def summary_sentences(lines: Sequence[QuerySummary], folder: str, run: RunFile) -> list[str]:
    """What the table says in words: queries at chance and what to try, and fusions that a part of theirs does without.

    Args:
        lines: of `summarise`.
        folder: of the run, for the commands.
        run: its settings.
    """
    sentences = []
    if len(lines) > _MOST_QUERIES:
        sentences.append(f"{len(lines) - _MOST_QUERIES} further queries are in the report.")
    failed = [line for line in lines if not line.learned]
    sentences += chance_sentences(failed)
    sentences += [
        f"{line.query} -> {line.target} finds less than {line.best_single} alone (MRR {line.mrr:.3f} and "
        f"{line.single_mrr:.3f}): fusion does not help here."
        for line in lines
        if line.learned and line.single_mrr is not None and line.mrr < line.single_mrr
    ]
    if failed:
        sentences.append(
            f"`confu doctor {folder}` looks for causes. Then try, in this order: {'; '.join(what_to_try(run))}. See "
            'docs/training.md, "When nothing is learned".'
        )
    return sentences


def information_sentences(account: Mapping[str, Any]) -> list[str]:
    """What fusion is worth in nats, of `InformationAccount.to_dict`; of many queries the first ones."""
    sentences = account["sentences"]
    left = len(sentences) - _MOST_TOLD
    more = [f"{left} further sentences on information are in the report."] if left > 0 else []
    return [*sentences[:_MOST_TOLD], *more]


def what_to_try(run: RunFile) -> list[str]:
    """Changes of a run that learned nothing, in the order of docs/training.md, without those that it has already."""
    scratch, dropout = {}, False
    for name, modality in run.modalities.items():
        encoder: dict[str, Any] = modality.encoder if isinstance(modality.encoder, dict) else {"kind": modality.encoder}
        encoder = encoder.get("encoder", encoder)  # of the frames of a video
        row = ENCODERS.get(encoder.get("kind") or encoder["name"])
        if row is not None and row.reads and not row.pretrained and not encoder.get("pretrained"):
            scratch[name] = modality
            dropout |= bool(encoder.get("dropout"))
    kinds = {kind for row in ENCODERS.values() for kind in row.pretrained}
    pretrained = [name for name, modality in scratch.items() if modality.kind in kinds]
    unscaled = [
        name
        for name, modality in scratch.items()
        if modality.kind in SCALED and (modality.reader or {}).get("scale", "none") == "none"
    ]
    changes = [
        (unscaled, f"standardise what the encoder of {listed(unscaled)} gets (`reader: {{scale: standard}}`)"),
        (pretrained, f"a pretrained encoder of {listed(pretrained)} (`confu init --pretrained`)"),
        (scratch, f"smaller encoders{'' if dropout else ' with `dropout: 0.2`'}"),
        (run.train.select != "retrieval", "`train.select: retrieval`"),
        (True, "more `train.epochs`" + ("" if run.train.patience is None else " and `train.patience`")),
        (True, "a larger `train.batch_size` and other values of `train.lr`"),
        (run.loss.equal_inputs == "negatives", "rows that mean the same as no negatives (`loss.equal_inputs`)"),
        (True, "more rows"),
    ]
    return [text for applies, text in changes if applies]
