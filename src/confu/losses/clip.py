"""CLIP's loss for two modalities, and for every pair of three or more (tri-modal CLIP)."""

from collections.abc import Sequence

from torch import nn

from confu.checks import check_known
from confu.losses.base import LossOutput, contrast_plan
from confu.losses.infonce import SAME_GROUP, ContrastOptions
from confu.nn import Temperature
from confu.plan import pairwise_plan
from confu.types import Embeddings


class CLIPLoss(nn.Module):
    """CLIP: the mean of the symmetric InfoNCE of every pair of modalities (Eq. 3 divided by the number of pairs).

    With two modalities it is CLIP, with three what the paper calls Tri-CLIP. It equals `ConFuLoss` of the
    `pairwise_plan` with the released weighting.

    Args:
        modalities: two or more names.
        temperature: τ, a number that stays fixed, or a `Temperature`; CLIP itself learns it from 0.07.
        same_group, equal_inputs: see `ConFuLoss`.

    Reference: Radford et al. 2021, arXiv 2103.00020.

    >>> import torch
    >>> z = nn.functional.normalize(torch.ones(4, 2), dim=1)
    >>> from confu.types import Subset
    >>> out = CLIPLoss(("image", "text"))(Embeddings({Subset("image"): z, Subset("text"): z}))
    >>> round(out.total.item(), 4)   # nothing told apart: log 4
    1.3863
    """

    def __init__(
        self,
        modalities: Sequence[str],
        temperature: float | Temperature = 0.07,
        same_group: str = "negatives",
        equal_inputs: str = "negatives",
    ) -> None:
        super().__init__()
        check_known("same_group", same_group, SAME_GROUP)
        check_known("equal_inputs", equal_inputs, SAME_GROUP)
        self.same_group = same_group
        self.equal_inputs = equal_inputs
        self.plan = pairwise_plan(modalities)
        self.temperature = temperature if isinstance(temperature, Temperature) else Temperature(temperature)

    def forward(self, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch's embeddings."""
        return contrast_plan(
            embeddings,
            self.plan,
            self.temperature(),
            len(self.plan.terms),
            ContrastOptions(same_group=self.same_group, equal_inputs=self.equal_inputs),
        )
