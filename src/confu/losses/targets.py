"""What a contrast of terms is made of, apart from the embeddings: who has what, and the weights of rows and targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Side:
    """What all processes together have of a side.

    Attributes:
        rows: (all rows,) which rows of the batch they are, ascending.
        groups: (all rows,) of each, -1 for none.
        sizes: of each process, in the order of the ranks.
    """

    rows: Int[Tensor, " all"]
    groups: Int[Tensor, " all"] | None
    sizes: list[int]

    def part(self, process: int) -> slice:
        """The rows of a process."""
        start = sum(self.sizes[:process])
        return slice(start, start + self.sizes[process])


@dataclass(frozen=True)
class Targets:
    r"""Of a term, the weights alpha, beta and M (see `confu.losses.tiled`), over the rows of all processes.

    $M_{ij}$ is `own`_i where j is the target of row i, plus `same_rows`_i + `same_columns`_j where both are of one
    group, plus `every_row`_i + `every_column`_j everywhere.

    Attributes:
        left: number of the side of the rows.
        right: of the columns.
        rows: (n,) alpha.
        columns: (m,) beta, or None if only the rows ask.
        position: (n,) the column of each row's own target, -1 for none; None if column i is that of row i.
        own: (n,).
        same: `same_rows` (n,) and `same_columns` (m,), or None.
        every: `every_row` (n,) and `every_column` (m,), or None.
    """

    left: int
    right: int
    rows: Float[Tensor, " n"]
    columns: Float[Tensor, " m"] | None
    position: Int[Tensor, " n"] | None
    own: Float[Tensor, " n"]
    same: tuple[Float[Tensor, " n"], Float[Tensor, " m"]] | None = None
    every: tuple[Float[Tensor, " n"], Float[Tensor, " m"]] | None = None


@dataclass(frozen=True)
class Job:
    """All that is not differentiated.

    Attributes:
        sides: as `Targets` number them.
        terms: what is computed.
        exclude: whether rows of one group are left out of one another's sums.
        spread: how the rows of several processes meet, `"gather"` or `"ring"`; None if this process has all.
        weights: of every row and column, by term, where nothing is missing, grouped or smoothed.
        gradient: whether there will be a backward pass.
        bfloat16: whether all numbers are bfloat16's, which a GPU multiplies faster.
    """

    sides: Sequence[Side]
    terms: Sequence[Targets]
    exclude: bool
    spread: str | None
    weights: Float[Tensor, " terms"] | None
    gradient: bool
    bfloat16: bool
