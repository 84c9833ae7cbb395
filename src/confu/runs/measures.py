"""What an evaluation measures on one table: retrieval, fusion's gain, classes, and rows by what they have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.data.readers import Reader
from confu.embeddings import EmbeddingTable
from confu.evaluation.availability import EVERY_ROW, AvailableRanks, availability_rows, rank_by_availability
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.classes import answer_with_largest, class_counts, evaluate_centroids
from confu.evaluation.overlap import OverlapResult, evaluate_overlap
from confu.evaluation.ranking import chance_recall, usual_ks
from confu.evaluation.report import ReportRow
from confu.evaluation.retrieval import Ranked, rank_pair
from confu.evaluation.scoring import disjoint_pairs, mean_name, queryable_subsets, singles_of, why_not
from confu.evaluation.zero_shot import ZeroShotResult, class_vectors, evaluate_zero_shot
from confu.inference.embedding import embed_batch
from confu.plan import Subset
from confu.types import Batch, Inputs

CONFIDENCE = 0.95
GROUP = " (same group)"
"""At the end of a metric's name where every row of the query's group is right."""
TEMPLATES = ("{}", "a {}", "the {}")
ZERO_SHOT, CENTROID = "zero-shot", "nearest class centroid"


Labels = Int[Tensor, " _"] | Bool[Tensor, "_ _"]
"""The class of each row, -1 where it is not known; or (n, classes) a mask, where rows may have several."""


def has_class(labels: Labels) -> Bool[Tensor, " n"]:
    """The rows that have a class."""
    return labels.any(dim=1) if labels.ndim == 2 else labels >= 0


def label_tensor(sets: Sequence[Sequence[str]], names: Sequence[str], several: bool) -> Labels:
    """The class numbers of rows, -1 for none; or a mask, if rows may have several.

    >>> label_tensor([("b",), ()], ["a", "b"], False).tolist(), label_tensor([("b", "a")], ["a", "b"], True).tolist()
    ([1, -1], [[True, True]])
    """
    number = {name: position for position, name in enumerate(names)}
    if not several:
        return torch.tensor([number.get(own[0], -1) if own else -1 for own in sets], dtype=torch.long)
    mask = torch.zeros((len(sets), len(names)), dtype=torch.bool)
    pairs = [(row, number[label]) for row, own in enumerate(sets) for label in own if label in number]
    rows, classes = zip(*pairs) if pairs else ((), ())
    mask[list(rows), list(classes)] = True
    return mask


@dataclass(frozen=True, eq=False)
class RetrievalMeasures:
    """Retrieval on one table.

    Attributes:
        table: the rows that were measured.
        ks: the k of recall@k.
        ranked: (query, target), by name -> the outcome; with `mean(...)` beside fused queries.
        available: by target, each row asking with the largest subset that it has.
        rows: every number.
        refused: why a method cannot answer some queries, and which have too few complete rows.
        main: the largest subset that finds the preferred target, and that target; None if nothing can be asked.
        overlap: which queries of the main one find the target among the first k; None for a single query.
    """

    table: EmbeddingTable
    ks: tuple[int, ...]
    ranked: dict[tuple[str, str], Ranked]
    available: dict[Subset, AvailableRanks]
    rows: list[ReportRow]
    refused: list[str] = field(default_factory=list)
    main: tuple[Subset, Subset] | None = None
    overlap: OverlapResult | None = None

    @property
    def k(self) -> int:
        """The k that figures show: the largest."""
        return self.ks[-1]

    def find(self, metric: str, query: str, target: str) -> ReportRow | None:
        """A number by its names."""
        names = (metric, query, target)
        return next((row for row in self.rows if (row.metric, row.query, row.target) == names), None)


@dataclass(frozen=True, eq=False)
class ClassMeasures:
    """Classification on one table.

    Attributes:
        how: `ZERO_SHOT` or `CENTROID`.
        names: of the classes.
        labels: (n,) the class of each row, -1 where it is not known; or (n, classes) all classes of each row.
        result: accuracies, and what was predicted for each row.
        prompts: the texts that stand for the first class, for zero-shot.
        main: the query that figures show.
        available: (n,) the credit of each row when it answers with the largest subset that it has.
        answered: with which one; empty if only means of embeddings were asked.
        overlap: which queries are right about which rows; None for a single query.
        rows: every number.
        notes: what a reader must know.
    """

    how: str
    names: tuple[str, ...]
    labels: Labels
    result: ZeroShotResult
    prompts: tuple[str, ...]
    main: str
    available: Float[Tensor, " n"]
    answered: Sequence[Subset | None]
    overlap: OverlapResult | None
    rows: list[ReportRow]
    notes: list[str] = field(default_factory=list)


def listed(names: Sequence[str], limit: int = 6) -> str:
    """Names in a sentence; the rest counted.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], limit=2)
    ('a, b and c', 'a, b and 2 more')
    """
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def measure_retrieval(
    table: EmbeddingTable,
    groups: Int[Tensor, " _"] | None = None,
    preferred: Sequence[str] = (),
    tick: Callable[[str], None] = lambda what: None,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> RetrievalMeasures:
    """Measure every query that the table's method can answer.

    Args:
        table: of the test rows, or of some of them.
        groups: (len(table),) rows of one group are right for one another in further numbers; -1 is no group.
        preferred: the modalities to seek first in the main query, e.g. texts.
        tick: told what is being measured.
        contents: by modality, (len(table),) equal numbers for equal inputs: a target equal to the own one is right.
    """
    ranked, refused = rank_queries(table, groups, tick, contents)
    singles = [subset for subset in table.subsets if not subset.is_fused]
    ks = usual_ks(outcome.gallery for outcome in ranked.values())
    rows = [row for names, outcome in ranked.items() for row in _pair_rows(*names, outcome, ks)]
    for (query_name, target_name), fused in ranked.items():
        mean = None if query_name.startswith("mean(") else ranked.get((_mean_of(query_name), target_name))
        if mean is not None and ks[-1] <= fused.gallery:  # fusion's gain over the mean, on the same rows
            difference = fused.recall(ks[-1]) - mean.recall(ks[-1])
            row = measured_row(f"recall@{ks[-1]} gain", query_name, target_name, difference, confidence=CONFIDENCE)
            rows.append(replace(row, note=f"over {_mean_of(query_name)}, same rows"))
    available = {}
    for target in singles:
        tick(f"what is there -> {target}")
        available[target] = rank_by_availability(table, target, contents=contents)
        rows += availability_rows(available[target], ks, confidence=CONFIDENCE)
    main = _main_query(table, ranked, [*map(Subset, preferred), *reversed(singles)])
    overlap = None if main is None else _retrieval_overlap(table, ranked, *main, ks[-1])
    if overlap is not None and main is not None:
        for row in overlap.to_rows(str(main[1]))[: len(overlap.shares)]:  # without those by class
            rows.append(replace(row, metric=f"{row.metric} (recall@{ks[-1]})"))
    return RetrievalMeasures(table, ks, ranked, available, rows, sorted(refused), main, overlap)


def rank_queries(
    table: EmbeddingTable,
    groups: Int[Tensor, " _"] | None = None,
    tick: Callable[[str], None] = lambda what: None,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> tuple[dict[tuple[str, str], Ranked], set[str]]:
    """Rank every query that the table's method can answer; the arguments are those of `measure_retrieval`.

    Returns:
        (query, target), by name -> the outcome; and why other queries were not ranked.
    """
    pairs = disjoint_pairs(queryable_subsets(table))
    refused = {str(reason) for pair in pairs if (reason := why_not(table, *pair))}
    asked = [pair for pair in pairs if why_not(table, *pair) is None]
    singles = [subset for subset in table.subsets if not subset.is_fused]
    if table.score == "cosine" and len(singles) == len(table.subsets) > 2:
        # The mean of single embeddings can be asked where a model without fusion networks embeds no fused subset.
        for target in singles:
            query = Subset(*(name for subset in singles for name in subset if subset != target))
            asked += [(query, target)] if (query, target) not in asked else []
    ranked: dict[tuple[str, str], Ranked] = {}
    for query, target in asked:
        tick(f"{query} -> {target}")
        by_name = rank_pair(table, query, target, groups, contents)
        if not by_name or next(iter(by_name.values())).gallery < 2:
            refused.add(f"{query} -> {target}: fewer than two rows are complete for it, so that nothing can be ranked")
            continue
        ranked.update({(name, str(target)): outcome for name, outcome in by_name.items()})
    return ranked, refused


def _pair_rows(query: str, target: str, outcome: Ranked, ks: Sequence[int]) -> list[ReportRow]:
    rows = []
    for k in (k for k in ks if k <= outcome.gallery):
        credits: list[tuple[str, Tensor, Tensor | None]] = [("", outcome.recall(k), outcome.right)]
        if outcome.groups is not None:
            credits.append((GROUP, outcome.group_recall(k), outcome.groups.members))
        for suffix, credit, members in credits:
            row = measured_row(f"recall@{k}{suffix}", query, target, credit, confidence=CONFIDENCE)
            chance = chance_recall(outcome.gallery, k, members)
            rows.append(replace(row, note=f"chance {chance:.4g}, gallery {outcome.gallery}"))
    rows.append(measured_row("median rank", query, target, outcome.ranks(), statistic="median"))
    rows.append(measured_row("mean reciprocal rank", query, target, outcome.reciprocal()))
    return rows


def _mean_of(query: str) -> str:
    return mean_name(Subset.parse(query))


def _main_query(
    table: EmbeddingTable, ranked: dict[tuple[str, str], Ranked], targets: Sequence[Subset]
) -> tuple[Subset, Subset] | None:
    for target in targets:
        if queries := [query for query in queryable_subsets(table) if (str(query), str(target)) in ranked]:
            return max(queries, key=len), target
    return None


def _retrieval_overlap(
    table: EmbeddingTable, ranked: dict[tuple[str, str], Ranked], query: Subset, target: Subset, k: int
) -> OverlapResult | None:
    names = _compared_queries(table, query, [name for name, sought in ranked if sought == str(target)])
    if len(names) < 2 or k > ranked[names[0], str(target)].gallery:
        return None
    credit = {}
    for name in names:
        outcome = ranked[name, str(target)]
        credit[name] = outcome.spread(outcome.recall(min(k, outcome.gallery)), len(table))
    return _overlap(credit, torch.zeros(len(table), dtype=torch.long), ("every row",))


def _overlap(credit: dict[str, Tensor], labels: Tensor, names: Sequence[str]) -> OverlapResult | None:
    """Who is right about which rows, if any row is complete for all."""
    complete = torch.stack([~values.isnan() for values in credit.values()]).all(0)
    return evaluate_overlap(credit, labels, names) if bool(complete.any()) else None


def _compared_queries(table: EmbeddingTable, query: Subset, asked: Sequence[str]) -> list[str]:
    """The queries that are compared: a fused one, or the mean in its place, and each of its single modalities."""
    if not query.is_fused:  # a model without fusion networks: all singles, and their mean
        means = [name for name in asked if name.startswith("mean(")]
        return [*means[-1:], *(name for name in asked if "+" not in name and not name.startswith("mean("))][:6]
    fused = [str(query)] if str(query) in asked else [mean_name(query)] if singles_of(table, query) else []
    return [name for name in (*fused, *query) if name in asked][:6]


def class_prompts(names: Sequence[str], templates: Sequence[str]) -> tuple[list[str], Int[Tensor, " prompts"]]:
    """Every template with every class name, and the class of each.

    Raises:
        ValueError: without templates, or for one without the place of the name, `{}`.

    Example:
        >>> class_prompts(["cat", "sea_lion"], ["a {}"])
        (['a cat', 'a sea lion'], tensor([0, 1]))
    """
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise ValueError(
            f"templates must each hold the class name's place once, as in 'a photo of a {{}}'; got {list(templates)}"
        )
    spoken = [name.replace("_", " ") for name in names]
    texts = [template.replace("{}", name) for name in spoken for template in templates]
    return texts, torch.arange(len(names)).repeat_interleave(len(templates))


def readable_names(reader: Reader, names: Sequence[str]) -> list[int]:
    """The numbers of the class names that a reader of texts can read; signs such as `⺀` hold no word for some."""
    readable = []
    for number, name in enumerate(names):
        try:
            reader.collate([reader.read(name.replace("_", " "))])
        except ValueError:
            continue  # its rows are reported as not classified
        readable.append(number)
    return readable


def embed_texts(model: nn.Module, reader: Reader, modality: str, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
    """The embeddings of texts by the encoder of a text modality."""
    inputs = Inputs(reader.collate([str(reader.read(text)) for text in texts]), torch.arange(len(texts)))
    subset = Subset(modality)
    return embed_batch(model, Batch({modality: inputs}, list(texts)), [subset])[subset][0]


@dataclass(frozen=True, eq=False)
class Prompts:
    """What stands for the classes: texts, their class numbers and embeddings, and the modality that embedded them."""

    texts: Sequence[str]
    classes: Int[Tensor, " prompts"]
    vectors: Float[Tensor, "prompts dim"]
    target: Subset


def measure_zero_shot(
    table: EmbeddingTable,
    labels: Labels,
    names: Sequence[str],
    prompts: Prompts,
    tick: Callable[[str], None] = lambda what: None,
) -> ClassMeasures | None:
    """Zero-shot classification of every query that the table's method can answer.

    Args:
        table: of the test rows.
        labels: of each row.
        names: of the classes.
        prompts: of the classes.
        tick: told what is being measured.

    Returns:
        None if no query can be answered, or no row has a label.
    """
    known = has_class(labels).nonzero().squeeze(1)
    part, mask = _labelled(table.select(known), labels[known])
    result, notes = ZeroShotResult([], {}, {}), []
    vectors = class_vectors(prompts.vectors, prompts.classes)
    alike = ((vectors @ vectors.T).fill_diagonal_(-1) > 1 - 1e-5).any(1).nonzero().squeeze(1).tolist()
    if alike:
        notes.append(
            f"{len(alike)} classes have prompts that the model cannot tell apart "
            f"({listed([str(names[i]) for i in alike])}): "
            "do the training texts hold these words? Give other templates, or name the classes as the texts do"
        )
    for query in queryable_subsets(part) if len(part) else []:
        needed = [query] if part.score == "cosine" else [Subset(name) for name in query]
        if query & prompts.target or why_not(part, query, prompts.target, target_given=True):
            continue
        if len(part.rows_with(*needed)) == 0:
            continue
        tick(f"{query} -> class")
        asked = (part, prompts.vectors, prompts.classes, prompts.target, [query])
        one = evaluate_zero_shot(*asked, confidence=CONFIDENCE, classes_of=mask)
        result.rows.extend(one.rows)
        result.predictions.update(one.predictions)
        result.credit.update(one.credit)
    first_class = tuple(prompts.texts[: int((prompts.classes == 0).sum())])
    return _class_measures((ZERO_SHOT, first_class), names, labels, result, table, notes)


def measure_centroids(
    train: EmbeddingTable,
    table: EmbeddingTable,
    labels: Labels,
    names: Sequence[str],
    train_labels: Labels | None = None,
) -> ClassMeasures | None:
    """Classification by the nearest class centroid of labelled training rows; the rest as `measure_zero_shot`.

    `train_labels` are in place of those of the table `train`.
    """
    known = has_class(labels).nonzero().squeeze(1)
    if len(known) == 0:
        return None
    part, mask = _labelled(table.select(known), labels[known])
    learned_labels = train.labels if train_labels is None else train_labels
    assert learned_labels is not None
    learned, learned_mask = _labelled(train, learned_labels)
    masks = None if mask is None or learned_mask is None else (learned_mask, mask)
    result = evaluate_centroids(learned, part, len(names), confidence=CONFIDENCE, classes_of=masks)
    seen = class_counts(learned_labels, len(names)) > 0
    unseen = [name for name, one in zip(names, seen.tolist()) if not one]
    notes = [f"{len(unseen)} classes have no training row, and are never predicted: {listed(unseen)}"] if unseen else []
    return _class_measures((CENTROID, ()), names, labels, result, table, notes)


def _labelled(table: EmbeddingTable, labels: Labels) -> tuple[EmbeddingTable, Tensor | None]:
    """The table with one label a row; or with none, and the mask of several."""
    return (table, labels) if labels.ndim == 2 else (replace(table, labels=labels), None)


def _class_measures(
    how: tuple[str, tuple[str, ...]],
    names: Sequence[str],
    labels: Labels,
    found: ZeroShotResult,
    table: EmbeddingTable,
    notes: list[str],
) -> ClassMeasures | None:
    """The result on labelled rows spread over all rows, and what follows from it."""
    if not found.rows:
        return None
    known = has_class(labels).nonzero().squeeze(1)
    n, target = len(labels), found.rows[0].target
    if len(known) < n:
        notes.append(f"{n - len(known)} of {n} rows have no known class, and are left out here")
    nothing = torch.full((n,), torch.nan)
    predictions = {
        name: torch.full((n,), -1).index_copy_(0, known, predicted) for name, predicted in found.predictions.items()
    }
    credit = {name: nothing.index_copy(0, known, values.float()) for name, values in found.credit.items()}
    embedded = {Subset.parse(name): values for name, values in credit.items() if not name.startswith("mean(")}
    available, answered = answer_with_largest(embedded) if embedded else (nothing, [])
    main = str(max(embedded, key=len)) if embedded else next(iter(credit))
    rows = list(found.rows)
    by_query: dict[str, Tensor] = {}
    for query in sorted({one for one in answered if one is not None}, key=lambda one: (-len(one), one.names)):
        by_query[f"rows with {query}"] = available[torch.tensor([one == query for one in answered])]
    by_query[EVERY_ROW] = available[~available.isnan()]
    for query_name, values in by_query.items():
        if len(values):
            rows.append(measured_row("accuracy", query_name, target, values, confidence=CONFIDENCE))
    compared = _compared_queries(table, Subset.parse(main), list(credit)) if embedded else []
    overlap = None
    if labels.ndim == 2:
        notes.append(
            "a row may have several classes: it is right if the nearest class is one of its own, and counts for each"
        )
    elif len(compared) > 1:
        overlap = _overlap({name: credit[name] for name in compared}, labels, tuple(names))
    rows += [] if overlap is None else overlap.to_rows(target)
    result = ZeroShotResult(found.rows, predictions, credit)
    return ClassMeasures(how[0], tuple(names), labels, result, how[1], main, available, answered, overlap, rows, notes)
