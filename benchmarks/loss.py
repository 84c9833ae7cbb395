"""The loss of ConFu against other ways to compute it, and against the matrix products that cannot be left out.

python benchmarks/loss.py            # N = 64 to 4096, three to six modalities, memory at 16384: half an hour
python benchmarks/loss.py --quick    # only whether all ways give one value and one gradient: seconds

Six terms on unit vectors, D = 256, forward and backward, float32. Times are CPU time on one thread and wall time on
two, ratios to the released code's way. The floors are nothing but the products of a term: three (scores, two
gradients), and four with the scores made again; in tiles of 1,024 rows, by the faster backend.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measure import in_own_process, interleaved, peak_above_base
from rich.console import Console
from rich.table import Table
from torch import Tensor

from confu import versions
from confu.files import write_json
from confu.functional.products import matmul_backend, products
from confu.functional.terms import info_nce_terms
from confu.plan import confu_plan, disjoint_plan

TAU, DIM = 0.07, 256
REPEATS = {64: 40, 256: 30, 1024: 12, 4096: 3}
MODALITIES = 512  # rows where the number of modalities grows
Terms = list[tuple[int, int]]
Way = Callable[[list[Tensor], Terms], Tensor]


def released(vectors: list[Tensor], terms: Terms) -> Tensor:
    """A score matrix a term, and two cross-entropies of it."""
    losses = []
    for left, right in terms:
        scores = vectors[left] @ vectors[right].T / TAU
        targets = torch.arange(len(scores))
        losses.append((F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2)
    return torch.stack(losses).sum()


def released_onednn(vectors: list[Tensor], terms: Terms) -> Tensor:
    """The same with the products by the backend that confu chooses (its backward pass too: see `step`)."""
    return released(vectors, terms)


def open_clip(vectors: list[Tensor], terms: Terms) -> Tensor:
    """Two score matrices a term."""
    losses = []
    for left, right in terms:
        one, other = vectors[left] @ vectors[right].T / TAU, vectors[right] @ vectors[left].T / TAU
        targets = torch.arange(len(one))
        losses.append((F.cross_entropy(one, targets) + F.cross_entropy(other, targets)) / 2)
    return torch.stack(losses).sum()


def torch_linear(vectors: list[Tensor], terms: Terms) -> Tensor:
    """torch's own fusion of a product and a cross-entropy, where this torch has it: one for each direction."""
    fused = F.linear_cross_entropy  # pyright: ignore[reportAttributeAccessIssue]
    targets = torch.arange(len(vectors[0]))
    losses = [
        (fused(vectors[left] / TAU, vectors[right], targets) + fused(vectors[right] / TAU, vectors[left], targets)) / 2
        for left, right in terms
    ]
    return torch.stack(losses).sum()


def ours(vectors: list[Tensor], terms: Terms) -> Tensor:
    return torch.stack(info_nce_terms(dict(enumerate(vectors)), terms, TAU)).sum()


def ours_tiled(vectors: list[Tensor], terms: Terms) -> Tensor:
    return torch.stack(info_nce_terms(dict(enumerate(vectors)), terms, TAU, keep=False)).sum()


WAYS: dict[str, Way] = {
    "released code's way": released,
    "the same, chosen backend": released_onednn,
    "open_clip's way": open_clip,
    "confu": ours,
    "confu, scores not kept": ours_tiled,
}
if hasattr(F, "linear_cross_entropy"):
    WAYS["torch linear_cross_entropy"] = torch_linear
FLOOR = "released code's way"


def three_modalities() -> tuple[int, Terms]:
    """The six terms of Eq. 7."""
    return _of_plan(confu_plan(("a", "b", "c")))


def _of_plan(plan: Any) -> tuple[int, Terms]:
    subsets = list(plan.subsets)
    return len(subsets), [(subsets.index(term.left), subsets.index(term.right)) for term in plan.terms]


