"""InfoNCE with the volume or the area that several embeddings span in place of a cosine (GRAM, TRIANGLE)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from confu._typing import Vectors
from confu.functional.info_nce import info_nce_of_scores
from confu.functional.scores import gram_volumes, triangle_areas


def gram_contrast(
    anchor: Vectors,
    others: Sequence[Vectors],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    label_smoothing: float = 0.0,
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
    return _contrast(gram_volumes([anchor], others), temperature, symmetric, label_smoothing)


def triangle_contrast(
    anchor: Vectors,
    others: Sequence[Vectors],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    formula: str = "published",
    symmetric: bool = True,
    label_smoothing: float = 0.0,
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
    return _contrast(triangle_areas([anchor], others, formula), temperature, symmetric, label_smoothing)


def _contrast(
    distances: Float[Tensor, "n m"], temperature: float | Float[Tensor, ""], symmetric: bool, label_smoothing: float
) -> Float[Tensor, ""]:
    n, m = distances.shape
    if n != m:
        raise ValueError(f"anchor and others must have the same rows, one tuple each; got {n} and {m}")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return info_nce_of_scores(-distances / temperature, symmetric=symmetric, label_smoothing=label_smoothing)
