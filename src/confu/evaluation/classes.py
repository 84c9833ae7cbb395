"""Classification beyond zero-shot: nearest class centroids, confusions, each class, and the largest subset of a row.

Shapes: n rows, c classes.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.linear_probe import TARGET
from confu.evaluation.scoring import check_unit, mean_name, mean_vectors, singles_of
from confu.evaluation.zero_shot import ZeroShotResult, zero_shot_credit
from confu.plan import Subset


def evaluate_centroids(
    train: EmbeddingTable,
    table: EmbeddingTable,
    classes: int,
    method: str = "",
    seed: int = 0,
    confidence: float | None = None,
    classes_of: tuple[Bool[Tensor, "_ _"], Bool[Tensor, "_ _"]] | None = None,
) -> ZeroShotResult:
    """The accuracy of the nearest class centroid: a class is the mean of its training rows' embeddings of the subset.

        prediction_i = argmax_c q_i . normalise(mean_{j in train, label_j = c} q_j)

    Unlike zero-shot it has seen labels. Single embeddings are compared by their cosine, whatever the method's score.

    Args:
        train: with labels, of the rows that are trained on.
        table: with labels, of the rows that are classified.
        classes: how many; a class that no training row of a subset has is never predicted by it.
        confidence: e.g. 0.95, adds bootstrap confidence intervals.
        classes_of: (n, classes) the classes of each row of `train` and of `table`, if it may have several, in place of
            the tables' labels.

    Returns:
        as `evaluate_zero_shot`, with the target `label`; also `mean(...)` beside each fused subset of a cosine table,
        and the mean of all its modalities. Subsets without a complete row in both tables are left out.

    Raises:
        ValueError: if a table has no labels, one is not in 0..classes - 1, or an embedding is not finite.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2)}, labels=torch.tensor([1, 0]))
        >>> evaluate_centroids(table, table, 2).rows[0].value
        1.0
    """
    for what, one in () if classes_of is not None else (("train", train), ("evaluated", table)):
        if one.labels is None:
            raise ValueError(
                f"the {what} table has no labels, which class centroids need; embed a data set with labels"
            )
        if len(one) and not (int(one.labels.min()) >= 0 and int(one.labels.max()) < classes):
            raise ValueError(
                f"labels of the {what} table must lie in 0..{classes - 1}; got {int(one.labels.min())} to "
                f"{int(one.labels.max())}"
            )
    learned, asked = classes_of or (train.labels, table.labels)
    assert learned is not None and asked is not None
    result = ZeroShotResult([], {}, {})
    names = [name for subset in table.subsets if not subset.is_fused for name in subset]
    whole = [Subset(*names)] if len(names) > 1 else []  # its mean can be asked even where no term fuses it
    for subset in dict.fromkeys((*table.subsets, *whole)):
        singles = singles_of(table, subset) if all(Subset(name) in train for name in subset) else []
        for held in ([subset], singles):
            if not held or any(one not in train or one not in table for one in held):
                continue
            if len(learn := train.rows_with(*held)) == 0 or len(rows := table.rows_with(*held)) == 0:
                continue
            name = str(subset) if held == [subset] else mean_name(subset)
            sources, queries = _mean_of(train, held, learn), _mean_of(table, held, rows)
            scores = queries @ class_centroids(sources, learned[learn], classes).T
            seen = class_counts(learned[learn], classes) > 0
            scores = scores.masked_fill(~seen, -torch.inf)
            credit = zero_shot_credit(scores, asked[rows])
            row = measured_row("accuracy", name, TARGET, credit, method, seed, confidence=confidence)
            result.add(row, rows, scores.argmax(1), credit, len(table))
    return result


def _mean_of(table: EmbeddingTable, held: list[Subset], rows: Tensor) -> Tensor:
    for subset in held:
        check_unit(f"the embeddings of {subset}", table[subset])
    return mean_vectors([table[subset][rows] for subset in held])


def class_centroids(
    vectors: Float[Tensor, "n dim"], labels: Int[Tensor, " n"] | Bool[Tensor, "n classes"], classes: int
) -> Float[Tensor, "classes dim"]:
    """The normalised mean of each class's vectors; zeros for a class that has none.

    Example:
        >>> class_centroids(torch.eye(2), torch.tensor([1, 1]), 2)
        tensor([[0.0000, 0.0000],
                [0.7071, 0.7071]])
    """
    if labels.ndim == 2:
        return normalize(labels.T.to(vectors.dtype) @ vectors, dim=-1)
    return normalize(vectors.new_zeros(classes, vectors.shape[1]).index_add_(0, labels, vectors), dim=-1)


def class_counts(labels: Int[Tensor, " n"] | Bool[Tensor, "n classes"], classes: int) -> Int[Tensor, " classes"]:
    """How many rows each class has."""
    return labels.sum(dim=0) if labels.ndim == 2 else torch.bincount(labels, minlength=classes)


def confusion(
    predictions: Int[Tensor, " n"], labels: Int[Tensor, " n"], classes: int
) -> Int[Tensor, "classes classes"]:
    """How many rows of each class (down) are taken for each class (across), without rows of no prediction (-1).

    Example:
        >>> confusion(torch.tensor([0, 1, 1, -1]), torch.tensor([0, 0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    known = predictions >= 0
    return torch.bincount(labels[known] * classes + predictions[known], minlength=classes**2).reshape(classes, classes)


def class_accuracy(
    credit: Float[Tensor, " n"], labels: Int[Tensor, " n"] | Bool[Tensor, "n classes"], classes: int
) -> tuple[Float[Tensor, " classes"], Int[Tensor, " classes"]]:
    """The accuracy of each class and its rows; NaN for a class without a row. Rows with a credit of NaN do not count.

    Example:
        >>> class_accuracy(torch.tensor([1.0, 0.0, float("nan")]), torch.tensor([1, 1, 0]), 2)[0].tolist()
        [nan, 0.5]
    """
    known = ~credit.isnan()
    counts = class_counts(labels[known], classes)
    if labels.ndim == 2:
        return credit[known] @ labels[known].to(credit.dtype) / counts, counts
    return credit.new_zeros(classes).index_add_(0, labels[known], credit[known]) / counts, counts


def answer_with_largest(
    credit: Mapping[Subset, Float[Tensor, " _"]],
) -> tuple[Float[Tensor, " _"], list[Subset | None]]:
    """The credit of each row when it answers with the largest subset that it has.

    Example:
        >>> nan = float("nan")
        >>> answer_with_largest({Subset("x"): torch.tensor([0.0, 1.0]), Subset("x", "y"): torch.tensor([1.0, nan])})
        (tensor([1., 1.]), [Subset('x+y'), Subset('x')])
    """
    if not credit:
        raise ValueError("credit must hold at least one query; got none")
    values = torch.full_like(next(iter(credit.values())), float("nan"))
    answered: list[Subset | None] = [None] * len(values)
    for query in sorted(credit, key=len, reverse=True):
        for row in (values.isnan() & ~credit[query].isnan()).nonzero().squeeze(1).tolist():
            answered[row], values[row] = query, credit[query][row]
    return values, answered