def leaves(count: int, n: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [
        F.normalize(torch.randn(n, DIM, generator=generator, dtype=dtype), dim=1).requires_grad_() for _ in range(count)
    ]


def step(name: str, n: int, count: int, terms: Terms) -> Callable[[], Tensor]:
    vectors, way = leaves(count, n), WAYS[name]

    def run() -> Tensor:
        for one in vectors:
            one.grad = None
        if way is released_onednn:
            with products(vectors[0]):
                total = way(vectors, terms)
                total.backward()
        else:
            total = way(vectors, terms)
            total.backward()
        return total

    return run


def floor(n: int, terms: Terms, count: int) -> Callable[[], None]:
    """The products of each term alone: `count` of them, n x n x D each."""
    a, b = torch.randn(n, DIM), torch.randn(n, DIM)
    tile = min(n, 1024)
    scores, gradient = torch.empty(tile, n), torch.zeros(n, DIM)

    def run() -> None:
        with products(a):
            for _ in terms:
                for start in range(0, n, tile):
                    part = a[start : start + tile]
                    for _ in range(count - 2):
                        torch.mm(part, b.T, out=scores)
                    torch.mm(scores, b)
                    gradient.addmm_(scores.T, part)

    return run


def check_equal() -> bool:
    """Fail unless every way gives one value and one gradient, in float64 and in float32."""
    count, terms = three_modalities()
    for dtype, most in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        found = {}
        for name, way in WAYS.items():
            vectors = leaves(count, 200, dtype)
            total = way(vectors, terms)
            total.backward()
            found[name] = total.detach(), torch.stack([one.grad for one in vectors if one.grad is not None])
        value, gradient = found[FLOOR]
        for name, (other, its) in found.items():
            apart = max(float((other - value).abs() / value), float((its - gradient).norm() / gradient.norm()))
            if apart > most:
                raise RuntimeError(f"{name} and {FLOOR} differ by {apart:.1e} in {dtype}, value or gradient")
            print(f"{name} = {FLOOR} in {dtype}: value and gradients within {apart:.0e}")
    return True


def peak(name: str, n: int) -> int:
    torch.set_num_threads(1)
    count, terms = three_modalities()
    return peak_above_base(step(name, n, count, terms), warm_up=step(name, 200, count, terms))


def measured(threads: int, sizes: list[int]) -> list[dict[str, Any]]:
    """Rows of the table for one number of threads, in a process of its own."""
    torch.set_num_threads(threads)
    clock = "cpu_ms" if threads == 1 else "wall_ms"
    rows: list[dict[str, Any]] = []

    def measure(what: str, n: int, count: int, terms: Terms, names: list[str]) -> None:
        steps: dict[str, Callable[[], object]] = {name: step(name, n, count, terms) for name in names}
        steps |= {"floor of three products": floor(n, terms, 3), "floor of four products": floor(n, terms, 4)}
        times = interleaved(steps, REPEATS.get(n, 8))
        base = times[FLOOR][clock]["median"]
        rows.extend(
            {"what": what, "n": n, "threads": threads, "way": name, "ms": one[clock]["median"],
             "ratio": one[clock]["median"] / base, "low": one[clock]["low"], "high": one[clock]["high"]}
            for name, one in times.items()
        )  # fmt: skip
        print(f"{what}, {threads} thread(s): " + ", ".join(f"{row['way']} {row['ratio']:.2f}" for row in rows
                                                          if row["what"] == what), flush=True)  # fmt: skip

    count, terms = three_modalities()
    for n in sizes:
        measure(f"N = {n}", n, count, terms, list(WAYS))
    for m in (3, 4, 5, 6):
        count, terms = _of_plan(disjoint_plan([f"m{i}" for i in range(m)]))
        measure(f"M = {m} ({len(terms)} terms), N = {MODALITIES}", MODALITIES, count, terms, [FLOOR, "confu"])
    return rows


def table(rows: list[dict[str, Any]], threads: int) -> Table:
    mine = [row for row in rows if row["threads"] == threads]
    columns = list(dict.fromkeys(row["what"] for row in mine))
    clock = "CPU time" if threads == 1 else "wall time"
    found = Table(title=f"Forward and backward, {threads} thread(s): {clock} / {FLOOR}")
    found.add_column("")
    for what in columns:
        found.add_column(what, justify="right")
    for way in dict.fromkeys(row["way"] for row in mine):
        cells = {row["what"]: row for row in mine if row["way"] == way}
        found.add_row(way, *(_cell(cells.get(what)) for what in columns))
    return found


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['ms']:.1f} ms" if row["way"] == FLOOR else f"{row['ratio']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check that all ways are equal")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256, 1024, 4096], help="batch sizes N")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[1024, 4096, 16384], help="for peak memory")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/loss.json"))
    options = parser.parse_args()
    in_own_process(check_equal)
    if options.quick:
        return
    peaks = [
        {"way": name, "n": n, "mib": in_own_process(peak, name, n) / 2**20}
        for n in options.memory_rows
        for name in WAYS
        if n <= 4096 or name.startswith("confu")  # the released code's way needs 14 GiB at 16,384
    ]
    rows = [row for threads in options.threads for row in in_own_process(measured, threads, options.rows)]
    settings = {"dim": DIM, "temperature": TAU, "backend": vars(matmul_backend()), "load": os.getloadavg()}
    content = {"settings": settings, "versions": versions(), "rows": rows, "peak_memory_mib": peaks}
    write_json(options.json, json.loads(json.dumps(content, default=str)))
    console = Console(width=200)
    for threads in options.threads:
        console.print(table(rows, threads))
    for one in peaks:
        print(f"peak memory of {one['way']} at N = {one['n']}: {one['mib']:.0f} MiB")
    print(f"products: {matmul_backend().why}; written to {options.json}")


if __name__ == "__main__":
    main()
