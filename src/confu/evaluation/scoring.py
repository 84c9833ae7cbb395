"""How a method compares queries with targets, and which queries it can answer: one interface for all of them.

| score         | methods     | compares                                | can answer                                   |
|---------------|-------------|-----------------------------------------|----------------------------------------------|
| `cosine`      | CLIP, ConFu | an embedding of each side               | disjoint subsets that the table holds        |
| `multilinear` | Symile      | the embeddings of each modality at once | query and target together are all modalities |
| `volume`      | GRAM        | the embeddings of each modality at once | disjoint subsets of the modalities           |
| `area`        | TRIANGLE    | the embeddings of each modality at once | query and target together are three          |

Shapes: n queries, m targets, d numbers a vector.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite, check_known
from confu.embeddings import EmbeddingTable
from confu.losses import multilinear_scores, squared_areas, squared_volumes
from confu.plan import Plan, Subset
from confu.types import SCORES

TIE_TOLERANCE = 1e-6
"""Cosines this close count as equal. A matrix product rounds a float32 cosine by about 1e-7, differently at different
positions, so that two identical captions would otherwise win or lose against each other by chance."""

_FLOAT64_ROUNDING = 1e-12  # what may be left of a score of zero: a determinant of 2 to 6 unit vectors leaves less
_CHUNK_NUMBERS = 1 << 23  # numbers held at once, times a small constant, whatever n is: 64 MiB of float64


def pair_scores(
    score: str, queries: Sequence[Float[Tensor, "n d"]], targets: Sequence[Float[Tensor, "m d"]]
) -> Float[Tensor, "n m"]:
    r"""The score of every query with every target; higher is more alike.

        cosine: q_i . t_j    multilinear: \sum_d \prod_a q^a_id \prod_b t^b_jd    volume: -vol^2_ij    area: -4 A^2_ij

    A root does not change a ranking, so volumes and areas stay squared. All but the cosine are computed in float64.

    Args:
        score: one of `confu.types.SCORES`.
        queries: one (n, d) a modality that asks, unit vectors; one altogether for `"cosine"`.
        targets: one (m, d) a modality that is sought.

    Returns:
        (n, m), float64 unless the score is `"cosine"`.

    Raises:
        ValueError: if the score is unknown, the shapes do not fit or the score cannot compare so many vectors.

    Example:
        >>> x, y = torch.eye(2)[:1], torch.eye(2)[1:]
        >>> pair_scores("volume", [x], [torch.cat([x, y])])
        tensor([[-0., -1.]], dtype=torch.float64)
    """
    check_known("score", score, SCORES)
    if score == "cosine":
        if len(queries) != 1 or len(targets) != 1:
            raise ValueError(
                f"a cosine compares one vector with one; got {len(queries)} for the query and {len(targets)} for the "
                "target. Fuse them first, or use their mean (mean_vectors)"
            )
        return multilinear_scores(queries, targets)  # with two vectors it is the dot product
    queries, targets = [one.double() for one in queries], [one.double() for one in targets]
    if score == "multilinear":
        return multilinear_scores(queries, targets)
    return -squared_volumes(queries, targets) if score == "volume" else -squared_areas(queries, targets)


def tie_widths(
    score: str, scores: Float[Tensor, "n m"], tolerance: float = TIE_TOLERANCE
) -> float | Float[Tensor, "n 1"]:
    """How close two of a query's scores must be to count as equal.

    Cosines have one scale. The others do not: where two queries nearly agree, every volume with them is small. There
    the width is relative to the query's largest score, so that a scale that all its scores share makes no ties.
    """
    if score == "cosine" or scores.shape[1] == 0:
        return tolerance
    return (tolerance * scores.abs().amax(dim=1, keepdim=True)).clamp_min(_FLOAT64_ROUNDING)


def query_chunks(n: int, m: int, num_vectors: int, chunk_size: int | None = None) -> Iterator[slice]:
    """Slices of n queries, so few at once that memory does not grow with n * m; one empty slice for n = 0.

    `num_vectors` is that of a query and a target together; a Gram matrix has its square.
    """
    step = chunk_size or max(1, _CHUNK_NUMBERS // max(m * num_vectors**2, 1))
    for start in range(0, max(n, 1), step):
        yield slice(start, min(start + step, n))


def check_unit(name: str, vectors: Tensor) -> None:
    """Check that every vector has length one, or zero (a collapsed embedding), so that dot products are cosines."""
    check_finite(name, vectors)
    lengths = vectors.norm(dim=-1)
    wrong = ((lengths - 1).abs() > 1e-3) & (lengths > 1e-3)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"{name} must be unit vectors; row {row} has length {float(lengths[row]):.4g}. "
            "Divide each by its length (torch.nn.functional.normalize)"
        )


def mean_vectors(vectors: Sequence[Float[Tensor, "n dim"]]) -> Float[Tensor, "n dim"]:
    """The re-normalised mean of unit vectors: the query of a model without a fusion network; zero where they cancel."""
    return torch.nn.functional.normalize(torch.stack(list(vectors)).mean(dim=0), dim=-1)


def mean_name(subset: Subset) -> str:
    """How the mean of a fused subset's single embeddings is called: `mean(image, audio)`."""
    return f"mean({', '.join(subset)})"


def singles_of(table: EmbeddingTable, subset: Subset) -> list[Subset]:
    """The single subsets whose mean can stand for a fused subset: if the table holds them all and compares cosines."""
    singles = [Subset(name) for name in subset]
    usable = table.score == "cosine" and subset.is_fused and all(single in table for single in singles)
    return singles if usable else []


