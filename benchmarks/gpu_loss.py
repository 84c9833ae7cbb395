"""The loss on a GPU: beside the products that cannot be left out, beside Inf-CL's arithmetic, and at large batches.

python benchmarks/gpu_loss.py           # N = 1024 to 32768, the largest batch, training with resident data: minutes
python benchmarks/gpu_loss.py --quick   # only whether all ways give one value and one gradient: seconds, no GPU needed

Six terms on unit vectors, D = 256, bfloat16, forward and backward, wall time between two synchronisations. The floor is
four products of bfloat16 a term by cuBLAS in tiles, nothing else. Inf-CL (Cheng et al. 2024, arXiv 2410.17243) computes
each direction of a term by itself, five products each: it is re-created from that description with confu's kernels,
so that the arithmetic is compared and not who wrote the kernels. Without a GPU the kernels are interpreted, and nothing
is timed.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which is later

from gpu_training import throughput
from gpu_ways import DIM, INF_CL, RELEASED, WAYS, Terms, Way, exactly, leaves, three_modalities
from measure import interleaved, parser, ratio, write_results
from torch import Tensor

from confu.losses import infonce, tiled

FLOOR, TILE = "floor of four products", 4096
LARGEST = 2**18
Row = dict[str, Any]


def step(way: Way, vectors: list[Tensor], terms: Terms) -> Callable[[], None]:
    def run() -> None:
        for one in vectors:
            one.grad = None
        way(vectors, terms).backward()
        torch.cuda.synchronize()

    return run


def floor(vectors: list[Tensor], terms: Terms) -> Callable[[], None]:
    """Of each term the scores twice, and the gradient of each side."""
    a, b = (one.detach() for one in vectors[:2])

    def run() -> None:
        for _ in terms:
            for start in range(0, len(a), TILE):
                part = a[start : start + TILE]
                torch.mm(part, b.T)
                scores = torch.mm(part, b.T)
                torch.mm(scores, b)
                torch.mm(scores.T, part)
        torch.cuda.synchronize()

    return run


def measured(options: argparse.Namespace) -> list[Row]:
    count, terms = three_modalities()
    rows = []
    for n in options.rows:
        vectors = leaves(count, n, "cuda", torch.bfloat16)
        names = [name for name in WAYS if name != RELEASED or n <= options.most_rows_released]
        steps = {name: step(WAYS[name], vectors, terms) for name in names} | {FLOOR: floor(vectors, terms)}
        times = interleaved(steps, options.repeats)
        for name in steps:
            to = {f"to {peer}": ratio(times, name, peer, "wall_ms") for peer in (FLOOR, INF_CL)}
            rows.append({"n": n, "way": name, "ms": times[name]["wall_ms"]["median"]} | to)
            print(f"N = {n}: {name} {rows[-1]['ms']:.3f} ms, "
                  + ", ".join(f"{found['ratio']:.2f} {peer}" for peer, found in to.items()), flush=True)  # fmt: skip
    return rows


def largest() -> list[Row]:
    """Batches that fit, each twice the one before, and what they need beyond the embeddings and their gradients."""
    count, terms = three_modalities()
    rows: list[Row] = []
    for name in ("confu", RELEASED):
        n = 2**14
        while n <= LARGEST:
            vectors = leaves(count, n, "cuda", torch.bfloat16)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            try:
                step(WAYS[name], vectors, terms)()
            except torch.OutOfMemoryError:
                print(f"{name}: N = {n} does not fit")
                break
            more = torch.cuda.max_memory_allocated() - before
            rows.append({"way": name, "n": n, "extra_bytes": more})
            print(f"{name}: N = {n} needs {more / 2**20:.0f} MiB beyond the embeddings", flush=True)
            n *= 2
        torch.cuda.empty_cache()
    return rows


def check_equal(device: str) -> None:
    """Fail unless all ways, the kernels among them, give the value and the gradients of float64."""
    triton = importlib.util.find_spec("triton") is not None
    if not triton:
        print("Triton is not installed: only torch's way is checked (pip install triton, on Linux)")
    before = tiled.KERNEL_DEVICES, tiled.STACKED, infonce.SMALL, tiled._kernels
    calls: list[object] = []

    def watched(*arguments: Any) -> Any:
        kernels = before[3](*arguments)
        calls.extend([] if kernels is None else [kernels])
        return kernels

    # So few rows would be done in another way.
    tiled.KERNEL_DEVICES, tiled.STACKED, infonce.SMALL, tiled._kernels = (device,), 0, 0, watched
    os.environ["CONFU_TRITON"] = "1"
    count, terms = three_modalities()
    for dtype, most in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        given = leaves(count, 100, device, dtype)
        exact = [one.detach().double().requires_grad_() for one in given]
        expected = exactly(exact, terms)
        for name, way in WAYS.items():
            if name == RELEASED and dtype == torch.bfloat16:
                continue  # its scores are bfloat16's
            for one in given:
                one.grad = None
            calls.clear()
            total = way(given, terms)
            total.backward()
            if triton and name != RELEASED and not calls:
                raise RuntimeError(f"{name} in {dtype} was not computed by the kernels")
            pairs = [(total.detach(), expected), *((mine.grad, its.grad) for mine, its in zip(given, exact))]
            apart = max(float((a.double() - b).norm() / b.norm()) for a, b in pairs if a is not None and b is not None)
            if not apart <= most:
                raise RuntimeError(f"{name} is {apart:.1e} off in {dtype}, value or gradient")
            print(f"{name} in {dtype} on {device} = float64: value and gradients within {apart:.0e}")
    del os.environ["CONFU_TRITON"]
    tiled.KERNEL_DEVICES, tiled.STACKED, infonce.SMALL, tiled._kernels = before


def main() -> None:
    made = parser(__doc__, "gpu-loss", repeats=10)
    made.add_argument("--rows", type=int, nargs="+", default=[1024, 4096, 16384, 32768])
    made.add_argument("--most-rows-released", type=int, default=16384, help="its scores of all terms are kept")
    options = made.parse_args()
    there = torch.cuda.is_available()
    check_equal("cuda" if there else "cpu")
    if not there:
        print("no GPU here: nothing was timed. Run this on a machine with one that torch can use (torch for CUDA).")
        return
    if options.quick:
        return
    found = {"loss": measured(options), "largest": largest(), "training": throughput()}
    from confu.losses.triton_kernels import _choices

    choices = {str(key): str(choice) for key, choice in _choices.items()}
    write_results(options, {"device": torch.cuda.get_device_name(), "dim": DIM, "choices": choices}, **found)


if __name__ == "__main__":
    main()
