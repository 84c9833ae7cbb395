"""The images of AV-MNIST: digits of which only the first principal components are left."""

from dataclasses import dataclass
from typing import Any

import numpy as np

_CHUNK = 10_000


@dataclass(frozen=True)
class PCA:
    """A projection on principal components.

    Attributes:
        mean: (pixels,).
        components: (kept, pixels), orthonormal.
        ratios: (pixels,) the share of the variance in each component, largest first.
        share: the share that was asked for.
    """

    mean: np.ndarray
    components: np.ndarray
    ratios: np.ndarray
    share: float

    def project(self, images: np.ndarray) -> np.ndarray:
        """What is left of images (n, pixels), clipped to 0 to 255, as uint8."""
        codes = (images - self.mean) @ self.components.T
        return (codes @ self.components + self.mean).round().clip(0, 255).astype(np.uint8)

    def summary(self) -> dict[str, Any]:
        """What was kept, and by how much it exceeds what was asked."""
        kept = len(self.components)
        reached = float(self.ratios[:kept].sum())
        return {
            "components": kept,
            "variance_asked": self.share,
            "variance_kept": round(reached, 6),
            "excess": round(reached - self.share, 6),
            "variance_with_one_less": round(float(self.ratios[: kept - 1].sum()), 6),
        }


def fit_pca(images: np.ndarray, share: float = 0.25) -> PCA:
    """The fewest principal components that hold a share of the variance.

    Args:
        images: (n, pixels) uint8, at least two that differ.
        share: of the variance, in (0, 1].

    Raises:
        ValueError: images without variance, or a share outside (0, 1].

    Reference: appendix D.3, "retaining only 25% of the total variance".
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a share of the variance in (0, 1]; got {share}")
    mean = images.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((images.shape[1],) * 2)
    for start in range(0, len(images), _CHUNK):
        centred = images[start : start + _CHUNK] - mean
        covariance += centred.T @ centred
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = variances[::-1].clip(min=0), vectors[:, ::-1]
    if not variances.sum():
        raise ValueError(f"images: the {len(images)} training images do not differ, so they have no components")
    ratios = variances / variances.sum()
    kept = min(int(np.searchsorted(ratios.cumsum(), share)) + 1, len(ratios))
    return PCA(mean, vectors[:, :kept].T.copy(), ratios, share)
