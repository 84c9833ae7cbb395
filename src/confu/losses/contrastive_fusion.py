"""The loss of ConFu: InfoNCE for every term of a plan, weighted and added."""

from typing import Literal, get_args

from torch import nn

from confu.checks import check_known
from confu.losses.base import LossOutput, contrast_plan
from confu.losses.infonce import SAME_GROUP, ContrastOptions
from confu.nn import Temperature
from confu.plan import Plan
from confu.types import Embeddings

Weighting = Literal["paper", "released"]


class ConFuLoss(nn.Module):
    r"""Contrastive fusion (Eq. 7): $\sum_t w_t \hat L_{InfoNCE}^{(t)}$ over the terms of a plan.

    Args:
        plan: the terms and their weights; `confu_plan` gives those of Eq. 7.
        temperature: τ, a number that stays fixed (0.07 as in the released code), or a `Temperature` to share or learn.
        weighting: `"paper"` adds the weighted terms (Eq. 7). `"released"` divides that sum as the released code does:
            by the number of pairs of single modalities, plus the number of fused terms if there are any (6 for
            `confu_plan`, 3 at λ = 0). With AdamW the two differ only through its epsilon.
        symmetric: both directions of each term, as the released code; False for one, Eq. 2 and 5 as printed.
        same_group: what rows of one group (`Batch.groups`) are to one another: `"negatives"`, further `"positives"`,
            or `"excluded"` from the negatives (see `info_nce`).
        equal_inputs: the same choice for rows with equal inputs on one side of a term (`Batch.contents`).

    Returns (forward):
        LossOutput with the total, each term in nats, the temperature and, where the plan has the terms for it, the
        bound on total correlation of Eq. 13 in nats.

    Raises:
        ValueError: for an unknown weighting; in forward as `contrast_plan`.

    >>> import torch
    >>> from confu.types import Subset
    >>> from confu.plan import confu_plan
    >>> plan = confu_plan(("a", "b", "c"))
    >>> torch.manual_seed(0) and None
    >>> z = {subset: nn.functional.normalize(torch.randn(8, 16), dim=1) for subset in plan.subsets}
    >>> out = ConFuLoss(plan)(Embeddings(z))
    >>> sorted(out.terms) == sorted(str(term) for term in plan.terms)
    True
    """

    def __init__(
        self,
        plan: Plan,
        temperature: float | Temperature = 0.07,
        weighting: Weighting = "paper",
        symmetric: bool = True,
        same_group: str = "negatives",
        equal_inputs: str = "negatives",
    ) -> None:
        super().__init__()
        check_known("weighting", weighting, get_args(Weighting))
        check_known("same_group", same_group, SAME_GROUP)
        check_known("equal_inputs", equal_inputs, SAME_GROUP)
        self.plan = plan
        self.temperature = temperature if isinstance(temperature, Temperature) else Temperature(temperature)
        self.weighting = weighting
        self.symmetric = symmetric
        self.same_group = same_group
        self.equal_inputs = equal_inputs

    def forward(self, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch's embeddings."""
        options = ContrastOptions(self.symmetric, self.same_group, equal_inputs=self.equal_inputs)
        return contrast_plan(embeddings, self.plan, self.temperature(), self._divisor(), options)

    def _divisor(self) -> int:
        if self.weighting == "paper":
            return 1
        count = len(self.plan.modalities)
        return count * (count - 1) // 2 + sum(term.is_fused for term in self.plan.terms)
