"""Exact search and retrieval ranks on one core, beside FAISS Flat and torch's own top-k.

python benchmarks/search.py            # 1,000 queries, 1,000,000 rows of 256 numbers: some minutes, 3 GiB
python benchmarks/search.py --quick    # only whether all find the same: seconds
"""

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from measure import clock_of, interleaved, parser, ratio, write_results
from torch import Tensor

from confu.evaluation.ranking import count_ranks
from confu.products import top_k

try:
    import faiss
except ImportError:
    faiss = None

K = 10
CHUNK = 16384


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    check_equal()
    if options.quick:
        return
    queries, gallery = unit(options.queries, options.dim, 0), unit(options.gallery, options.dim, 1)
    rows = []
    for title, floor, steps in (
        (f"top-{K}", "FAISS Flat", searches(queries, gallery)),
        ("ranks", "ranks, whole lines", rankings(queries, gallery)),
    ):
        times, clock = interleaved(steps, options.repeats), clock_of(options.threads)
        floor = floor if floor in times else "torch, topk by chunk"
        for name, spread in times.items():
            found = ratio(times, name, floor, clock)
            rate = 2 * len(queries) * gallery.numel() / spread[clock]["median"] / 1e6
            print(f"{title:8} {name:24} {found['ratio']:5.2f} of {floor}, {spread[clock]['median']:8.0f} ms, "
                  f"{rate:4.0f} GF/s", flush=True)  # fmt: skip
            rows.append({"question": title, "contender": name, "to": floor, **found, **spread})
    missing = [] if faiss is not None else ["FAISS Flat: not installed (pip install faiss-cpu)"]
    write_results(options, {"k": K}, rows=rows, missing=missing)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "search", repeats=5)
    asked.add_argument("--queries", type=int, default=1000)
    asked.add_argument("--gallery", type=int, default=1_000_000)
    asked.add_argument("--dim", type=int, default=256)
    return asked.parse_args()


def unit(n: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=1)


def searches(queries: Tensor, gallery: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each gives the rows that it found, (n, K)."""
    found: dict[str, Callable[[], Tensor]] = {
        "torch, topk by chunk": lambda: by_chunk(queries, gallery),
        "confu, two levels": lambda: top_k(queries, gallery, K)[1],
    }
    if faiss is None:
        print("FAISS is not installed (pip install faiss-cpu): left out")
        return found
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.numpy())
    return {"FAISS Flat": lambda: torch.from_numpy(index.search(queries.numpy(), K)[1]), **found}


def by_chunk(queries: Tensor, gallery: Tensor) -> Tensor:
    parts = []
    for start in range(0, len(gallery), CHUNK):
        values, rows = (queries @ gallery[start : start + CHUNK].T).topk(min(K, len(gallery) - start), dim=1)
        parts.append((values, rows + start))
    values, rows = (torch.cat(part, dim=1) for part in zip(*parts))
    return rows.gather(1, values.topk(K, dim=1).indices)


def rankings(queries: Tensor, gallery: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each gives how many targets score better than the query's own, (n,)."""
    own = torch.arange(len(queries))
    return {
        "ranks, whole lines": lambda: whole_lines(queries, gallery),
        "confu, tiles": lambda: count_ranks([queries], [gallery], own)[0],
    }


def whole_lines(queries: Tensor, gallery: Tensor) -> Tensor:
    """A few queries with the whole gallery at a time."""
    step, found = max(1, (1 << 21) // len(gallery)), []
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ gallery.T
        own = scores.diagonal(offset=start)[:, None]
        tied = ((scores - own).abs() <= 1e-6).sum(dim=1)
        found.append((scores > own + 1e-6).sum(dim=1) + 0 * tied)
    return torch.cat(found)


def check_equal() -> None:
    """Fail unless all find the same rows and count the same ranks."""
    queries, gallery = unit(50, 32, 0), unit(20_000, 32, 1)
    exact = (queries.double() @ gallery.double().T).sort(dim=1, descending=True).indices[:, :K]
    for name, search in searches(queries, gallery).items():
        if not torch.equal(search(), exact):
            raise RuntimeError(f"{name} does not find the {K} best of float64")
        print(f"{name}: the same {K} rows as a sort in float64")
    whole, tiles = (rank() for rank in rankings(queries, gallery).values())
    # A score within rounding of the tolerance's edge may count on either side.
    if int((whole - tiles).abs().max()) > 1:
        raise RuntimeError("ranks in tiles and in whole lines differ")
    print("ranks in tiles: those of whole lines")


if __name__ == "__main__":
    main()
