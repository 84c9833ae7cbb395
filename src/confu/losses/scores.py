"""How alike are several embeddings at once: multilinear product, Gramian volume, triangle area.

Each function compares every query with every target. A query or a target is a list of vectors, one a modality: the
modalities that ask, and those that are sought. n queries, m targets, dim d.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from confu.losses.squares import SMALLEST_SQUARE, area_squares, determinant_and_adjugate, gram, volume_squares


def multilinear_scores(
    queries: Sequence[Float[Tensor, "n d"]], targets: Sequence[Float[Tensor, "m d"]]
) -> Float[Tensor, "n m"]:
    r"""The multilinear inner product of each query's and each target's vectors (Symile).

    $$s_{ij} = \sum_d \prod_a q^a_{id} \prod_b t^b_{jd}$$

    With one query and one target it is the dot product. It is linear in each vector, so that the queries' products
    can be searched for in an index of targets.

    Args:
        queries: one or more (n, d), a modality each.
        targets: one or more (m, d), a modality each.

    Returns:
        (n, m), higher is more alike. Between -1 and 1 for unit vectors.

    Raises:
        ValueError: if a side is empty, or the rows or dims of the vectors differ.

    Reference: Saporta et al. 2024, arXiv 2411.01053, Section 3.

    >>> x = torch.tensor([[1.0, 2.0]])
    >>> multilinear_scores([x, x], [x])   # 1 + 8
    tensor([[9.]])
    """
    check_sides(queries, targets)
    return reduce(torch.mul, queries) @ reduce(torch.mul, targets).T


def squared_volumes(
    queries: Sequence[Float[Tensor, "n d"]], targets: Sequence[Float[Tensor, "m d"]]
) -> Float[Tensor, "n m"]:
    r"""The squared volume of the parallelotope that each query's and each target's vectors span (GRAM).

    $$v_{ij}^2 = \det G(q^1_i, \dots, t^1_j, \dots), \quad G_{kl} = v_k \cdot v_l$$

    Smaller is more alike. With one query and one target it is $1 - \cos^2$ for unit vectors, which cannot tell a
    vector from its opposite. Only dot products are formed: memory is O(n m), not O(n m d). bfloat16 and float16 are
    computed in float32.

    Args:
        queries: one or more (n, d), a modality each.
        targets: one or more (m, d), a modality each.

    Returns:
        (n, m) in [0, 1] for unit vectors, up to rounding, which may be below zero by about 1e-7 in float32.

    Raises:
        ValueError: as `multilinear_scores`.

    Reference: Cicchetti et al. 2024, arXiv 2412.11959, Section 3.1.

    >>> x, y = torch.eye(2)[:1], torch.eye(2)[1:]
    >>> squared_volumes([x], [y]).item(), squared_volumes([x], [x]).item()
    (1.0, 0.0)
    """
    check_sides(queries, targets)
    queries, targets = widened(queries), widened(targets)
    if len(queries) > len(targets):  # a volume does not know which side asked
        return squared_volumes(targets, queries).T
    if len(queries) == len(targets) == 1:
        (x,), (y,) = queries, targets
        return x.square().sum(dim=1)[:, None] * y.square().sum(dim=1) - (x @ y.T).square()
    if len(queries) == 1:
        return volume_squares(queries[0], targets).matrix()
    if len(queries) == len(targets) == 2:
        return _two_and_two(queries, targets)
    return determinant_and_adjugate(_gram_matrices(queries, targets))[0]


def gram_volumes(
    queries: Sequence[Float[Tensor, "n d"]], targets: Sequence[Float[Tensor, "m d"]]
) -> Float[Tensor, "n m"]:
    """The volume itself, the root of `squared_volumes`, with a finite gradient everywhere.

    Below 1e-4 the volume is held there and its gradient is zero: vectors that are equal, opposite or in one plane
    give no NaN. A ranking does not need the root.

    Args:
        queries: one or more (n, d), a modality each.
        targets: one or more (m, d), a modality each.

    Returns:
        (n, m), at least 1e-4; smaller is more alike.

    >>> x, y = torch.eye(2)[:1], torch.eye(2)[1:]
    >>> gram_volumes([x], [(x + y) / 2**0.5]).item() - 0.5**0.5 < 1e-6
    True
    """
    return squared_volumes(queries, targets).clamp_min(SMALLEST_SQUARE).sqrt()


def squared_areas(
    queries: Sequence[Float[Tensor, "n d"]], targets: Sequence[Float[Tensor, "m d"]]
) -> Float[Tensor, "n m"]:
    r"""Four times the squared area of the triangle between the three vectors' ends (TRIANGLE).

    $$4A^2 = \|u\|^2 \|v\|^2 - (u \cdot v)^2, \quad u = x - y, \; v = x - z$$

    Smaller is more alike. It does not matter which of the three is x. The released code of TRIANGLE forms u and v,
    two tensors of (n, m, d); here dot products are enough, O(n m).

    Args:
        queries: one or two (n, d), a modality each.
        targets: two or one (m, d), a modality each.

    Returns:
        (n, m), zero if the three ends lie on a line; up to rounding, which may be below zero.

    Raises:
        ValueError: as `multilinear_scores`, and unless there are exactly three vectors.

    Reference: Cicchetti et al. 2025, arXiv 2509.24734.

    >>> o, x, y = torch.zeros(1, 2), torch.eye(2)[:1], torch.eye(2)[1:]
    >>> squared_areas([o], [x, y]).item()   # (2 * 1/2)^2
    1.0
    """
    check_triangle(queries, targets)
    queries, targets = widened(queries), widened(targets)
    if len(queries) == 2:
        return squared_areas(targets, queries).T
    return area_squares(*queries, *targets).matrix()


def triangle_areas(
    queries: Sequence[Float[Tensor, "n d"]],
    targets: Sequence[Float[Tensor, "m d"]],
    formula: str = "published",
) -> Float[Tensor, "n m"]:
    r"""The area of the triangle, with a finite gradient everywhere.

    Args:
        queries: one or two (n, d), a modality each.
        targets: two or one (m, d), a modality each.
        formula: `"published"`, $A = \frac12 \sqrt{\|u\|^2\|v\|^2 - (u \cdot v)^2}$; or `"released"`, the same without
            the root, $2A^2$, which is what the released code of TRIANGLE and that of ConFu compute.

    Returns:
        (n, m); smaller is more alike. Both formulas give the same ranking.

    Raises:
        ValueError: as `squared_areas`, and for another formula.

    >>> o, x, y = torch.zeros(1, 2), torch.eye(2)[:1], torch.eye(2)[1:]
    >>> triangle_areas([o], [x, y]).item()
    0.5
    """
    check_triangle(queries, targets, formula)
    squared = squared_areas(queries, targets)
    return squared / 2 if formula == "released" else squared.clamp_min(SMALLEST_SQUARE).sqrt() / 2


def check_sides(queries: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Check that each side has vectors, (rows, dim), of one number of rows, and that all share one dim.

    Raises:
        ValueError: with the shapes that came.
    """
    got = f"got queries {[tuple(q.shape) for q in queries]} and targets {[tuple(t.shape) for t in targets]}"
    for side in (queries, targets):
        if not side or any(one.ndim != 2 for one in side) or len({len(one) for one in side}) != 1:
            raise ValueError(f"each side must be one or more tensors (rows, dim) of one number of rows; {got}")
    if len({one.shape[1] for one in (*queries, *targets)}) != 1:
        raise ValueError(f"queries and targets must have the same dim; {got}. Use one `dim` for every projection")


