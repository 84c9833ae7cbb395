"""How well fused vectors of the views of digits are found and told apart, for `many_modalities.py`."""

import statistics
import time
from itertools import product
from typing import Any

import torch
from digit_views import VIEWS, digit_views
from torch import Tensor

from confu import ConFuLoss, ContrastiveObjective, MultimodalModel, Plan
from confu.data import Splits
from confu.nn.encoders import MLPEncoder
from confu.plan import disjoint_plan, target_plan
from confu.training import TrainSettings
from confu.training.optimizer import build_optimizer, build_schedule

PLANS = {
    "order 2": lambda names: disjoint_plan(names, max_order=2),
    "all": disjoint_plan,
    "by target": lambda names: target_plan(names, names[0]),
}
KINDS = {"a network each": ("mlp", 1), "shared": ("shared", 1), "shared, 4 x as wide": ("shared", 4)}
QUALITY = {"features": 64, "dim": 32, "fusion_dim": 128, "lr": 3e-3, "weight_decay": 1e-2, "batch_size": 256}
NEIGHBOURS = 10


def made(plan: Plan, widths: dict[str, int], kind: str, settings: dict[str, Any], seed: int = 0) -> MultimodalModel:
    torch.manual_seed(seed)
    fusion, times = KINDS[kind]
    encoders = {name: MLPEncoder(width, [settings["features"]], settings["features"]) for name, width in widths.items()}
    return MultimodalModel(plan, encoders, settings["dim"], fusion, times * settings["fusion_dim"])


def all_qualities(count: int, seeds: int, steps: int) -> list[dict[str, Any]]:
    rows = []
    for (planned, make), kind in product(PLANS.items(), KINDS):
        found = [quality(make(VIEWS[:count]), kind, seed, steps) for seed in range(seeds)]
        row = {"modalities": count, "plan": planned, "fusion": kind} | {
            name: {"mean": statistics.mean(values), "all": values}
            for name, values in ((name, [one[name] for one in found]) for name in found[0])
        }
        shown = {name: row[name]["mean"] for name in ("recall", "accuracy", "accuracy alone", "cpu_ms")}
        print(
            f"{count} views, {planned}, {kind}: ", {name: round(value, 3) for name, value in shown.items()}, flush=True
        )
        rows.append(row)
    return rows


def quality(plan: Plan, kind: str, seed: int, steps: int) -> dict[str, float]:
    """Train, and measure on the test rows.

    Returns:
        "recall": recall@1 among the test rows of a term's other side, mean over all fused terms and both ways;
        "accuracy": of the ten nearest training rows' digits, mean over the fused subsets; "accuracy alone": the same
        over single views; "loss" at the last step; "cpu_ms" a step; "parameters" of the fusion networks.
    """
    splits = digit_views(seed)
    widths = {name: splits.train.batch(torch.tensor([0])).inputs[name].values.shape[1] for name in plan.modalities}
    objective = ContrastiveObjective(made(plan, widths, kind, QUALITY, seed), ConFuLoss(plan))
    settings = TrainSettings(lr=QUALITY["lr"], weight_decay=QUALITY["weight_decay"], warmup_steps=10)
    optimizer = build_optimizer(objective, settings)
    schedule = build_schedule(optimizer, settings, steps)
    started, loss = time.process_time(), torch.tensor(0.0)
    for _ in range(steps):
        chosen = torch.randperm(len(splits.train))[: QUALITY["batch_size"]]
        optimizer.zero_grad(set_to_none=True)
        loss = objective(splits.train.batch(chosen)).total
        loss.backward()
        optimizer.step()
        schedule.step()
    spent = (time.process_time() - started) / steps
    parameters = sum(weight.numel() for weight in objective.model.fusers.parameters())
    return measured(objective.model.eval(), plan, splits) | {
        "loss": float(loss.detach()), "cpu_ms": 1e3 * spent, "parameters": parameters,
    }  # fmt: skip


def measured(model: MultimodalModel, plan: Plan, splits: Splits) -> dict[str, float]:
    with torch.no_grad():
        train, test = (model(one.batch(torch.arange(len(one)))) for one in (splits.train, splits.test))
    # Two modalities have nothing to fuse: what is measured is then the pair.
    terms = [term for term in plan.terms if term.is_fused] or plan.terms
    ways = [(one, other) for term in terms for one, other in ((term.left, term.right), (term.right, term.left))]
    own = torch.arange(len(splits.test))
    recalls = [((test[one] @ test[other].T).argmax(dim=1) == own).float().mean() for one, other in ways]
    accuracies = {one: accuracy(train[one], splits.train.labels, test[one], splits.test.labels) for one in plan.subsets}
    fused = [value for one, value in accuracies.items() if one.is_fused]
    alone = [value for one, value in accuracies.items() if not one.is_fused]
    return {
        "recall": float(torch.stack(recalls).mean()),
        "accuracy": float(torch.stack(fused or alone).mean()),
        "accuracy alone": float(torch.stack(alone).mean()),
    }


def accuracy(train: Tensor, known: Tensor, test: Tensor, labels: Tensor) -> Tensor:
    nearest = (test @ train.T).topk(NEIGHBOURS, dim=1).indices
    return (known[nearest].mode(dim=1).values == labels).float().mean()
