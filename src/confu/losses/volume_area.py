"""InfoNCE with the volume or the area that several embeddings span in place of a cosine (GRAM, TRIANGLE)."""

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_rows
from confu.losses.infonce import info_nce_of_scores
from confu.losses.joint_sums import joint_log_sums
from confu.losses.scores import SMALLEST_SQUARE, check_sides, check_triangle, widened
from confu.losses.squares import Squares, area_squares, volume_squares
from confu.types import Vectors

SMALL = 128
"""Up to so many rows calls cost more than numbers, and the scores are formed at once."""


def gram_contrast(
    anchor: Vectors,
    others: Sequence[Vectors],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    label_smoothing: float = 0.0,
    keep: bool | None = None,
) -> Float[Tensor, ""]:
    r"""Each anchor must find the tuple of the other modalities with which it spans the smallest volume.

    $$\frac1N \sum_i -\log \frac{\exp(-V(a_i, y_i, z_i) / \tau)}{\sum_j \exp(-V(a_i, y_j, z_j) / \tau)}$$

    and, if symmetric, each tuple its anchor. The negatives are the tuples of the other rows, kept together.

    Args:
        anchor: (batch, dim) unit vectors.
        others: one or more (batch, dim); row i of each belongs to row i of the anchor.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        symmetric: both directions, as GRAM.
        label_smoothing: see `info_nce_of_scores`.
        keep: see `joint_log_sums`; None chooses by size.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: if shapes differ, there are fewer than two rows, or the temperature is not positive.

    Reference: Cicchetti et al. 2024, arXiv 2412.11959, Eq. 6 and 7.

    >>> import torch
    >>> z = torch.eye(4)
    >>> round(gram_contrast(z, [z], temperature=1.0).item(), 4)   # -log(1 / (1 + 3/e)), up to the volume held at 1e-4
    0.7437
    """
    check_sides([anchor], others)
    anchor, *others = widened([anchor, *others])
    # No volume is larger than the product of the edges.
    largest = reduce(torch.mul, _longest([anchor, *others]))
    squares = volume_squares(anchor, others)
    return _contrast(squares, temperature, 1.0, largest, symmetric, label_smoothing, keep)


def triangle_contrast(
    anchor: Vectors,
    others: Sequence[Vectors],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    formula: str = "published",
    symmetric: bool = True,
    label_smoothing: float = 0.0,
    keep: bool | None = None,
) -> Float[Tensor, ""]:
    r"""Each anchor must find the pair of the other two modalities with which its triangle is smallest.

    As `gram_contrast` with the area of the triangle for the volume.

    Args:
        anchor: (batch, dim) unit vectors.
        others: exactly two (batch, dim); row i of each belongs to row i of the anchor.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        formula: `"published"` or `"released"`, see `triangle_areas`.
        symmetric: both directions, as TRIANGLE.
        label_smoothing: see `info_nce_of_scores`.
        keep: see `joint_log_sums`; None chooses by size.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: as `gram_contrast`, unless there are exactly two others, and for another formula.

    Reference: Cicchetti et al. 2025, arXiv 2509.24734.

    >>> import torch
    >>> z = torch.eye(4)
    >>> round(triangle_contrast(z, [z, z]).item(), 4)   # log 4: a pair of equal vectors is flat with every anchor
    1.3863
    >>> triangle_contrast(z, [z, -z]).item() < 1.3863   # the triangle of the own pair is flat, the others' are not
    True
    """
    check_triangle([anchor], others, formula)
    x, y, z = widened([anchor, *others])
    # Of all triangles in a ball the equilateral one on its rim is largest: 4 A^2 = 27/4 r^4.
    largest = 6.75 * reduce(torch.maximum, _longest([x, y, z])).square()
    root = 0.5 if formula == "published" else None
    return _contrast(area_squares(x, y, z), temperature, root, largest, symmetric, label_smoothing, keep)


def _contrast(
    squares: Squares,
    temperature: float | Float[Tensor, ""],
    root: float | None,
    largest: Float[Tensor, ""],
    symmetric: bool,
    label_smoothing: float,
    keep: bool | None,
) -> Float[Tensor, ""]:
    """InfoNCE of scores - root * sqrt(square) / temperature, or - square / (2 * temperature) if root is None."""
    n, m = len(squares.left), squares.m
    if n != m:
        raise ValueError(f"anchor and others must have the same rows, one tuple each; got {n} and {m}")
    check_rows(n, 2, "InfoNCE, which needs a negative for each row,")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if keep is None and n <= SMALL:
        squared = squares.matrix()
        scores = squared / -2 if root is None else squared.clamp_min(SMALLEST_SQUARE).sqrt() * -root
        return info_nce_of_scores(scores / temperature, symmetric=symmetric, label_smoothing=label_smoothing)
    tau = torch.as_tensor(temperature, dtype=squares.left.dtype, device=squares.left.device)
    factor = (0.5 if root is None else root) / tau
    sums = joint_log_sums(
        squares, factor, floor=None if root is None else SMALLEST_SQUARE, largest=largest, columns=symmetric,
        total=label_smoothing > 0, keep=keep,
    )  # fmt: skip
    found = sums.rows if sums.columns is None else (sums.rows + sums.columns) / 2
    loss = found.mean() - (1 - label_smoothing) * sums.own.mean()
    # The mean of all scores is that of the targets of a row, over rows, and of a column, over columns.
    return loss if sums.total is None else loss - label_smoothing * sums.total / n**2


def _longest(vectors: Sequence[Vectors]) -> list[Float[Tensor, ""]]:
    return [one.detach().square().sum(dim=1).max() for one in vectors]
