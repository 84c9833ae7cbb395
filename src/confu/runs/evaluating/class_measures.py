"""What an evaluation finds about classes: zero-shot by prompts, or the nearest class centroid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from confu.data.readers import Reader
from confu.embeddings import EmbeddingTable
from confu.evaluation.availability import EVERY_ROW
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.classes import answer_with_largest, evaluate_centroids
from confu.evaluation.overlap import OverlapResult, evaluate_overlap
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import queryable_subsets, why_not
from confu.evaluation.zero_shot import ZeroShotResult, class_vectors, evaluate_zero_shot
from confu.plan import Subset
from confu.runs.evaluating.retrieval_measures import CONFIDENCE, overlap_queries
from confu.runs.words import listed
from confu.types import Batch, Inputs

TEMPLATES = ("{}", "a {}", "the {}")
ZERO_SHOT, CENTROID = "zero-shot", "nearest class centroid"


@dataclass(frozen=True, eq=False)
class ClassMeasures:
    """Classification on one table.

    Attributes:
        how: `ZERO_SHOT` or `CENTROID`.
        names: of the classes.
        labels: (n,) the class of each row, -1 where it is not known.
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
    labels: Int[Tensor, " n"]
    result: ZeroShotResult
    prompts: tuple[str, ...]
    main: str
    available: Float[Tensor, " n"]
    answered: Sequence[Subset | None]
    overlap: OverlapResult | None
    rows: list[ReportRow]
    notes: list[str] = field(default_factory=list)


def class_prompts(names: Sequence[str], templates: Sequence[str]) -> tuple[list[str], Int[Tensor, " prompts"]]:
    """Every template with every class name, and the class of each.

    Raises:
        ValueError: without templates, or for one without the place of the name, `{}`.

    Example:
        >>> class_prompts(["cat", "sea_lion"], ["a {}"])
        (['a cat', 'a sea lion'], tensor([0, 1]))
    """
    if not templates or any(one.count("{}") != 1 for one in templates):
        raise ValueError(f"templates must each hold the class name's place once, as in 'a photo of a {{}}'; got "
                         f"{list(templates)}")  # fmt: skip
    spoken = [name.replace("_", " ") for name in names]
    texts = [template.replace("{}", name) for name in spoken for template in templates]
    return texts, torch.arange(len(names)).repeat_interleave(len(templates))


