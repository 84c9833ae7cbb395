"""InfoNCE of rows that are spread over processes, in every way; run by several processes, which write the results."""

import itertools
from pathlib import Path

import torch

from confu.distributed import check_agreed, every_rank, rank, world_size
from confu.losses import ContrastOptions, info_nce_terms, tiled
from confu.losses.infonce import SAME_GROUP
from losses.parts import SIDES, TERMS, WEIGHTS, drawn, tau

SIZES = (5, 0, 3)  # of the processes: one has nothing
CASES = [
    *itertools.product((True, False), SAME_GROUP, (0.0, 0.3), (True,), ("usual",)),
    (True, "negatives", 0.0, False, "usual"),
    *itertools.product((True,), SAME_GROUP, (0.3,), (True,), ("recomputed", "guarded")),
    *itertools.product((True,), SAME_GROUP, (0.0,), (True,), ("equal positives", "equal excluded")),
    (False, "negatives", 0.3, False, "equal excluded"),
]
"""symmetric, same_group, label_smoothing, gaps, way"""


def contrast(case, negatives=None):
    """The losses and the whole gradients, as each process has them; of one process without `negatives`."""
    *options, gaps, way = case
    vectors, present, groups = drawn(sum(SIZES), 4, 0, gaps)
    exp_fits = tiled._exp_fits
    tiled.TILE, tiled.KEPT_BYTES = 40, 0 if way == "recomputed" else 2**20
    if way == "guarded":
        tiled._exp_fits = lambda *arguments: False
    part = slice(sum(SIZES[: rank()]), sum(SIZES[: rank() + 1])) if negatives else slice(None)
    own = {side: one.detach()[part].clone().requires_grad_() for side, one in vectors.items()}
    temperature = tau(0.3)
    equal_inputs = way.removeprefix("equal ") if way.startswith("equal") else "negatives"
    generator = torch.Generator().manual_seed(1)
    contents = {side: torch.randint(-1, 3, (sum(SIZES),), generator=generator)[part] for side in SIDES}
    total, losses = info_nce_terms(
        own,
        TERMS,
        temperature,
        weights=WEIGHTS,
        present={side: mask[part] for side, mask in present.items()} if gaps else None,
        groups=groups[part],
        contents=contents,
        options=ContrastOptions(*options, negatives, equal_inputs),
    )
    total.backward()
    tiled._exp_fits = exp_fits
    everyone = every_rank({side: one.grad for side, one in own.items()})
    gradients = {side: torch.cat([one[side] for one in everyone]) / world_size() for side in SIDES}
    return total.detach(), losses, gradients, sum(every_rank(temperature.grad)) / world_size()


def error(function):
    try:
        function()
    except ValueError as problem:
        return str(problem)
    return ""


def errors(negatives):
    """What each process says of input that is bad on one of them."""
    vectors, _, _ = drawn(sum(SIZES), 4, 0, dtype=torch.float32)
    part = slice(2 * rank(), 2 * rank() + 2)
    own = {side: one.detach()[part].clone() for side, one in vectors.items()}
    few = {"a": torch.arange(8)[part] == 3, "b": torch.ones(2, dtype=torch.bool)}
    if rank() == 2:
        own["b"][1] = torch.nan
    options = ContrastOptions(negatives=negatives)
    return {
        "nan": error(lambda: info_nce_terms(own, TERMS, options=options)),
        "few": error(lambda: info_nce_terms(own, TERMS[:1], present=few, options=options)),
        "differ": error(lambda: check_agreed({"plan": "one", "size": 3 + (rank() == 1)})),
    }


def answers(folder):
    """What came out, in a file of the first process: tensors of several processes would be many to send."""
    ways = ("gather", "ring")
    results = {
        "contrasts": {negatives: [contrast(case, negatives) for case in CASES] for negatives in ways},
        "errors": {negatives: every_rank(errors(negatives)) for negatives in ways},
    }
    if rank() == 0:
        torch.save(results, Path(folder) / "results")