def disjoint_pairs(subsets: Iterable[Subset]) -> list[tuple[Subset, Subset]]:
    """Every (query, target) of these subsets that shares no modality, in both directions."""
    subsets = list(subsets)
    return [(query, target) for target in subsets for query in subsets if not query & target]


def queryable_subsets(table: EmbeddingTable) -> tuple[Subset, ...]:
    """What can stand on a side of a query: the table's subsets, or every subset of its modalities if the method
    compares these themselves; small ones first."""
    if table.score == "cosine":
        return table.subsets
    names = [name for subset in table.subsets for name in subset]
    return tuple(Subset(*chosen) for size in range(1, len(names) + 1) for chosen in combinations(names, size))


def sides(table: EmbeddingTable, subset: Subset) -> list[Tensor]:
    """What stands on one side of a comparison by `pair_scores`: the subset's own embedding, or one a modality.

    Raises:
        ValueError: if the table lacks one of them.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset("x"): torch.eye(1), Subset("y"): torch.eye(1)}, score="volume")
        >>> len(sides(table, Subset("x", "y")))
        2
    """
    return [table[one] for one in side_subsets(table, subset)]


def side_subsets(table: EmbeddingTable, subset: Subset) -> list[Subset]:
    """The stored subsets whose vectors `sides` gives."""
    return [subset] if table.score == "cosine" else [Subset(name) for name in subset]


def answers(table: EmbeddingTable, query: Subset, target: Subset, target_given: bool = False) -> bool:
    """Whether the method that made the table can rank targets by this query; see the table in the module's docstring.

    The mean of single embeddings, which `query_vectors` adds for cosines, does not count: it is no embedding of the
    query. The arguments are those of `why_not`.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset(name): torch.eye(1) for name in "xyz"}, score="multilinear")
        >>> answers(table, Subset("x", "y"), Subset("z")), answers(table, Subset("x"), Subset("z"))
        (True, False)
    """
    return why_not(table, query, target, target_given) is None


def why_not(table: EmbeddingTable, query: Subset, target: Subset, target_given: bool = False) -> str | None:
    """Why the table cannot answer a query, in words for the user; None if it can.

    Args:
        target_given: the targets come from elsewhere (prompts), so that the table need not hold them.

    Example:
        >>> table = EmbeddingTable(("a",), {Subset(name): torch.eye(1) for name in "xyz"}, score="multilinear")
        >>> why_not(table, Subset("x"), Subset("z"))
        'x -> z leaves out y, but a multilinear product (Symile) compares x, y, z all at once; ask x+y -> z'
    """
    needed = side_subsets(table, query) + ([] if target_given else side_subsets(table, target))
    return _shared(query, target) or _missing(table, needed) or _refused(table, query, target)


def query_vectors(
    table: EmbeddingTable, query: Subset, target: Subset, target_given: bool = False
) -> tuple[Int[Tensor, " rows"], dict[str, list[Tensor]]]:
    """The rows that are complete for query and target, and by the query's name its sides at these rows.

    Beside a fused query of a cosine table stands `mean(image, audio)`, the mean of its single embeddings if the table
    has them; where there is no fused embedding, it stands alone.
    """
    singles = singles_of(table, query)
    own = [] if singles and query not in table else side_subsets(table, query)
    needed = own + singles + ([] if target_given else side_subsets(table, target))
    if reason := _shared(query, target) or _missing(table, needed) or _refused(table, query, target):
        raise ValueError(reason)
    for subset in needed:
        check_unit(f"the embeddings of {subset}", table[subset])
    rows = table.rows_with(*needed)
    vectors = {str(query): [table[one][rows] for one in own]} if own else {}
    if singles:
        vectors[mean_name(query)] = [mean_vectors([table[single][rows] for single in singles])]
    return rows, vectors


def _shared(query: Subset, target: Subset) -> str | None:
    shared = sorted(query & target)
    if not shared:
        return None
    return (
        f"query {query} and target {target} share {', '.join(shared)}, which tells the answer; "
        "ask with a subset that is disjoint from the target"
    )


def _missing(table: EmbeddingTable, needed: Iterable[Subset]) -> str | None:
    for subset in needed:
        if subset not in table:
            return f"the table has no subset {str(subset)!r}; it has {', '.join(map(str, table.subsets))}"
    return None


def _refused(table: EmbeddingTable, query: Subset, target: Subset) -> str | None:
    together = query | target
    if table.score == "area" and len(together) != 3:
        return (
            f"{query} -> {target} is {len(together)} modalities, but the area of a triangle (TRIANGLE) is between "
            "exactly three, query and target together; ask with "
            + ("more modalities" if len(together) < 3 else "fewer modalities")
        )
    if table.score == "multilinear":
        names = _modalities(table, target)
        if left_out := [name for name in names if name not in together]:
            return (
                f"{query} -> {target} leaves out {', '.join(left_out)}, but a multilinear product (Symile) compares "
                f"{', '.join(names)} all at once; ask {Subset(*query, *left_out)} -> {target}"
            )
    return None


def _modalities(table: EmbeddingTable, target: Subset) -> tuple[str, ...]:
    """Those of the model, which the table may not hold all; without a plan, those of the table and the target."""
    if not table.plan:
        return tuple(dict.fromkeys(name for subset in (*table.subsets, target) for name in subset))
    try:
        return Plan.from_dict(json.loads(table.plan)).modalities
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the table's plan does not say the model's modalities ({error!r}); embed again, or leave it empty"
        ) from error
