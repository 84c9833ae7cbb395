"""What a batch in parts costs: CPU time beside a plain step and GradCache's way, and peak memory, by rows a part.

python benchmarks/cached_gradients.py            # 1,024 rows of images, sounds and words: five minutes
python benchmarks/cached_gradients.py --quick    # only whether all ways give one loss and one gradient: seconds

Forward and backward of ConFu, no optimizer, one thread. Images are 28 x 28 and 112 x 112, words 16 tokens; dropout of
0.1 in all encoders, group norm. GradCache's way, as its authors describe it, embeds every part twice: 4/3 of a plain
step if a backward pass costs two forward passes. Ours embeds the last part once.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from measure import clock_of, in_own_process, interleaved, parser, peak_above_base, ratio, write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor

from confu import Batch, ConFuLoss, ContrastiveObjective, Inputs, MultimodalModel, build_encoder
from confu.plan import confu_plan
from confu.training.cached_gradients import cached_backward, join_embeddings, slice_batch, spans

NAMES = ("image", "sound", "text")
SHAPES = {"image": (1, 28, 28), "sound": (1, 112, 112)}
ENCODERS = {
    "image": {"kind": "conv", "channels": [32, 64, 128], "out_dim": 128, "norm": "group"},
    "sound": {"kind": "conv", "channels": [32, 64, 128], "out_dim": 128, "norm": "group", "first_stride": 4},
    "text": {"kind": "tokens", "vocab_size": 1000, "width": 128, "layers": 2},
}
MIB = 2**20


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    in_own_process(check_equal)
    if options.quick:
        return
    parts = [rows for rows in options.parts if rows < options.rows]
    ways: dict[str, Any] = {"plain step": plain}
    for rows in parts:
        ways[f"in parts of {rows}"] = partial(in_parts, chunk=rows)
    for rows in parts:
        ways[f"GradCache's way, {rows}"] = partial(every_part_twice, chunk=rows)
    peaks = {name: in_own_process(peak, way, options.rows) for name, way in ways.items()}
    torch.set_num_threads(options.threads)
    times = interleaved({name: step_of(way, options.rows, dropout=0.1) for name, way in ways.items()}, options.repeats)
    clock = clock_of(options.threads)
    rows = [
        {"way": name, "peak_bytes": peaks[name], **ratio(times, name, "plain step", clock), **times[name]}
        for name in ways
    ]
    settings = {"encoders": ENCODERS, "dtype": "float32", "ratios to": "plain step"}
    Console(width=110).print(table(rows, options))
    write_results(options, settings, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "cached-gradients", repeats=7)
    asked.add_argument("--rows", type=int, default=1024, help="of the batch")
    asked.add_argument("--parts", type=int, nargs="+", default=[512, 256, 128, 64], help="rows encoded at once")
    return asked.parse_args()


def made(rows: int, dropout: float = 0.0) -> tuple[ContrastiveObjective, Batch]:
    torch.manual_seed(0)
    plan = confu_plan(NAMES)
    encoders = {name: build_encoder(settings | {"dropout": dropout}) for name, settings in ENCODERS.items()}
    objective = ContrastiveObjective(MultimodalModel(plan, encoders, 256), ConFuLoss(plan))
    values: dict[str, Tensor] = {name: torch.randn(rows, *shape) for name, shape in SHAPES.items()}
    values["text"] = torch.randint(1, 1000, (rows, 16))
    inputs = {name: Inputs(value, torch.arange(rows)) for name, value in values.items()}
    return objective, Batch(inputs, [str(row) for row in range(rows)])


def plain(objective: ContrastiveObjective, batch: Batch) -> Tensor:
    total = objective(batch).total
    total.backward()
    return total.detach()


def in_parts(objective: ContrastiveObjective, batch: Batch, chunk: int) -> Tensor:
    return cached_backward(objective, batch, chunk).total


def every_part_twice(objective: ContrastiveObjective, batch: Batch, chunk: int) -> Tensor:
    """GradCache as published: all parts without a graph, the loss, all parts again with the same random numbers."""
    places, states, embedded = spans(len(batch), chunk), [], []
    with torch.no_grad():
        for place in places:
            states.append(torch.get_rng_state())
            embedded.append(objective.model(slice_batch(batch, *place)))
    whole = join_embeddings(embedded, batch.groups)
    leaves = [vectors.requires_grad_() for vectors in whole.vectors.values()]
    total = objective.loss(whole).total
    total.backward()
    for (start, stop), state in zip(places, states):
        torch.set_rng_state(state)
        again = objective.model(slice_batch(batch, start, stop))
        torch.autograd.backward(list(again.vectors.values()), [leaf.grad[start:stop] for leaf in leaves])
    return total.detach()


def step_of(way: Callable[..., Tensor], rows: int, dropout: float = 0.0) -> Callable[[], object]:
    objective, batch = made(rows, dropout)

    def step() -> Tensor:
        objective.zero_grad(set_to_none=True)
        return way(objective, batch)

    step.objective = objective
    return step


def check_equal() -> bool:
    """Fail unless all ways give one loss and one gradient, without dropout against a plain step, with it in parts."""
    for dropout, reference, others in (
        (0.0, plain, {"in parts": in_parts, "GradCache's way": every_part_twice}),
        (0.1, partial(every_part_twice, chunk=7), {"in parts, with dropout": in_parts}),
    ):
        expected = loss_and_gradient(reference, dropout)
        for name, way in others.items():
            found = loss_and_gradient(partial(way, chunk=7), dropout)
            apart = max(float((one - other).norm() / other.norm()) for one, other in zip(found, expected))
            if not apart <= 1e-6:
                raise RuntimeError(f"{name}: loss or gradient differ by {apart:.1e}, relative")
            what = "GradCache's way" if dropout else "plain step"
            print(f"{name} = {what}: value and gradients within {apart:.0e}")
    return True


def loss_and_gradient(way: Callable[..., Tensor], dropout: float) -> tuple[Tensor, Tensor]:
    step = step_of(way, 24, dropout)
    torch.manual_seed(1)
    total = step()
    return total, torch.cat([weight.grad.flatten() for weight in step.objective.parameters()])


def peak(way: Callable[..., Tensor], rows: int) -> int:
    """Bytes above the model, its gradients and the inputs, in a process of its own."""
    return peak_above_base(step_of(way, rows), warm_up=step_of(plain, 4))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    clock = clock_of(options.threads)
    found = Table(title=f"A step of {options.rows} rows, forward and backward: time / plain step; peak memory")
    for column in ("", "ratio", "quartiles", "MiB", "of plain"):
        found.add_column(column, justify="right" if column else "left")
    first = rows[0]
    for row in rows:
        found.add_row(
            row["way"],
            f"{first[clock]['median']:.0f} ms" if row is first else f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['peak_bytes'] / MIB:.0f}",
            f"{row['peak_bytes'] / first['peak_bytes']:.2f}",
        )
    return found


if __name__ == "__main__":
    main()
