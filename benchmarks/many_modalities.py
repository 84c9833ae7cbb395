"""What more modalities cost, and what they give: a fusion network for each subset beside one that all subsets share.

python benchmarks/many_modalities.py            # both, some twenty minutes on one core
python benchmarks/many_modalities.py --quick    # only whether both ways to compute a shared network agree: seconds

Quality: two to six views of handwritten digits (`digit_views.py`), trained for a fixed number of steps and tested on
others. Cost: two to eight modalities of random numbers, forward and backward of the model, and of the loss.
"""

import argparse
import os
from itertools import product
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from growth_plot import draw
from growth_quality import KINDS, PLANS, QUALITY, VIEWS, all_qualities, made
from growth_tables import cost_table, quality_table
from measure import clock_of, interleaved, parser, ratio, write_results
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize

from confu import Batch, ConFuLoss, Embeddings, Inputs, Plan

COST = {"features": 256, "dim": 256, "fusion_dim": 512, "rows": 256}


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    check_equal()
    if options.quick:
        return
    quality = [row for count in options.views for row in all_qualities(count, options.seeds, options.steps)]
    cost = [row for count in options.modalities for row in all_costs(count, options)]
    Console(width=140).print(cost_table(cost, list(KINDS), COST["rows"], clock_of(options.threads)))
    if quality:
        Console(width=140).print(quality_table(quality, list(KINDS)))
        draw(quality, cost, options.json.with_suffix(".svg"))
    write_results(options, {"quality": QUALITY | {"views": VIEWS}, "cost": COST}, quality=quality, cost=cost)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "many-modalities", repeats=5)
    asked.add_argument("--views", type=int, nargs="*", default=[2, 3, 4, 5, 6], help="how many are trained on")
    asked.add_argument("--modalities", type=int, nargs="*", default=list(range(2, 9)), help="whose cost is measured")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=150)
    asked.add_argument("--most-terms", type=int, default=301, help="time the loss of no more; the model always")
    return asked.parse_args()


def all_costs(count: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU time of forward and backward, of the model under a given gradient and of the loss of given vectors."""
    names, rows, clock = [f"m{k}" for k in range(count)], [], clock_of(options.threads)
    for planned, make in PLANS.items():
        plan = make(names)
        steps = {kind: model_step(plan, kind) for kind in KINDS}
        if len(plan.terms) <= options.most_terms:
            steps["loss"] = loss_step(plan)
        times = interleaved(steps, options.repeats)
        shape = {"modalities": count, "plan": planned, "terms": len(plan.terms), "fused": len(plan.fused_subsets)}
        for name, step in steps.items():
            found = ratio(times, name, next(iter(KINDS)), clock)
            rows.append(shape | {"part": name, "parameters": step.parameters} | found | times[name])
        print(f"{count} modalities, {planned}: " + ", ".join(
            f"{name} {times[name][clock]['median']:.0f} ms" for name in steps), flush=True)  # fmt: skip
    return rows


def model_step(plan: Plan, kind: str) -> Any:
    model = made(plan, dict.fromkeys(plan.modalities, COST["features"]), kind, COST)
    numbers = {name: torch.randn(COST["rows"], COST["features"]) for name in plan.modalities}
    batch = batch_of(numbers)
    gradient = torch.randn(COST["rows"], COST["dim"])

    def step() -> None:
        model.zero_grad(set_to_none=True)
        z = model(batch)
        torch.autograd.backward(list(z.vectors.values()), [gradient] * len(z))

    step.parameters = sum(weight.numel() for weight in model.fusers.parameters())
    return step


def loss_step(plan: Plan) -> Any:
    shape = (COST["rows"], COST["dim"])
    leaves = {subset: normalize(torch.randn(shape), dim=1).requires_grad_() for subset in plan.subsets}
    loss = ConFuLoss(plan)

    def step() -> None:
        for leaf in leaves.values():
            leaf.grad = None
        loss(Embeddings(leaves)).total.backward()

    step.parameters = 0
    return step


def batch_of(numbers: dict[str, Tensor]) -> Batch:
    rows = len(next(iter(numbers.values())))
    inputs = {name: Inputs(values, torch.arange(rows)) for name, values in numbers.items()}
    return Batch(inputs, [str(row) for row in range(rows)])


def check_equal() -> None:
    """Fail unless a model's vectors of a shared network are those of the network called subset by subset."""
    for count, make in product((3, 6), PLANS.values()):
        plan = make([f"m{k}" for k in range(count)])
        model = made(plan, dict.fromkeys(plan.modalities, 5), "shared", {"features": 6, "dim": 4, "fusion_dim": 7})
        batch = batch_of({name: torch.randn(8, 5) for name in plan.modalities})
        with torch.no_grad():
            z = model(batch)
            h = {name: model.encode(name, batch.inputs[name]) for name in plan.modalities}
            alone = {one: normalize(model.fusers[str(one)]([h[name] for name in one])) for one in plan.fused_subsets}
        for subset, vectors in alone.items():
            if not (apart := float((vectors - z[subset]).abs().max())) <= 1e-6:
                raise RuntimeError(f"{subset} of {count}: its vectors differ by {apart:.1e}")
        print(f"{count} modalities, {len(plan.fused_subsets)} fused subsets: together = one by one, within 1e-06")


if __name__ == "__main__":
    main()
