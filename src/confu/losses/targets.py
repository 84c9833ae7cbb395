"""What a contrast of terms is made of, apart from the embeddings: who has what, and the weights of rows and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.types import joint_contents


@dataclass(frozen=True)
class Side:
    """What all processes together have of a side.

    Attributes:
        rows: (all rows,) which rows of the batch they are, ascending.
        sizes: of each process, in the order of the ranks.
    """

    rows: Int[Tensor, " all"]
    sizes: list[int]

    def part(self, process: int) -> slice:
        """The rows of a process."""
        start = sum(self.sizes[:process])
        return slice(start, start + self.sizes[process])


@dataclass(frozen=True)
class Alike:
    """An equivalence of the batch's rows.

    Attributes:
        numbers: (all rows,) rows of one number are alike, from 0 to `count` - 1; -1 is like no row.
        count: of the numbers.
    """

    numbers: Int[Tensor, " all"]
    count: int

    @classmethod
    def of(cls, ids: Int[Tensor, " all"]) -> "Alike":
        """The rows of one id are alike; those below 0 are like no row.

        >>> import torch
        >>> Alike.of(torch.tensor([7, -1, 7, 3, -1])).numbers.tolist()
        [1, -1, 1, 0, -1]
        """
        values, numbers = ids.clamp_min(-1).unique(return_inverse=True)
        unknown = int(len(values) > 0 and values[0] < 0)
        return cls(numbers - unknown, len(values) - unknown)

    def has_pairs(self) -> bool:
        """Whether any two rows are alike."""
        return self.count < int((self.numbers >= 0).sum())

    def buckets(self, side: Side) -> Int[Tensor, " n"]:
        """The numbers of a side's rows; `count` for those that are like no row."""
        numbers = self.numbers[side.rows]
        return numbers.masked_fill(numbers < 0, self.count)

    def between(self, lefts: Side, rights: Side) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
        """The numbers of two sides' rows in int32; those that are like no row are -1 left and -2 right."""
        left, right = (self.numbers[side.rows].int() for side in (lefts, rights))
        return left, right.masked_fill_(right < 0, -2)

    def mask(self) -> Bool[Tensor, "all all"]:
        """Which rows are like which."""
        return (self.numbers == self.numbers[:, None]) & (self.numbers >= 0)


@dataclass(frozen=True)
class AlikeSum:
    """How often each pair of rows counts as positive, and as left out, if these rows are alike.

    Attributes:
        alike: the rows.
        positives: added for the pair to the count of whether it is a positive.
        excluded: the same of whether it is left out.
    """

    alike: Alike
    positives: int
    excluded: int


def alike_sums(positives: Sequence[Alike], excluded: Sequence[Alike]) -> list[AlikeSum]:
    """Whether two rows are alike in any way, as a sum over equivalences, by inclusion and exclusion.

    Rows that are positives in one way and excluded in another are positives. "Any of two ways" is no equivalence (the
    sound of one row and the text of another link rows that share neither), but the first plus the second less both is
    a sum of three, each of which is summed over in O(rows).

    Args:
        positives: ways in which rows are positives of one another.
        excluded: ways in which they are left out.
    """
    ways = [*positives, *excluded]
    sums = []
    for size in range(1, len(ways) + 1):
        for chosen in combinations(range(len(ways)), size):
            sign = (-1) ** (size + 1)
            positive = sign if max(chosen) < len(positives) else 0
            if not positive and not excluded:
                continue
            joint = ways[chosen[0]] if size == 1 else Alike.of(joint_contents([ways[way].numbers for way in chosen]))
            sums.append(AlikeSum(joint, positive, sign - positive if excluded else 0))
    return sums


@dataclass(frozen=True)
class Same:
    """Weights of pairs of alike rows of a term's two sides: `of_left`_i + `of_right`_j.

    Attributes:
        left: (n,) the number of each left row, from 0 to `count`; rows of `count` have the weight 0.
        right: (m,) of each right row.
        count: of the numbers.
        of_left: (n,).
        of_right: (m,).
    """

    left: Int[Tensor, " n"]
    right: Int[Tensor, " m"]
    count: int
    of_left: Float[Tensor, " n"]
    of_right: Float[Tensor, " m"]

    def part(self, left: slice, right: slice) -> "Same":
        """Of some rows of each side."""
        return Same(self.left[left], self.right[right], self.count, self.of_left[left], self.of_right[right])


@dataclass(frozen=True)
class Targets:
    r"""Of a term, the weights alpha, beta and M (see `confu.losses.tiled`), over the rows of all processes.

    $M_{ij}$ is `own`_i where j is the target of row i, plus the weights of each of `same` where both are alike, plus
    `every_row`_i + `every_column`_j everywhere.

    Attributes:
        left: number of the side of the rows.
        right: of the columns.
        rows: (n,) alpha.
        columns: (m,) beta, or None if only the rows ask.
        position: (n,) the column of each row's own target, -1 for none; None if column i is that of row i.
        own: (n,).
        same: of rows that are alike.
        every: `every_row` (n,) and `every_column` (m,), or None.
        excluded: pairs of numbers (n,) and (m,), one for each way to be alike: rows of equal numbers are left
            out of one another's sums. In int32, which is compared faster.
        not_excluded: likewise, of those that are not left out all the same: each row's own target, and positives.
    """

    left: int
    right: int
    rows: Float[Tensor, " n"]
    columns: Float[Tensor, " m"] | None
    position: Int[Tensor, " n"] | None
    own: Float[Tensor, " n"]
    same: Sequence[Same] = ()
    every: tuple[Float[Tensor, " n"], Float[Tensor, " m"]] | None = None
    excluded: Sequence[tuple[Int[Tensor, " n"], Int[Tensor, " m"]]] = ()
    not_excluded: Sequence[tuple[Int[Tensor, " n"], Int[Tensor, " m"]]] = ()


@dataclass(frozen=True)
class Job:
    """All that is not differentiated.

    Attributes:
        sides: as `Targets` number them.
        terms: what is computed.
        spread: how the rows of several processes meet, `"gather"` or `"ring"`; None if this process has all.
        weights: of every row and column, by term, where nothing is missing, alike or smoothed.
        gradient: whether there will be a backward pass.
        bfloat16: whether all numbers are bfloat16's, which a GPU multiplies faster.
    """

    sides: Sequence[Side]
    terms: Sequence[Targets]
    spread: str | None
    weights: Float[Tensor, " terms"] | None
    gradient: bool
    bfloat16: bool
