"""A map of embeddings: each vector a point in the plane."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_finite, check_known

METHODS = ("pca", "tsne")


@dataclass(frozen=True, eq=False)
class Map2D:
    """Points in the plane.

    Attributes:
        points: (n, 2).
        method: one of `METHODS`.
        shares: how much of the variance each axis has, for `"pca"`; None for others.
    """

    points: Float[Tensor, "n 2"]
    method: str
    shares: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Projection:
    """The plane of a PCA map, into which other vectors can be put too.

    Attributes:
        mean: (dim,) float64, which becomes the origin.
        axes: (dim, 2) float64, of length one; of vectors with one number the second is zero.
        shares: how much of the variance each axis has.
    """

    mean: Float[Tensor, " dim"]
    axes: Float[Tensor, "dim 2"]
    shares: tuple[float, float]

    def points(self, vectors: Float[Tensor, "n dim"]) -> Float[Tensor, "n 2"]:
        """Where vectors of the same space lie in the plane: (x - mean) axes."""
        return ((vectors.double() - self.mean) @ self.axes).float()


def projection_of(vectors: Float[Tensor, "n dim"]) -> Projection:
    """The plane of the two directions in which these vectors vary most.

    Each axis has its largest component positive, so that the same vectors always give the same plane.

    Example:
        >>> plane = projection_of(torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]))
        >>> plane.points(torch.tensor([[3.0, 1.0, 5.0]])).tolist()
        [[3.0, 1.0]]
    """
    check_finite("vectors", vectors)
    if not len(vectors):
        raise ValueError("vectors must hold at least one, for there is no plane through none")
    mean = vectors.double().mean(0)
    centred = vectors.double() - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    if len(mean) == 1:  # a line is a map too
        variances, axes = torch.cat([variances.new_zeros(1), variances]), torch.cat([axes.new_zeros(1, 1), axes], dim=1)
    axes = axes[:, -2:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    total = float(variances.sum())
    first, second = (max(0.0, float(one)) / total if total > 0 else 0.0 for one in variances[-2:].flip(0))
    return Projection(mean, axes, (round(first, 12), round(second, 12)))


def map_2d(vectors: Float[Tensor, "n dim"], method: str = "pca", seed: int = 0) -> Map2D:
    r"""Project vectors to the plane.

    `"pca"` keeps the two directions of the largest variance: x V_2 with V_2 the first eigenvectors of the covariance.
    Distances in it are never larger than the true ones. `"tsne"` keeps neighbours and not distances: clusters in it
    can be trusted, gaps and sizes cannot.

    Args:
        vectors: (n, dim).
        method: `"pca"`, or `"tsne"`, which needs scikit-learn.
        seed: of t-SNE; PCA has no randomness.

    Returns:
        the points; for PCA centred, each axis with its largest component positive, so that the same vectors always give
        the same map.

    Reference: van der Maaten and Hinton 2008, Visualizing Data using t-SNE.

    Example:
        >>> flat = map_2d(torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]))
        >>> flat.points.abs().tolist(), flat.shares
        ([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], (0.8, 0.2))
    """
    check_known("method", method, METHODS)
    check_finite("vectors", vectors)
    if method == "pca":
        if not len(vectors):
            return Map2D(vectors.new_zeros(0, 2), "pca", (0.0, 0.0))
        plane = projection_of(vectors)
        return Map2D(plane.points(vectors), "pca", plane.shares)
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "t-SNE needs scikit-learn, which is not installed. Use method 'pca', or install it: "
            'pip install "contrastive-fusion[probe]"'
        ) from error
    if len(vectors) < 4:
        raise ValueError(f"t-SNE needs at least 4 vectors; got {len(vectors)}. Use method 'pca'")
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    placed = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors.cpu().double().numpy())
    return Map2D(torch.from_numpy(placed).float(), "tsne", None)
