"""A lower bound on total correlation from the InfoNCE losses of a plan's terms."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from torch import Tensor

from confu.plan import Subset


def total_correlation_bound(
    losses: Mapping[tuple[Subset, Subset], tuple[float | Tensor, int]], modalities: Sequence[str]
) -> float | Tensor | None:
    r"""A lower bound on the total correlation of the modalities, in nats (Eq. 11 to 13).

    The chain rule writes TC(X_1..X_M) as a sum of I(X_k; X_S), S being the modalities before k; averaged over all
    orders each I(X_k; X_S) has the weight |S|! (M-|S|-1)! / M!. Each is bounded by log N - L_InfoNCE, so that

    $$TC \ge \sum_{k,\; S \not\ni k} \frac{|S|!\,(M-|S|-1)!}{M!} \left(\log N - \hat L^{(k,S)}\right)$$

    Args:
        losses: InfoNCE in nats (numbers or scalar tensors) and the number of rows N it was computed on, by the two
            subsets of the term in any order. Terms between two fused subsets are not needed.
        modalities: all M names.

    Returns:
        The bound, of the type of the losses: at most (M - 1) log N; None if a term that it needs is missing
        (pairwise plans for M > 2).

    Reference: ConFu Eq. 9 to 13; van den Oord et al. 2018. The paper's Eq. 10 and 13 carry the factor 1/3 before a
    sum over six permutations, which counts every term twice; here each counts once, so that the bound is one on TC.
    Eq. 11 bounds an expectation: a value from one batch is an estimate and may lie above TC by chance.

    >>> a, b = Subset("a"), Subset("b")
    >>> round(total_correlation_bound({(a, b): (0.0, 8)}, ("a", "b")), 4)   # log 8: as much as a batch of 8 can show
    2.0794
    """
    by_sides = {frozenset(sides): value for sides, value in losses.items()}
    m = len(modalities)
    total: float | Tensor = 0.0
    for name in modalities:
        others = [other for other in modalities if other != name]
        for size in range(1, m):
            weight = math.factorial(size) * math.factorial(m - size - 1) / math.factorial(m)
            for chosen in combinations(others, size):
                term = by_sides.get(frozenset((Subset(name), Subset(*chosen))))
                if term is None:
                    return None
                loss, rows = term
                total += weight * (math.log(rows) - loss)
    return total
