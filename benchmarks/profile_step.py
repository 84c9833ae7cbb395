"""Where the time of a step goes: torch's operators by the CPU time they spend themselves.

python benchmarks/profile_step.py                          # the loss at N = 64, 256 and 4096: a minute
python benchmarks/profile_step.py --data data/av-mnist     # and a training step of AV-MNIST `small`
python benchmarks/profile_step.py --quick                  # only whether all of it is counted: seconds

Products of matrices are what cannot be left out; the rest is exponentials and sums, and at few rows the calls
themselves. What Python spends between two operators is the step's time less that of all of them.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loss_ways import step as loss_step
from loss_ways import three_modalities
from measure import in_own_process, parser, write_results
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]
NAMES = ("confu", "released code's way")
SHOWN = 10


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    if options.quick:
        in_own_process(check_equal)
        return
    found = [in_own_process(loss_profile, name, n, options) for n in options.rows for name in NAMES]
    if options.data is not None:
        found += [in_own_process(training_profile, way, options) for way in ("the released code's shape", "confu")]
    for one in found:
        Console(width=110).print(table(one))
    write_results(options, {}, profiles=found)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "profile", repeats=5)
    asked.add_argument("--rows", type=int, nargs="*", default=[64, 256, 4096], help="batch sizes N of the loss")
    asked.add_argument("--data", type=Path, help="AV-MNIST, as `confu data av-mnist` built it")
    return asked.parse_args()


def loss_profile(name: str, n: int, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    rounds = options.repeats if n > 1024 else 20 * options.repeats
    return profiled(f"loss, N = {n}, {name}", loss_step(name, n, *three_modalities()), rounds)


def training_profile(way: str, options: argparse.Namespace) -> dict[str, Any]:
    from av_mnist_small import WAYS, Training

    from confu_paper.experiments.av_mnist import SCALES, contrastive_runs

    torch.set_num_threads(options.threads)
    run = contrastive_runs("confu", options.data)[0]
    training = Training(WAYS[way], run, options.data, SCALES["small"].time_shift)
    return profiled(f"training step of AV-MNIST small, {way}", training.step, options.repeats)


def profiled(what: str, step: Step, rounds: int) -> dict[str, Any]:
    """Milliseconds a step, without the profiler and by operator with it, and how often each is called."""
    for _ in range(3):
        step()
    started = time.perf_counter()
    for _ in range(rounds):
        step()
    plain = 1e3 * (time.perf_counter() - started) / rounds
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(rounds):
            step()
    rows = [
        {"operator": one.key, "ms": one.self_cpu_time_total / 1e3 / rounds, "calls": one.count / rounds}
        for one in record.key_averages()
    ]
    rows.sort(key=lambda row: -row["ms"])
    return {"what": what, "ms a step": plain, "operators ms": sum(row["ms"] for row in rows),
            "calls": sum(row["calls"] for row in rows), "operators": rows}  # fmt: skip


def table(found: dict[str, Any]) -> Table:
    made = Table(title=f"{found['what']}: {found['ms a step']:.2f} ms a step, {found['calls']:.0f} calls")
    for column in ("operator", "ms", "share", "calls a step"):
        made.add_column(column, justify="left" if column == "operator" else "right")
    whole = found["operators ms"]
    for row in found["operators"][:SHOWN]:
        made.add_row(row["operator"], f"{row['ms']:.3f}", f"{100 * row['ms'] / whole:.0f} %", f"{row['calls']:.0f}")
    rest = sum(row["ms"] for row in found["operators"][SHOWN:])
    made.add_row("all others", f"{rest:.3f}", f"{100 * rest / whole:.0f} %", "")
    return made


PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm", "aten::baddbmm_")


def check_equal() -> None:
    """Fail unless the products of a loss are seen by the profiler as often as they must be."""
    found = profiled("loss, N = 64", loss_step("confu", 64, *three_modalities()), 2)
    calls = sum(row["calls"] for row in found["operators"] if row["operator"] in PRODUCTS)
    if not calls >= 9:  # three stacks: scores, and the gradients of both sides
        raise RuntimeError(f"a step of the loss shows {calls} products, fewer than it needs")
    print(f"a step of the loss: {found['calls']:.0f} calls of operators, {calls:.0f} of them products")


if __name__ == "__main__":
    main()
