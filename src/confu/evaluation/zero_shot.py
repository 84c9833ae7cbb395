"""Zero-shot classification: a class is the mean of its prompts' embeddings, and a query takes the nearest class.

Shapes: n queries, p prompts, c classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from confu._typing import Subset
from confu.embeddings import EmbeddingTable
from confu.evaluation.report import ReportRow
from confu.evaluation.retrieval import TIE_TOLERANCE, check_unit, mean_name, mean_vectors, singles_of


def class_vectors(prompts: Float[Tensor, "_ dim"], prompt_classes: Int[Tensor, " _"]) -> Float[Tensor, "classes dim"]:
    """The normalised mean of each class's prompt embeddings (a prompt ensemble).

        v_c = normalise(mean_{i : class_i = c} p_i)

    Args:
        prompts: (p, dim) unit vectors.
        prompt_classes: (p,) the class of each prompt; the classes are 0 to the largest one.

    Returns:
        (c, dim) unit vectors.

    Raises:
        ValueError: if there is no prompt, or a class has none.

    Example:
        >>> class_vectors(torch.eye(2)[[0, 1, 1]], torch.tensor([1, 0, 0]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one embedding per class; got none")
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
    sums = prompts.new_zeros(len(counts), prompts.shape[1]).index_add_(0, prompt_classes, prompts)
    return normalize(sums / counts[:, None], dim=-1)


def zero_shot_predict(
    queries: Float[Tensor, "n _"], prompts: Float[Tensor, "_ _"], prompt_classes: Int[Tensor, " _"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, "n classes"]]:
    """The class whose vector has the largest cosine with each query.

        prediction_i = argmax_c q_i . v_c

    Args:
        queries: (n, dim) unit vectors.
        prompts: (p, dim) unit vectors.
        prompt_classes: (p,) the class of each prompt; the classes are 0 to the largest one.

    Returns:
        predictions (n,), the first of classes that tie exactly, and the cosines (n, c).

    Raises:
        ValueError: as `class_vectors`, and if the dims differ.

    Example:
        >>> predictions, cosines = zero_shot_predict(torch.eye(2), torch.eye(2), torch.tensor([1, 0]))
        >>> predictions
        tensor([1, 0])
    """
    if queries.shape[1] != prompts.shape[1]:
        raise ValueError(
            f"queries and prompts must have the same dim; got {tuple(queries.shape)} and {tuple(prompts.shape)}"
        )
    check_unit("queries", queries)
    cosines = queries @ class_vectors(prompts, prompt_classes).T
    return cosines.argmax(dim=1), cosines


def zero_shot_credit(
    cosines: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], tolerance: float = TIE_TOLERANCE
) -> Float[Tensor, " n"]:
    """How right each row is: 1 if its class wins, 0 if it loses, 1/t if t classes tie for the first place.

    The mean is the accuracy that breaking ties at random has in expectation; a collapsed model gets 1/c.

    Args:
        cosines: (n, c) of each query with each class.
        labels: (n,) the true classes.
        tolerance: cosines this close are equal, see `confu.evaluation.retrieval.TIE_TOLERANCE`.

    Returns:
        (n,) in [0, 1].

    Raises:
        ValueError: if a label is not one of the classes.
    """
    classes = cosines.shape[1]
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, the classes that have prompts; {int(outside.sum())} do not, "
            f"the first is {int(labels[row])} in row {row}"
        )
    own = cosines.gather(1, labels[:, None].long())
    better = (cosines > own + tolerance).sum(dim=1)
    tied = ((cosines - own).abs() <= tolerance).sum(dim=1)
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
        right = self.credit[str(query)] == 1
        for name in query if query.is_fused else ():
            right &= self.credit[name] == 0
        return right.nonzero().squeeze(1)


def evaluate_zero_shot(
    table: EmbeddingTable,
    prompts: Float[Tensor, "_ _"],
    prompt_classes: Int[Tensor, " _"],
    target: Subset,
    queries: Iterable[Subset] | None = None,
    method: str = "",
    seed: int = 0,
) -> ZeroShotResult:
    """The zero-shot accuracy of every query subset, ties averaged.

    Each query is measured on the rows that are complete for it. Beside every fused query stands a row
    `mean(image, audio)`, the re-normalised mean of its single embeddings, if the table has them.

    Args:
        table: with labels.
        prompts: (p, dim) embeddings of the target modality, unit vectors.
        prompt_classes: (p,) the class of each prompt.
        target: the subset that embedded the prompts, e.g. `text`.
        queries: by default every subset of the table that shares no modality with the target. A fused subset that the
            table lacks is answered by the mean row alone.
        method: copied into the rows.
        seed: copied into the rows.

    Returns:
        the accuracy rows, and predictions and credit by query name.

    Raises:
        ValueError: if the table has no labels, a label has no prompt, a query shares a modality with the target or has
            no complete row.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2)}, labels=torch.tensor([0, 0]))
        >>> result = evaluate_zero_shot(table, torch.eye(2), torch.tensor([0, 1]), Subset("text"))
        >>> result.rows[0].value, result.predictions["image"].tolist()
        (0.5, [0, 1])
    """
    if table.labels is None:
        raise ValueError("the table has no labels, so an accuracy cannot be measured; embed a data set with labels")
    chosen = [one for one in table.subsets if not one & target] if queries is None else list(queries)
    if not chosen:
        have = ", ".join(map(str, table.subsets))
        raise ValueError(f"no subset of the table is disjoint from the target {target}, so none can ask; it has {have}")
    result = ZeroShotResult([], {}, {})
    for query in chosen:
        if shared := query & target:
            raise ValueError(
                f"query {query} and target {target} share {', '.join(sorted(shared))}, which tells the answer"
            )
        singles = singles_of(table, query)
        # A model without a fusion network answers a fused query too, with the mean of the single embeddings.
        own = [] if singles and query not in table else [query]
        rows = table.rows_with(*own, *singles)
        if len(rows) == 0:
            raise ValueError(f"no row is complete for the query {query}; leave it out of `queries`")
        candidates = {str(subset): table[subset][rows] for subset in own}
        if singles:
            candidates[mean_name(query)] = mean_vectors([table[single][rows] for single in singles])
        for name, vectors in candidates.items():
            predicted, cosines = zero_shot_predict(vectors, prompts, prompt_classes)
            credit = zero_shot_credit(cosines, table.labels[rows])
            accuracy = float(credit.double().mean())
            result.rows.append(ReportRow("accuracy", name, str(target), accuracy, len(rows), method, seed))
            result.predictions[name] = torch.full((len(table),), -1).index_copy_(0, rows, predicted)
            result.credit[name] = torch.full((len(table),), float("nan")).index_copy_(0, rows, credit)
    return result
