"""How many targets score better than a query's own, and how many the same: counted tile by tile.

No more than a tile of scores is held at once, however many queries and targets there are: time grows with n m, memory
does not.

Shapes: n queries, m targets of the gallery.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_rows
from confu.evaluation.scoring import TIE_TOLERANCE, pair_scores, tie_widths
from confu.products import products

_TILE = 1 << 22  # numbers held at once, times a small constant, for the square of the number of vectors compared
_ROWS = 512  # queries of a tile, where a tile does not hold the whole gallery


@dataclass(frozen=True, eq=False)
class GroupRanks:
    """Where the first row of the query's own group stands: every row of the group is right.

    Attributes:
        better: (n,) how many rows of other groups score better than the best of its own.
        tied: (n,) how many rows of other groups score the same as that one.
        right: (n,) how many rows of its own group do, at least 1.
        members: (n,) how many rows of the gallery belong to its group, at least 1.
    """

    better: Int[Tensor, " n"]
    tied: Int[Tensor, " n"]
    right: Int[Tensor, " n"]
    members: Int[Tensor, " n"]


def count_ranks(
    queries: Sequence[Float[Tensor, "n _"]],
    targets: Sequence[Float[Tensor, "m _"]],
    own: Int[Tensor, " n"],
    score: str = "cosine",
    groups: Int[Tensor, " m"] | None = None,
    tolerance: float = TIE_TOLERANCE,
    chunk_size: int | None = None,
    tile_size: int | None = None,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"], GroupRanks | None]:
    """Where each query's own target stands in the gallery.

        better_i = #{j : s_ij > s_i,own(i) + tolerance_i},   tied_i = #{j : |s_ij - s_i,own(i)| <= tolerance_i}

    Args:
        queries: one (n, dim) of unit vectors a side, see `confu.evaluation.scoring.pair_scores`.
        targets: one (m, dim) a side.
        own: (n,) the target that belongs to each query.
        score: how they are compared.
        groups: (m,) of the targets; those of the own target's group are right too. -1 is a target of no group.
        tolerance: of equal scores, see `tie_widths`.
        chunk_size: queries at once, in place of the default.
        tile_size: targets at once, in place of the default.

    Returns:
        better, tied and the first of the targets with the highest score, each (n,) on the CPU; and the ranks by group
        if there are groups.

    Example:
        >>> better, tied, first, _ = count_ranks([torch.eye(3)[:1]], [torch.eye(3)], torch.tensor([2]))
        >>> better.tolist(), tied.tolist(), first.tolist()
        ([1], [2], [0])
    """
    if score != "cosine":  # once, and not again in every tile
        queries, targets = [one.double() for one in queries], [one.double() for one in targets]
    n, m = len(queries[0]), len(targets[0])
    most = _TILE // (len(queries) + len(targets)) ** 2
    step = chunk_size or min(max(_ROWS, most // max(m, 1)), most)
    width = tile_size or max(1, most // step)
    own = own.to(targets[0].device)
    if n == 0:
        none = torch.zeros(0, dtype=torch.long)
        return none, none, none, None if groups is None else GroupRanks(none, none, none, none)
    counts = []
    for start in range(0, n, step):
        some = slice(start, start + step)
        chunk = _Chunk(score, [one[some] for one in queries], targets, own[some], width)
        counts.append([one.cpu() for one in _counts(chunk, groups, tolerance)])
    columns = [torch.cat(parts) for parts in zip(*counts)]
    better, tied, first = columns[:3]
    return better, tied, first, GroupRanks(*columns[3:]) if groups is not None else None


class _Chunk:
    """The scores of some queries, tile by tile; each is computed when it is needed, a single one once."""

    def __init__(self, score: str, queries: list[Tensor], targets: Sequence[Tensor], own: Tensor, width: int) -> None:
        self.score, self.queries, self.targets, self.own = score, queries, targets, own
        size = len(targets[0])
        self.tiles = [slice(start, min(start + width, size)) for start in range(0, size, width)]
        self.kept = self._scores(self.tiles[0]) if len(self.tiles) == 1 else None

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for tile in self.tiles:
            yield tile, self._scores(tile) if self.kept is None else self.kept

    def _scores(self, tile: slice) -> Tensor:
        with products(self.queries[0]):
            return pair_scores(self.score, self.queries, [one[tile] for one in self.targets])

    def own_scores(self) -> Tensor:
        """(n, 1) of each query with its own target."""
        if self.kept is not None:
            return self.kept.gather(1, self.own[:, None])
        if self.score == "cosine":
            query, target = self.queries[0], self.targets[0][self.own]
            return (query.double() * target.double()).sum(dim=1, keepdim=True).to(query.dtype)
        values = self.queries[0].new_empty(len(self.own), 1)
        for tile, scores in self:
            rows = self.inside(tile)
            values[rows] = scores[rows].gather(1, self.own[rows, None] - tile.start)
        return values

    def inside(self, tile: slice) -> Tensor:
        """The queries whose own target lies in the tile."""
        return ((self.own >= tile.start) & (self.own < tile.stop)).nonzero()[:, 0]

    def largest(self) -> Tensor:
        """(n, 1) the largest of each query's scores, by its size."""
        values = [scores.abs().amax(dim=1, keepdim=True) for _, scores in self]
        return torch.cat(values, dim=1).amax(dim=1, keepdim=True)


