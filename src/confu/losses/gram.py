"""GRAM: two or more modalities at once, by the volume that their embeddings span."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from confu.losses.base import LossOutput, check_modalities, chosen_anchors, complete_vectors, mean_of_anchors
from confu.losses.scores import check_sides, widened
from confu.losses.squares import contrast_squares, volume_squares
from confu.nn import Temperature
from confu.types import Embeddings, Vectors


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
    check_sides([anchor], others)
    anchor, *others = widened([anchor, *others])
    return contrast_squares(volume_squares(anchor, others), temperature, 1.0, symmetric, label_smoothing)


class GRAMLoss(nn.Module):
    """GRAM: the mean over anchors of `gram_contrast`.

    Args:
        modalities: two or more names; rows that lack one are left out.
        temperature: τ, a number that stays fixed, or a `Temperature`. None learns it from 0.07, as GRAM does.
        anchors: the modalities that must find the tuple of the others, and be found by it. None is every one: with a
            single anchor the pair of the others is never told apart from a pair of strangers. GRAM itself anchors on
            text, the baseline of the ConFu paper on its first modality.
        label_smoothing: 0.1 in the released code.

    Reference: Cicchetti et al. 2024, arXiv 2412.11959.

    >>> from confu.types import Subset
    >>> import torch
    >>> z = torch.eye(4)
    >>> out = GRAMLoss(("a", "b"), temperature=1.0)(Embeddings({Subset(name): z for name in "ab"}))
    >>> round(out.total.item(), 4), list(out.terms)
    (0.7437, ['a ~ (b)', 'b ~ (a)'])
    """

    def __init__(
        self,
        modalities: Sequence[str],
        temperature: float | Temperature | None = None,
        anchors: Sequence[str] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.anchors = chosen_anchors(anchors, modalities)
        if temperature is None:
            temperature = Temperature(0.07, learned=True)
        self.temperature = temperature if isinstance(temperature, Temperature) else Temperature(temperature)
        self.label_smoothing = label_smoothing

    def forward(self, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch's embeddings."""
        temperature = self.temperature()
        vectors = complete_vectors(embeddings, self.modalities, "GRAM")
        losses = {
            name: gram_contrast(
                vectors[name],
                [other for one, other in vectors.items() if one != name],
                temperature,
                label_smoothing=self.label_smoothing,
            )
            for name in self.anchors
        }
        return mean_of_anchors(losses, self.modalities, len(vectors[self.anchors[0]]), temperature)
