"""TRIANGLE: three modalities at once, by the area between the ends of their embeddings."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from confu.checks import check_known
from confu.losses.base import LossOutput, check_modalities, chosen_anchors, complete_vectors, mean_of_anchors
from confu.losses.scores import check_triangle, widened
from confu.losses.squares import area_squares, contrast_squares
from confu.nn import Temperature
from confu.types import Embeddings, Vectors


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
    check_triangle([anchor], others, formula)
    x, y, z = widened([anchor, *others])
    root = 0.5 if formula == "published" else None
    return contrast_squares(area_squares(x, y, z), temperature, root, symmetric, label_smoothing)


class TRIANGLELoss(nn.Module):
    """TRIANGLE: the mean over anchors of `triangle_contrast`.

    Args:
        modalities: three names; rows that lack one are left out.
        temperature: τ, a number that stays fixed, or a `Temperature`. None learns it from 0.07, as TRIANGLE does.
        anchors: the modalities that must find the pair of the others, and be found by it; None is every one.
        formula: `"published"` or `"released"`, see `triangle_areas`.
        label_smoothing: 0.1 in the released code.

    Raises:
        ValueError: unless there are three modalities.

    Reference: Cicchetti et al. 2025, arXiv 2509.24734.

    >>> from confu.types import Subset
    >>> import torch
    >>> z = torch.eye(4)
    >>> out = TRIANGLELoss(("a", "b", "c"), anchors=["a"])(Embeddings({Subset(name): z for name in "abc"}))
    >>> list(out.terms)
    ['a ~ (b, c)']
    """

    def __init__(
        self,
        modalities: Sequence[str],
        temperature: float | Temperature | None = None,
        anchors: Sequence[str] | None = None,
        formula: str = "published",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.modalities = check_modalities(modalities)
        if len(self.modalities) != 3:
            raise ValueError(
                f"TRIANGLE compares exactly three modalities; got {len(modalities)}: {', '.join(modalities)}. "
                "Use GRAMLoss, SymileLoss or ConFuLoss for other numbers"
            )
        check_known("formula", formula, ("published", "released"))
        self.anchors = chosen_anchors(anchors, modalities)
        if temperature is None:
            temperature = Temperature(0.07, learned=True)
        self.temperature = temperature if isinstance(temperature, Temperature) else Temperature(temperature)
        self.formula = formula
        self.label_smoothing = label_smoothing

    def forward(self, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch's embeddings."""
        temperature = self.temperature()
        vectors = complete_vectors(embeddings, self.modalities, "TRIANGLE")
        losses = {
            name: triangle_contrast(
                vectors[name],
                [other for one, other in vectors.items() if one != name],
                temperature,
                formula=self.formula,
                label_smoothing=self.label_smoothing,
            )
            for name in self.anchors
        }
        return mean_of_anchors(losses, self.modalities, len(vectors[self.anchors[0]]), temperature)