def embed_texts(model: nn.Module, reader: Reader, modality: str, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
    """The embeddings of texts by the encoder of a text modality; the model is left in evaluation mode."""
    first = next(model.parameters(), None)
    inputs = Inputs(reader.collate([str(reader.read(text)) for text in texts]), torch.arange(len(texts)))
    batch = Batch({modality: inputs}, list(texts)).to("cpu" if first is None else first.device)
    model.eval()
    with torch.inference_mode():
        return model(batch, [Subset(modality)])[Subset(modality)].float().cpu().clone()


def measure_zero_shot(
    table: EmbeddingTable,
    labels: Int[Tensor, " _"],
    names: Sequence[str],
    prompts: tuple[Float[Tensor, "_ _"], Int[Tensor, " _"]],
    target: Subset,
    texts: Sequence[str],
    method: str = "",
    seed: int = 0,
    tick: Callable[[str], None] = lambda what: None,
) -> ClassMeasures | None:
    """Zero-shot classification of every query that the table's method can answer.

    Args:
        table: of the test rows.
        labels: (n,) -1 where it is not known.
        names: of the classes.
        prompts: embeddings, and the class of each.
        target: the modality that embedded them.
        texts: the prompts.
        method: copied into the rows.
        seed: copied into the rows.
        tick: told what is being measured.

    Returns:
        None if no query can be answered, or no row has a label.
    """
    known = (labels >= 0).nonzero().squeeze(1)
    part = _labelled(table, labels, known)
    result, notes = ZeroShotResult([], {}, {}), []
    vectors = class_vectors(*prompts)
    alike = ((vectors @ vectors.T).fill_diagonal_(-1) > 1 - 1e-5).any(1).nonzero().squeeze(1).tolist()
    if alike:
        confused = listed(str(names[i]) for i in alike)
        notes.append(
            f"{len(alike)} classes have prompts that the model cannot tell apart ({confused}): "
            "do the training texts hold these words? Give other templates, or name the classes as the texts do"
        )
    for query in [one for one in queryable_subsets(part) if not one & target] if len(part) else []:
        if why_not(part, query, target, target_given=True) or len(part.rows_with(*_held(part, query))) == 0:
            continue
        tick(f"{query} -> class")
        one = evaluate_zero_shot(part, *prompts, target, [query], method, seed, CONFIDENCE)
        result.rows.extend(one.rows)
        result.predictions.update(one.predictions)
        result.credit.update(one.credit)
    how = ZERO_SHOT, tuple(texts[: int((prompts[1] == 0).sum())])
    return _measures(how, names, labels, known, result, table, method, seed, notes)


def measure_centroids(
    train: EmbeddingTable,
    table: EmbeddingTable,
    labels: Int[Tensor, " _"],
    names: Sequence[str],
    method: str = "",
    seed: int = 0,
) -> ClassMeasures | None:
    """Classification by the nearest class centroid of training rows; the rest as `measure_zero_shot`."""
    known = (labels >= 0).nonzero().squeeze(1)
    if len(known) == 0:
        return None
    result = evaluate_centroids(train, _labelled(table, labels, known), len(names), method, seed, CONFIDENCE)
    assert train.labels is not None
    unseen = [name for i, name in enumerate(names) if not bool((train.labels == i).any())]
    notes = [f"{len(unseen)} classes have no training row, and are never predicted: {listed(unseen)}"] if unseen else []
    return _measures((CENTROID, ()), names, labels, known, result, table, method, seed, notes)


def _measures(
    how: tuple[str, tuple[str, ...]], names: Sequence[str], labels: Tensor, known: Tensor, found: ZeroShotResult,
    table: EmbeddingTable, method: str, seed: int, notes: list[str],
) -> ClassMeasures | None:  # fmt: skip
    if not found.rows:
        return None
    n = len(labels)
    if len(known) < n:
        notes.append(f"{n - len(known)} of {n} rows have no known class, and are left out here")
    predictions = {name: torch.full((n,), -1).index_copy_(0, known, one) for name, one in found.predictions.items()}
    nothing = torch.full((n,), torch.nan)
    credit = {name: nothing.index_copy(0, known, one.float()) for name, one in found.credit.items()}
    result = ZeroShotResult(found.rows, predictions, credit)
    whole = {Subset.parse(name): one for name, one in credit.items() if not name.startswith("mean(")}
    available, answered = answer_with_largest(whole) if whole else (nothing, [])
    main = str(max(whole, key=len)) if whole else next(iter(credit))
    rows = [*found.rows, *_available_rows(available, answered, found.rows[0].target, method, seed)]
    compared = overlap_queries(table, Subset.parse(main), list(credit)) if whole else []
    overlap = None
    if len(compared) > 1 and bool(torch.stack([~credit[name].isnan() for name in compared]).all(0).any()):
        overlap = evaluate_overlap({name: credit[name] for name in compared}, labels, tuple(names))
        rows += overlap.to_rows(found.rows[0].target, method, seed)
    return ClassMeasures(how[0], tuple(names), labels, result, how[1], main, available, answered, overlap, rows, notes)


def _available_rows(
    credit: Tensor, answered: Sequence[Subset | None], target: str, method: str, seed: int
) -> list[ReportRow]:
    rows = []
    for query in sorted({one for one in answered if one is not None}, key=lambda one: (-len(one), one.names)):
        mine = torch.tensor([one == query for one in answered])
        rows.append(_accuracy(f"rows with {query}", target, credit[mine], method, seed))
    if len(asked := credit[~credit.isnan()]):
        rows.append(_accuracy(EVERY_ROW, target, asked, method, seed))
    return rows


def _accuracy(query: str, target: str, credit: Tensor, method: str, seed: int) -> ReportRow:
    return measured_row("accuracy", query, target, credit, method, seed, confidence=CONFIDENCE)


def _labelled(table: EmbeddingTable, labels: Tensor, known: Tensor) -> EmbeddingTable:
    part = table.select(known)
    return EmbeddingTable(part.ids, part.vectors, part.complete, labels[known], part.model, part.plan, part.score)


def _held(table: EmbeddingTable, query: Subset) -> list[Subset]:
    return [query] if table.score == "cosine" else [Subset(name) for name in query]