def check_triangle(queries: Sequence[Tensor], targets: Sequence[Tensor], formula: str = "published") -> None:
    """As `check_sides`, and that there are three vectors and the formula is known.

    Raises:
        ValueError: with what came.
    """
    if formula not in ("published", "released"):
        raise ValueError(f"formula must be 'published' (with the root) or 'released' (without); got {formula!r}")
    check_sides(queries, targets)
    if len(queries) + len(targets) != 3:
        raise ValueError(
            f"an area is that of a triangle of exactly three vectors; got {len(queries)} on the query's side and "
            f"{len(targets)} on the target's. Use gram_volumes or multilinear_scores for other numbers of modalities"
        )


def widened(vectors: Sequence[Tensor]) -> list[Tensor]:
    """bfloat16 and float16 as float32: a determinant is a difference of nearly equal numbers."""
    return [one.float() if one.dtype in (torch.bfloat16, torch.float16) else one for one in vectors]


def _two_and_two(queries: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """With Gram matrices A and B of the sides and products P: det A det B - tr(adj A P adj B P^T) + det(P)^2."""
    det_a, adj_a = determinant_and_adjugate(gram(torch.stack(list(queries), dim=1)))
    det_b, adj_b = determinant_and_adjugate(gram(torch.stack(list(targets), dim=1)))
    p = [[query @ target.T for target in targets] for query in queries]
    total = det_a[:, None] * det_b + (p[0][0] * p[1][1] - p[0][1] * p[1][0]).square()
    for a, b in product(range(2), repeat=2):
        inner = sum(adj_b[:, c, d] * p[a][c] * p[b][d] for c, d in product(range(2), repeat=2))
        total = total - adj_a[:, a, b, None] * inner
    return total


def _gram_matrices(queries: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """(n, m, k, k): the dot products of the k vectors of each query and target together."""
    n, m = len(queries[0]), len(targets[0])
    sides = [*((0, one) for one in queries), *((1, one) for one in targets)]
    rows = []
    for side, one in sides:
        row = []
        for other_side, other in sides:
            if side == other_side:
                dots = (one * other).sum(dim=1)
                row.append((dots[:, None] if side == 0 else dots).expand(n, m))
            else:
                row.append(one @ other.T if side == 0 else (other @ one.T))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)