def _counts(chunk: _Chunk, groups: Tensor | None, tolerance: float) -> list[Tensor]:
    n = len(chunk.own)
    at = chunk.own_scores()
    width = tolerance if chunk.score == "cosine" else tie_widths(chunk.score, chunk.largest(), tolerance)
    better, level, first = (torch.zeros(n, dtype=torch.long, device=at.device) for _ in range(3))
    highest = torch.full((n,), -torch.inf, dtype=at.dtype, device=at.device)
    for tile, scores in chunk:
        # The own score as it was taken, so that it ties with itself however the tile's product was rounded.
        rows = chunk.inside(tile)
        scores[rows, chunk.own[rows] - tile.start] = at[rows, 0]
        better += _count(scores, torch.gt, at + width)
        level += _count(scores, torch.ge, at - width)
        top = scores.amax(dim=1)
        risen = (top > highest).nonzero()[:, 0]
        highest[risen] = top[risen]
        first[risen] = scores[risen].argmax(dim=1) + tile.start
    counts = [better, level - better, first]
    return counts if groups is None else [*counts, *_group_counts(chunk, groups.to(at.device), width)]


def _count(scores: Tensor, compare: Callable[..., Tensor], limit: Tensor) -> Tensor:
    """How many scores of each line stand the comparison; as float32, which is counted four times as fast as truth."""
    met = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
    return compare(scores, limit, out=met).sum(dim=1).long()


def _group_counts(chunk: _Chunk, groups: Tensor, width: float | Tensor) -> list[Tensor]:
    """better, tied, right and members; two passes, since the best of the group is known after the first."""
    n, own_column = len(chunk.own), chunk.own[:, None]
    group = groups[chunk.own][:, None]
    best = chunk.queries[0].new_full((n, 1), -torch.inf)
    counts = torch.zeros(4, n, dtype=torch.long, device=best.device)

    def belongs(tile: slice) -> Tensor:
        columns = torch.arange(tile.start, tile.stop, device=groups.device)
        return ((groups[tile] == group) & (group >= 0)) | (columns == own_column)

    for tile, scores in chunk:
        best = best.maximum(scores.masked_fill(~belongs(tile), -torch.inf).amax(dim=1, keepdim=True))
    for tile, scores in chunk:
        own, ties = belongs(tile), (scores - best).abs() <= width
        parts = (scores > best + width) & ~own, ties & ~own, ties & own, own
        counts += torch.stack([part.sum(dim=1) for part in parts])
    return list(counts)


def first_hit_credit(
    better: Int[Tensor, " n"], tied: Int[Tensor, " n"], right: Int[Tensor, " n"], k: int
) -> Float[Tensor, " n"]:
    """The chance that at least one right target is among the first k if ties are broken at random.

        1 - C(t, j) / C(t + r, j),   j = clip(k - b, 0, t + r)

    where b wrong targets stand before the best right one, and t wrong and r right ones score the same as it.

    Example:
        >>> first_hit_credit(torch.tensor([0, 3]), torch.tensor([2, 0]), torch.tensor([2, 1]), k=2)
        tensor([0.8333, 0.0000], dtype=torch.float64)
    """
    check_rows(k, 1, "recall at k")
    drawn = (k - better).clamp_min(0).minimum(tied + right)
    missed = _log_choose(tied, drawn.minimum(tied)) - _log_choose(tied + right, drawn)
    return torch.where(drawn > tied, 1.0, (1 - missed.exp()).clamp(0.0, 1.0))


def first_hit_reciprocal(
    better: Int[Tensor, " n"], tied: Int[Tensor, " n"], right: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The expectation of 1 / rank of the first right target if ties are broken at random.

        sum_{j=1}^{t+1} C(t + r - j, r - 1) / C(t + r, r) / (b + j)

    where b wrong targets stand before the best right one, and t wrong and r right ones score the same as it.

    Example:
        >>> first_hit_reciprocal(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 2]))
        tensor([0.7500, 0.5000], dtype=torch.float64)
    """
    credit = 1.0 / (better + 1).double()
    for row in (tied > 0).nonzero()[:, 0].tolist():
        chances = first_hit_chances(tied[row], right[row])
        credit[row] = (chances / (better[row] + torch.arange(1, len(chances) + 1))).sum()
    return credit


def first_hit_chances(wrong: Int[Tensor, ""], right: Int[Tensor, ""]) -> Float[Tensor, " ranks"]:
    """The chance that the first right target of a random order has rank 1, 2, ..., wrong + 1."""
    ranks = torch.arange(1, int(wrong) + 2)
    return (_log_choose(wrong + right - ranks, right - 1) - _log_choose(wrong + right, right)).exp()


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
