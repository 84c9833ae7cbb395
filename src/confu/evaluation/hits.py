"""Whether a right target is among the first k, where several are right or tie, and what chance would give."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_rows


def first_hit_credit(
    better: Int[Tensor, " n"], tied: Int[Tensor, " n"], right: Int[Tensor, " n"], k: int
) -> Float[Tensor, " n"]:
    """The chance that at least one right target is among the first k if ties are broken at random.

        1 - C(t, j) / C(t + r, j),   j = clip(k - b, 0, t + r)

    For one right target, r = 1, it is j / (t + 1), as `recall_credit`.

    Args:
        better: (n,) b, wrong targets before the best right one.
        tied: (n,) t, wrong targets that score the same as it.
        right: (n,) r, right targets that score the same as it, itself among them.
        k: at least 1.

    Returns:
        (n,) in [0, 1].

    Example:
        >>> first_hit_credit(torch.tensor([0, 3]), torch.tensor([2, 0]), torch.tensor([2, 1]), k=2)
        tensor([0.8333, 0.0000], dtype=torch.float64)
    """
    check_rows(k, 1, "recall at k")
    drawn = (k - better).clamp_min(0).minimum(tied + right)
    missed = _log_choose(tied, drawn.minimum(tied)) - _log_choose(tied + right, drawn)
    return torch.where(drawn > tied, 1.0, (1 - missed.exp()).clamp(0.0, 1.0))


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    n, k = n.double(), k.double()
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)


def chance_recall(gallery: int, k: int, members: Int[Tensor, " n"] | None = None) -> float:
    """The recall at k of a random order: k / m, and 1 - C(m - g, k) / C(m, k) on average where g targets are right.

    Example:
        >>> chance_recall(200, 10), round(chance_recall(200, 10, torch.tensor([20])), 3)
        (0.05, 0.66)
    """
    if members is None:
        return min(1.0, k / gallery)
    return float(first_hit_credit(torch.zeros_like(members), gallery - members, members, min(k, gallery)).mean())


def usual_ks(sizes: Iterable[int]) -> tuple[int, ...]:
    """The k of recall@k that say something in galleries of these sizes: 1, and 5 and 10 up to half of the largest.

    Example:
        >>> usual_ks([4]), usual_ks([12]), usual_ks([1000, 30])
        ((1,), (1, 5), (1, 5, 10))
    """
    largest = max(sizes, default=0)
    return tuple(k for k in (1, 5, 10) if k == 1 or largest >= 2 * k)
