"""InfoNCE of rows that are spread over processes, in every way; run by four processes, which write what they found."""

import itertools
from pathlib import Path

import torch
from torch.nn.functional import normalize

from confu.distributed import check_agreed, every_rank, rank, world_size
from confu.losses import log_sums as kernel
from confu.losses.spread import spread_info_nce_terms
from confu.losses.terms import SAME_GROUP

SIDES = ("a", "b", "c", "ab", "ac")
TERMS = [("a", "b"), ("a", "c"), ("b", "c"), ("ab", "c"), ("ac", "b")]
SIZES = (5, 0, 3, 4)  # of the processes: one has nothing


def case(symmetric=True, same_group="negatives", label_smoothing=0.3, gaps=True, path="usual"):
    return {"symmetric": symmetric, "same_group": same_group, "label_smoothing": label_smoothing, "gaps": gaps,
            "path": path}  # fmt: skip


CASES = [
    *(case(*options) for options in itertools.product((True, False), SAME_GROUP, (0.0, 0.3))),
    *(case(same_group=one, label_smoothing=0.0, gaps=False) for one in SAME_GROUP),
    *(case(same_group=one, path=path) for one in SAME_GROUP for path in ("tiled", "guarded")),
]


def drawn(gaps, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(SIZES)
    vectors = {side: normalize(torch.randn(rows, 4, generator=generator, dtype=dtype), dim=1) for side in SIDES}
    present = {side: torch.rand(rows, generator=generator) < (0.7 if gaps else 2) for side in SIDES}
    for mask in present.values():
        mask[:2] = True
    return vectors, present, torch.randint(-1, 3, (rows,), generator=generator)


def found(case, negatives):
    """The losses and the whole gradients, as each process has them."""
    case = dict(case)
    vectors, present, groups = drawn(case.pop("gaps"))
    kernel.TILE, fits = 40, kernel.exp_fits
    path = case.pop("path")
    kernel.KEPT_BYTES = 64 * 2**20 if path == "usual" else 100
    kernel.exp_fits = (lambda left, right: False) if path == "guarded" else fits
    part = slice(sum(SIZES[: rank()]), sum(SIZES[: rank() + 1]))
    own = {side: one[part].clone().requires_grad_() for side, one in vectors.items()}
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    losses = spread_info_nce_terms(
        own, TERMS, tau, present={side: mask[part] for side, mask in present.items()}, groups=groups[part],
        negatives=negatives, **case,
    )  # fmt: skip
    (torch.stack(losses) * torch.arange(1.0, 6.0, dtype=torch.float64)).sum().backward()
    kernel.exp_fits = fits
    everyone = every_rank({side: one.grad for side, one in own.items()})
    gradients = {side: torch.cat([one[side] for one in everyone]) / world_size() for side in SIDES}
    return torch.stack(losses).detach(), gradients, sum(every_rank(tau.grad)) / world_size()


def error(function):
    try:
        function()
    except ValueError as problem:
        return str(problem)
    return ""


def errors(negatives):
    """What each process says of input that is bad on one of them."""
    vectors, _, _ = drawn(False, torch.float32)
    part = slice(3 * rank(), 3 * rank() + 3)
    own = {side: one[part].clone() for side, one in vectors.items()}
    few = {"a": torch.arange(12)[part] == 3, "b": torch.ones(3, dtype=torch.bool)}
    if rank() == 2:
        own["b"][1] = torch.nan
    return {
        "nan": error(lambda: spread_info_nce_terms(own, TERMS, negatives=negatives)),
        "few": error(lambda: spread_info_nce_terms(own, TERMS[:1], present=few, negatives=negatives)),
        "differ": error(lambda: check_agreed({"plan": "one", "size": 3 + (rank() == 1)})),
    }


def everything():
    return {
        "found": {
            negatives: [found(case, negatives) for case in CASES] for negatives in ("gather", "ring")
        },
        "errors": {negatives: every_rank(errors(negatives)) for negatives in ("gather", "ring")},
    }  # fmt: skip


def answers(folder):
    """What was found, in a file of the first process: tensors of several processes would be many to send."""
    results = everything()
    if rank() == 0:
        torch.save(results, Path(folder) / "results")
