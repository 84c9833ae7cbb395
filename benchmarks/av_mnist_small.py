"""AV-MNIST at size `small`: samples a second of training as the released code's shape does it and as confu does, and
how long each takes to an accuracy.

python benchmarks/av_mnist_small.py --data data/av-mnist              # and minutes to 71.2 %: ten minutes
python benchmarks/av_mnist_small.py --data data/av-mnist --goal 0     # only samples a second: three minutes
python benchmarks/av_mnist_small.py --quick                           # only whether both compute the same: seconds

The model, its encoders, the learning rate and the schedule are the recipe's, the same for all. The released code's
shape: a DataLoader over rows, every row's caption encoded, a score matrix a term with two cross-entropies, AdamW
parameter by parameter, float32. Confu's: batches from columns, each caption once, its own loss, AdamW in one kernel;
bfloat16 autocast as in the recipe. The data are built by `confu data av-mnist`, see docs/reproduction.md.
"""

import argparse
import dataclasses
import os
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import clock_of, interleaved, parser, ratio, write_results
from rich.console import Console
from rich.table import Table
from supply_rows import PlainRows, released_total
from torch.utils.data import DataLoader

from confu import Batch, Inputs
from confu.data import Splits
from confu.data.sampling import UniformBatches
from confu.training.optimizer import build_optimizer, build_schedule
from confu_paper.datasets import load_av_mnist
from confu_paper.experiments.av_mnist import SCALES, contrastive_runs
from confu_paper.experiments.run import Run

FUSED = "accuracy image+audio"


@dataclasses.dataclass(frozen=True)
class Way:
    """How training is done.

    Attributes:
        released: the released code's supply, loss and optimizer, instead of confu's.
        bfloat16: autocast.
    """

    released: bool
    bfloat16: bool


FLOOR = "the released code's shape"
WAYS = {
    FLOOR: Way(released=True, bfloat16=False),
    "the same in bfloat16": Way(released=True, bfloat16=True),
    "confu in float32": Way(released=False, bfloat16=False),
    "confu": Way(released=False, bfloat16=True),
}


class Training:
    """A run of the recipe, a step at a time.

    Args:
        way: how.
        run: the recipe's.
        data: folder of AV-MNIST.
        time_shift: as in the recipe.
    """

    def __init__(self, way: Way, run: Run, data: Path, time_shift: int) -> None:
        torch.manual_seed(run.train.seed)
        self.way, self.settings = way, run.train
        self.train = load_av_mnist(data, deduplicate=not way.released, time_shift=time_shift).train
        self.time_shift = time_shift
        self.objective: Any = run.objective()
        self.optimizer = build_optimizer(self.objective, run.train.model_copy(update={"fused_adamw": not way.released}))
        if way.released:
            for group in self.optimizer.param_groups:
                group["foreach"] = False
        batches = UniformBatches(len(self.train), run.train.batch_size)
        self.total = run.train.epochs * batches.steps
        self.schedule = build_schedule(self.optimizer, run.train, self.total)
        self.supply = self._batches(batches)

    def _batches(self, batches: UniformBatches) -> Iterator[Batch]:
        rows = PlainRows(self.train, self.time_shift) if self.way.released else None
        for epoch in range(10**6):
            order = batches.epoch(self.settings.seed, epoch)
            if rows is None:
                yield from map(self.train.batch, order)
                continue
            own = torch.arange(order.shape[1])
            for found in DataLoader(rows, order.shape[1], sampler=order.flatten().tolist()):
                words = {name: found[name] for name in ("input_ids", "attention_mask")}
                values = {"image": found["image"], "audio": found["audio"], "text": words}
                yield Batch({name: Inputs(one, own) for name, one in values.items()}, [str(row) for row in own])

    def step(self) -> torch.Tensor:
        """The next batch, forward, backward, and the optimizer; its loss."""
        loss = self.loss(next(self.supply))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.way.bfloat16):
            if not self.way.released:
                return self.objective(batch).total
            z = self.objective.model(batch)
            return released_total(z, self.objective.model.plan, self.objective.loss.temperature().detach())


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    if options.quick:
        check_equal()
        return
    run, shift = contrastive_runs("confu", options.data)[0], SCALES["small"].time_shift
    trainings = {name: Training(way, run, options.data, shift) for name, way in WAYS.items()}
    print(f"{options.repeats} rounds of {options.steps} steps of each", flush=True)
    times = interleaved({name: lambda one=one: _steps(one, options.steps) for name, one in trainings.items()},
                        options.repeats)  # fmt: skip
    clock, samples = clock_of(options.threads), options.steps * run.train.batch_size
    rows: list[dict[str, Any]] = [
        {"way": name, "samples a second": 1e3 * samples / times[name][clock]["median"],
         **ratio(times, name, FLOOR, clock), **times[name]}
        for name in WAYS
    ]  # fmt: skip
    if options.goal:
        for row in rows:
            if row["way"] in (FLOOR, "confu"):
                row["goal"] = until(Training(WAYS[row["way"]], run, options.data, shift), run, options)
    Console(width=140).print(table(rows, options))
    write_results(options, {"model": run.description, "train": run.train.model_dump()}, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "av-mnist-small", repeats=5)
    asked.add_argument("--data", type=Path, default=Path("data/av-mnist"), help="what `confu data av-mnist` built")
    asked.add_argument("--steps", type=int, default=6, help="of a round, each way")
    asked.add_argument("--goal", type=float, default=0.712, help="fused accuracy to train to; 0 for none")
    asked.add_argument("--every", type=int, default=20, help="steps between two looks at the validation rows")
    return asked.parse_args()


