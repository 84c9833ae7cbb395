r"""Squared volumes and areas of one vector with each tuple of others, as a quadratic form of dot products.

With the Gram matrix $G_j$ of the others' rows j, and $p_{ij} = (x_i \cdot y^1_j, x_i \cdot y^2_j, \dots)$

$$\det G(x_i, y^1_j, y^2_j, \dots) = |x_i|^2 \det G_j - p_{ij}^T \, \mathrm{adj}(G_j) \, p_{ij}$$

(the Schur complement, without a division). All but the products is a matter of the others alone, O(m). Nothing of size
n m k k is formed, and there is no inverse that a degenerate tuple could lack. The area of a triangle is of the same
kind: with the edge e and the midpoint c of the other two, $4 A^2 = |e|^2 |x - c|^2 - (e \cdot (x - c))^2$.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_rows, check_temperature
from confu.losses.infonce import SMALL, info_nce_of_scores
from confu.losses.joint import contrast_weights, tiled_contrast

SMALLEST_SQUARE = 1e-8
"""Squared volumes and areas below it count as it: the root has no finite gradient at zero, and float32 rounds a
determinant of unit vectors by 1e-7 anyway."""


@dataclass(frozen=True)
class Squares:
    r"""What n x m squared volumes or areas are made of; P^a is the product of `left` with the a-th block of `right`.

    A volume is `lengths`_i `determinants`_j - sum_ab `minors`^{ab}_j P^a_ij P^b_ij. If these three are None, it is an
    area: P^0 - (P^1)^2.

    Attributes:
        left: (n, dim).
        right: (blocks * m, dim), the blocks one after the other.
        blocks: how many.
        lengths: (n,) squared.
        determinants: (m,) of the others' Gram matrices.
        minors: (blocks * (blocks + 1) / 2, m): upper triangles of the adjugates, row by row.
    """

    left: Float[Tensor, "n dim"]
    right: Float[Tensor, "blocks_m dim"]
    blocks: int
    lengths: Float[Tensor, " n"] | None = None
    determinants: Float[Tensor, " m"] | None = None
    minors: Float[Tensor, "pairs m"] | None = None

    @property
    def m(self) -> int:
        """How many tuples."""
        return len(self.right) // self.blocks

    def matrix(self, rows: slice = slice(None)) -> Float[Tensor, "_ m"]:
        """Those of some rows, differentiable."""
        blocks = (self.left[rows] @ self.right.T).unflatten(1, (self.blocks, self.m)).unbind(dim=1)
        if self.minors is None or self.determinants is None or self.lengths is None:
            return blocks[0] - blocks[1].square()
        total = self.lengths[rows, None] * self.determinants
        for (a, b), minor in zip(upper_pairs(self.blocks), self.minors):
            total = total - (minor if a == b else 2 * minor) * blocks[a] * blocks[b]
        return total


def contrast_squares(
    squares: Squares,
    temperature: float | Float[Tensor, ""],
    root: float | None,
    symmetric: bool,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """InfoNCE of scores - root * sqrt(square) / temperature, or - square / (2 * temperature) if root is None."""
    n, m = len(squares.left), squares.m
    if n != m:
        raise ValueError(f"anchor and others must have the same rows, one tuple each; got {n} and {m}")
    check_rows(n, 2, "InfoNCE, which needs a negative for each row,")
    check_temperature(temperature)

    def scores(rows: slice, tau: Tensor, *parts: Tensor) -> Tensor:
        left, right, *rest = parts
        squared = Squares(left, right, squares.blocks, *rest).matrix(rows)
        return (squared / -2 if root is None else squared.clamp_min(SMALLEST_SQUARE).sqrt() * -root) / tau

    tau = torch.as_tensor(temperature, dtype=squares.left.dtype, device=squares.left.device)
    parts = [squares.left, squares.right, squares.lengths, squares.determinants, squares.minors]
    inputs = [tau, *(one for one in parts if one is not None)]
    if n <= SMALL:
        return info_nce_of_scores(scores(slice(None), *inputs), symmetric=symmetric, label_smoothing=label_smoothing)
    return tiled_contrast(scores, inputs, (n, n), contrast_weights(n, symmetric, label_smoothing))


def volume_squares(x: Float[Tensor, "n dim"], others: Sequence[Float[Tensor, "m dim"]]) -> Squares:
    """The squared volumes of each row of x with each row of the others.

    >>> volume_squares(torch.eye(2)[:1], [torch.eye(2)]).matrix()
    tensor([[0., 1.]])
    """
    turned = _turned(others)
    if len(turned) == 2:  # the usual case, without the copies of the general one
        (a, b), (c,) = _dots(turned[0], turned), _dots(turned[1], turned[1:])
        determinants, minors = a * c - b.square(), torch.stack([c, -b, a])
    else:
        determinants, adjugates = determinant_and_adjugate(gram(torch.stack(turned, dim=1)))
        minors = torch.stack([adjugates[:, a, b] for a, b in upper_pairs(len(turned))])
    return Squares(x, torch.cat(turned), len(turned), x.square().sum(dim=1), determinants, minors)


def area_squares(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], z: Float[Tensor, "m dim"]) -> Squares:
    """Four times the squared areas of the triangles of each row of x with each row of y and z.

    >>> area_squares(torch.zeros(1, 2), torch.eye(2)[:1], torch.eye(2)[1:]).matrix()
    tensor([[1.]])
    """
    edge, middle = z - y, (y + z) / 2
    edges = edge.square().sum(dim=1, keepdim=True)
    # |x - c|^2 and e . (x - c) are products of (x, |x|^2, 1) with what is known of the edge.
    left = torch.cat([x, x.square().sum(dim=1, keepdim=True), torch.ones_like(x[:, :1])], dim=1)
    first = torch.cat([-2 * edges * middle, edges, edges * middle.square().sum(dim=1, keepdim=True)], dim=1)
    offset = (edge * middle).sum(dim=1, keepdim=True)
    second = torch.cat([edge, torch.zeros_like(edges), -offset], dim=1)
    return Squares(left, torch.cat([first, second]), 2)


def _turned(others: Sequence[Tensor]) -> list[Tensor]:
    """Their mean, and of each but the first its difference from the mean of those before: the same volume.

    Of others that nearly agree only small numbers remain, so that their volumes are rounded by as little.
    """
    if len(others) == 2:
        return [(others[0] + others[1]) / 2, others[0] - others[1]]
    differences = [torch.stack([one - others[b] for one in others[:b]]).mean(dim=0) for b in range(1, len(others))]
    return [torch.stack(list(others)).mean(dim=0), *differences]


def _dots(one: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    return [(one * other).sum(dim=1) for other in others]


def upper_pairs(blocks: int) -> list[tuple[int, int]]:
    """(0, 0), (0, 1), ..., (1, 1), ...: the places of an upper triangle, row by row."""
    return [(a, b) for a in range(blocks) for b in range(a, blocks)]


def gram(vectors: Float[Tensor, "m k dim"]) -> Float[Tensor, "m k k"]:
    """The dot products of the k vectors of each row, each a sum of its own: a product of small matrices is slow."""
    count = vectors.shape[1]
    dots = {(a, b): (vectors[:, a] * vectors[:, b]).sum(dim=1) for a, b in upper_pairs(count)}
    rows = [torch.stack([dots[min(a, b), max(a, b)] for b in range(count)], dim=1) for a in range(count)]
    return torch.stack(rows, dim=1)


def determinant_and_adjugate(
    matrices: Float[Tensor, "*stack k k"],
) -> tuple[Float[Tensor, "*stack"], Float[Tensor, "*stack k k"]]:
    """Of symmetric matrices, as polynomials: unlike torch's, their gradients exist if a determinant is zero.

    Up to k = 3 these are the closed forms; beyond, the method of Faddeev and LeVerrier.

    >>> determinant_and_adjugate(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
    (tensor(5.), tensor([[ 3., -1.],
            [-1.,  2.]]))
    """
    size = matrices.shape[-1]
    if size == 1:
        return matrices[..., 0, 0], torch.ones_like(matrices)
    if size == 2:
        a, b, c = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]
        adjugate = torch.stack([torch.stack([c, -b], dim=-1), torch.stack([-b, a], dim=-1)], dim=-2)
        return a * c - b.square(), adjugate
    if size == 3:
        one, two, three = matrices.unbind(dim=-2)
        crossed = torch.linalg.cross(two, three)
        adjugate = torch.stack([crossed, torch.linalg.cross(three, one), torch.linalg.cross(one, two)], dim=-2)
        return (one * crossed).sum(dim=-1), adjugate
    identity = torch.eye(size, dtype=matrices.dtype, device=matrices.device)
    before, product, coefficient = identity, matrices, torch.zeros_like(matrices[..., 0, 0])
    for k in range(1, size + 1):
        coefficient = -product.diagonal(dim1=-2, dim2=-1).sum(-1) / k
        if k < size:
            before = product + coefficient[..., None, None] * identity
            product = matrices @ before
    return (coefficient, -before) if size % 2 == 0 else (-coefficient, before)
