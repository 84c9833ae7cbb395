"""Zero-shot classification: a class is the mean of its prompts' embeddings; a query takes the most alike class.

Shapes: n queries, p prompts, c classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from confu.checks import check_known
from confu.embeddings import EmbeddingTable
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import (
    TIE_TOLERANCE,
    answers,
    check_unit,
    pair_scores,
    query_chunks,
    query_vectors,
    queryable_subsets,
    tie_widths,
    why_not,
)
from confu.plan import Subset

ENSEMBLES = ("vectors", "scores")


def class_vectors(prompts: Float[Tensor, "_ dim"], prompt_classes: Int[Tensor, " _"]) -> Float[Tensor, "classes dim"]:
    """The normalised mean of each class's prompt embeddings (a prompt ensemble).

        v_c = normalise(mean_{i : class_i = c} p_i)

    Example:
        >>> class_vectors(torch.eye(2)[[0, 1, 1]], torch.tensor([1, 0, 0]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    counts = _prompts_per_class(prompts, prompt_classes)
    sums = prompts.new_zeros(len(counts), prompts.shape[1]).index_add_(0, prompt_classes, prompts)
    return normalize(sums / counts[:, None], dim=-1)


def _prompts_per_class(prompts: Tensor, prompt_classes: Tensor) -> Tensor:
    if len(prompts) == 0:
        raise ValueError(
            "prompts must hold at least one embedding per class; got none. Write a sentence for each class, such as "
            "'a photo of a dog', and embed it with the target's encoder"
        )
    if len(prompts) != len(prompt_classes):
        raise ValueError(f"prompt_classes must name a class per prompt; got {len(prompt_classes)} for {len(prompts)}")
    check_unit("prompts", prompts)
    if int(prompt_classes.min()) < 0:
        raise ValueError(f"prompt_classes must be 0 or more; got {int(prompt_classes.min())}")
    counts = torch.bincount(prompt_classes)
    if empty := (counts == 0).nonzero().squeeze(1).tolist():
        raise ValueError(
            f"every class from 0 to {len(counts) - 1} needs a prompt; {len(empty)} have none, the first is {empty[0]}"
        )
    return counts


def class_scores(
    queries: Sequence[Float[Tensor, "n _"]],
    prompts: Float[Tensor, "_ _"],
    prompt_classes: Int[Tensor, " _"],
    score: str = "cosine",
    ensemble: str = "vectors",
) -> Float[Tensor, "n classes"]:
    """The score of each query with each class, from the class's prompts.

        "vectors": s(q_i, v_c), v_c of `class_vectors`        "scores": mean_{j : class_j = c} s(q_i, p_j)

    Args:
        queries: each (n, dim) unit vectors: one embedding, or one a modality for a score that compares several.
        prompts: (p, dim) unit vectors.
        prompt_classes: (p,) the class of each prompt; the classes are 0 to the largest one.
        score: how they are compared, see `confu.evaluation.scoring.pair_scores`.
        ensemble: what is averaged over a class's prompts. For cosines, the mean of scores also counts how well the
            prompts agree: it is the cosine with v_c times the length of their mean.

    Returns:
        (n, c), higher is more alike.

    Raises:
        ValueError: as `class_vectors`, if the dims differ, or for an unknown score or ensemble.

    Example:
        >>> class_scores([torch.eye(2)], torch.eye(2), torch.tensor([0, 0]), ensemble="scores")
        tensor([[0.5000],
                [0.5000]])
    """
    check_known("ensemble", ensemble, ENSEMBLES)
    counts = _prompts_per_class(prompts, prompt_classes)
    for i, vectors in enumerate(queries):
        if vectors.shape[1] != prompts.shape[1]:
            raise ValueError(
                f"queries and prompts must have the same dim; got {tuple(vectors.shape)} and {tuple(prompts.shape)}"
            )
        check_unit("queries" if len(queries) == 1 else f"queries[{i}]", vectors)
    targets = class_vectors(prompts, prompt_classes) if ensemble == "vectors" else prompts
    parts = []
    for rows in query_chunks(len(queries[0]), len(targets), len(queries) + 1):
        scores = pair_scores(score, [one[rows] for one in queries], [targets])
        if ensemble == "scores":
            scores = scores.new_zeros(len(scores), len(counts)).index_add_(1, prompt_classes, scores) / counts
        parts.append(scores)
    return torch.cat(parts)


def zero_shot_predict(
    queries: Float[Tensor, "n _"] | Sequence[Float[Tensor, "n _"]],
    prompts: Float[Tensor, "_ _"],
    prompt_classes: Int[Tensor, " _"],
    score: str = "cosine",
    ensemble: str = "vectors",
) -> tuple[Int[Tensor, " n"], Float[Tensor, "n classes"]]:
    """The class that scores best with each query.

        prediction_i = argmax_c s(q_i, v_c), for cosines argmax_c q_i . v_c

    Args:
        queries: (n, dim) unit vectors; or one such a modality, for a score that compares several.
        prompts: this and the others as for `class_scores`.

    Returns:
        predictions (n,), the first of classes that tie exactly, and the scores (n, c).

    Example:
        >>> predictions, cosines = zero_shot_predict(torch.eye(2), torch.eye(2), torch.tensor([1, 0]))
        >>> predictions
        tensor([1, 0])
    """
    several = [queries] if isinstance(queries, Tensor) else list(queries)
    scores = class_scores(several, prompts, prompt_classes, score, ensemble)
    return scores.argmax(dim=1), scores


def zero_shot_credit(
    scores: Float[Tensor, "n classes"],
    labels: Int[Tensor, " n"] | Bool[Tensor, "n classes"],
    tolerance: float | Float[Tensor, "n 1"] = TIE_TOLERANCE,
) -> Float[Tensor, " n"]:
    """How right each row is: 1 if its class wins, 0 if it loses, 1/t if t classes tie for the first place.

    The mean is the accuracy that breaking ties at random has in expectation; a collapsed model gets 1/c. Scores within
    the tolerance are equal, see `confu.evaluation.scoring.tie_widths`. A row of several classes, given as a mask, is
    right if one of its own wins: h/t if h of the t that tie are its own.
    """
    classes = scores.shape[1]
    if labels.ndim == 2:
        best = scores.masked_fill(~labels, -torch.inf).amax(dim=1, keepdim=True)
        tied = (scores - best).abs() <= tolerance
        beaten = (scores > best + tolerance).any(dim=1)
        return torch.where(beaten, 0.0, (tied & labels).sum(dim=1) / tied.sum(dim=1))
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, the classes that have prompts; {int(outside.sum())} do not, "
            f"the first is {int(labels[row])} in row {row}"
        )
    own = scores.gather(1, labels[:, None].long())
    better = (scores > own + tolerance).sum(dim=1)
    tied = ((scores - own).abs() <= tolerance).sum(dim=1)
    return torch.where(better == 0, 1.0 / tied, 0.0)


@dataclass(frozen=True)
class ZeroShotResult:
    """The accuracies of an evaluation and what was predicted for each row.

    Attributes:
        rows: one `accuracy` row a query, as a fraction.
        predictions: query name -> (n,) the predicted class, -1 where the row is not complete.
        credit: query name -> (n,) from 0 (wrong) to 1 (right), NaN where the row is not complete.
    """

    rows: list[ReportRow]
    predictions: dict[str, Int[Tensor, " n"]]
    credit: dict[str, Float[Tensor, " n"]]

    def only_right(self, query: Subset | str) -> Int[Tensor, " rows"]:
        """The rows that this query gets right and every single modality of it gets wrong."""
        query = Subset.parse(query)
        names = [str(query), *(query if query.is_fused else ())]
        if missing := [name for name in names if name not in self.credit]:
            raise ValueError(
                f"there is no result for {', '.join(missing)}, only for {', '.join(self.credit)}; "
                "put it into `queries` if the method can answer it"
            )
        right = self.credit[names[0]] == 1
        for name in names[1:]:
            right &= self.credit[name] == 0
        return right.nonzero().squeeze(1)

    def add(self, row: ReportRow, rows: Tensor, predictions: Tensor, credit: Tensor, size: int) -> None:
        """Add what one query answered for some of `size` rows."""
        self.rows.append(row)
        self.predictions[row.query] = torch.full((size,), -1).index_copy_(0, rows, predictions)
        self.credit[row.query] = torch.full((size,), float("nan")).index_copy_(0, rows, credit)


def evaluate_zero_shot(
    table: EmbeddingTable,
    prompts: Float[Tensor, "_ _"],
    prompt_classes: Int[Tensor, " _"],
    target: Subset,
    queries: Iterable[Subset] | None = None,
    method: str = "",
    seed: int = 0,
    confidence: float | None = None,
    ensemble: str = "vectors",
    classes_of: Bool[Tensor, "_ _"] | None = None,
) -> ZeroShotResult:
    """The zero-shot accuracy of every query subset, ties averaged.

    Each query is measured on the rows that are complete for it, compared with the classes in the way of the table's
    `score`. Beside every fused query of a cosine table stands a row `mean(image, audio)`, the re-normalised mean of
    its single embeddings, if the table has them.

    Args:
        table: with labels.
        prompts: (p, dim) embeddings of the target modality, unit vectors.
        prompt_classes: (p,) the class of each prompt.
        target: the subset that embedded the prompts, e.g. `text`; a single modality unless the table has cosines.
        queries: by default every subset that shares no modality with the target and that the table's method can
            answer: one of the table's for cosines, else of its modalities. A fused subset that a cosine table lacks is
            answered by the mean row alone.
        confidence: e.g. 0.95, adds bootstrap confidence intervals over the rows; see `bootstrap_interval`.
        ensemble: `"vectors"` or `"scores"`, see `class_scores`.
        classes_of: (n, classes) the classes of each row, if it may have several, in place of the table's labels.

    Returns:
        the accuracy rows, and predictions and credit by query name.

    Raises:
        ValueError: if the table has no labels, a label has no prompt, an embedding is not finite, or one of `queries`
            has no complete row or cannot be answered: it shares a modality with the target, is not in the table, or is
            not for its method (`confu.evaluation.why_not`).

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2)}, labels=torch.tensor([0, 0]))
        >>> result = evaluate_zero_shot(table, torch.eye(2), torch.tensor([0, 1]), Subset("text"))
        >>> result.rows[0].value, result.predictions["image"].tolist()
        (0.5, [0, 1])
    """
    labels = table.labels if classes_of is None else classes_of
    if labels is None:
        raise ValueError("the table has no labels, so an accuracy cannot be measured; embed a data set with labels")
    if table.score != "cosine" and target.is_fused:
        raise ValueError(
            f"the prompts are one vector each, but a method with the score {table.score!r} compares a vector of every "
            f"modality, and the target {target} has {len(target)}; choose a single target"
        )
    chosen = _default_queries(table, target) if queries is None else list(queries)
    result = ZeroShotResult([], {}, {})
    for query in chosen:
        rows, queries_by_name = query_vectors(table, query, target, target_given=True)
        if len(rows) == 0:
            raise ValueError(f"no row is complete for the query {query}; leave it out of `queries`")
        for name, vectors in queries_by_name.items():
            predicted, scores = zero_shot_predict(vectors, prompts, prompt_classes, table.score, ensemble)
            credit = zero_shot_credit(scores, labels[rows], tie_widths(table.score, scores))
            row = measured_row("accuracy", name, str(target), credit, method, seed, confidence=confidence)
            result.add(row, rows, predicted, credit, len(table))
    return result


def _default_queries(table: EmbeddingTable, target: Subset) -> list[Subset]:
    disjoint = [one for one in queryable_subsets(table) if not one & target]
    have = ", ".join(map(str, table.subsets))
    if not disjoint:
        raise ValueError(f"no subset of the table is disjoint from the target {target}, so none can ask; it has {have}")
    chosen = [one for one in disjoint if answers(table, one, target, target_given=True)]
    if not chosen:
        # The largest one comes nearest to what a method asks for that compares all modalities.
        raise ValueError(f"no query for {target} can be answered: {why_not(table, disjoint[-1], target, True)}")
    return chosen