def _steps(training: Training, count: int) -> None:
    for _ in range(count):
        training.step()


def until(training: Training, run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Train until the fused accuracy on validation rows reaches the goal; seconds without and with looking."""
    splits, spent, began = run.splits(), 0.0, time.perf_counter()
    monitor, found, step, samples = run.monitor, 0.0, 0, training.settings.batch_size
    assert monitor is not None
    while found < options.goal and step < training.total:
        training.objective.train()
        started = time.perf_counter()
        _steps(training, options.every)
        spent, step = spent + time.perf_counter() - started, step + options.every
        found = monitor(training.objective, splits)[FUSED]
        print(f"  step {step}: {100 * found:.1f} % fused after {spent:.0f} s", flush=True)
    test = monitor(training.objective, Splits(splits.train, splits.test, splits.test))[FUSED]
    return {"reached": found >= options.goal, "accuracy": found, "on test rows": test, "steps": step,
            "samples": step * samples, "seconds": spent,
            "seconds with validation": time.perf_counter() - began}  # fmt: skip


def check_equal() -> None:
    """Fail unless both take the same batches, and from them the same loss and gradient; on data made up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_made_up(folder)
        run = contrastive_runs("confu", folder)[0]
        run = dataclasses.replace(run, train=run.train.model_copy(update={"batch_size": 16, "epochs": 1}))
        found = []
        for released in (True, False):
            training = Training(Way(released, bfloat16=False), run, folder, time_shift=0)
            training.objective.eval()  # no dropout: repeated captions share a mask in one, not in the other
            loss = training.loss(next(training.supply))
            loss.backward()
            gradient = [one.grad.flatten() for one in training.objective.parameters() if one.grad is not None]
            found.append((loss.detach(), torch.cat(gradient)))
        (loss, gradient), (other, its) = found
        apart = max(float((other - loss).abs() / loss), float((its - gradient).norm() / gradient.norm()))
        if not apart <= 1e-4:
            raise RuntimeError(f"loss or gradient differ by {apart:.1e}, relative")
        print(f"a step of AV-MNIST: loss and gradient within {apart:.0e} of {FLOOR}")


def write_made_up(folder: Path) -> None:
    """Random digits and sounds in the layout of AV-MNIST."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 48), ("test", 12)):
        for name, shape in (("image", (784,)), ("audio", (112, 112))):
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / f"{part}_data.npy", draw.integers(0, 256, (count, *shape), dtype=np.uint8))
        np.save(folder / f"{part}_labels.npy", np.arange(count) % 10)


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    clock = "CPU" if options.threads == 1 else "wall"
    found = Table(title=f"Training AV-MNIST small, {options.threads} thread(s), batch included")
    goal = f"to {100 * options.goal:.1f} % fused"
    for column in ("", f"samples a {clock} second", "time / floor", "quartiles", goal, "there, on test rows"):
        found.add_column(column, justify="right" if column else "left")
    for row in rows:
        there = row.get("goal")
        found.add_row(
            row["way"], f"{row['samples a second']:.0f}", f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            "" if there is None else f"{there['seconds'] / 60:.1f} minutes, {there['steps']} steps"
            if there["reached"] else "not reached",
            "" if there is None else f"{100 * there['on test rows']:.1f} %",
        )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
