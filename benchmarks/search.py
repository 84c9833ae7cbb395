"""Exact search and retrieval ranks on one core, beside FAISS Flat and torch's own top-k.

python benchmarks/search.py            # 1,000 queries, 1,000,000 rows of 256 numbers: some minutes, 3 GiB
python benchmarks/search.py --quick    # only whether all find the same: seconds
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import torch
from measure import interleaved
from torch import Tensor

from confu import versions
from confu.evaluation.ranking import count_ranks
from confu.files import written_whole
from confu.functional.top_k import top_k

K = 10
CHUNK = 16384


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    check_equal()
    if options.quick:
        return
    queries, gallery = unit(options.queries, options.dim, 0), unit(options.gallery, options.dim, 1)
    rows = []
    for title, floor, steps in (
        (f"top-{K}", "FAISS Flat", searches(queries, gallery)),
        ("ranks", "ranks, whole lines", rankings(queries, gallery)),
    ):
        times = interleaved(steps, options.repeats)
        floor = floor if floor in times else "torch, topk by chunk"
        for name, spread in times.items():
            ratio = spread["cpu_ms"]["median"] / times[floor]["cpu_ms"]["median"]
            rate = 2 * len(queries) * gallery.numel() / spread["cpu_ms"]["median"] / 1e6
            print(
                f"{title:8} {name:24} {ratio:5.2f} of {floor}, {spread['cpu_ms']['median']:8.0f} ms, {rate:4.0f} GF/s"
            )
            rows.append({"question": title, "contender": name, "ratio": ratio, "to": floor, **spread})
    settings = {
        "queries": options.queries, "gallery": options.gallery, "dim": options.dim, "k": K, "threads": 1,
        "load average": os.getloadavg(),
    }  # fmt: skip
    with written_whole(options.json) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "versions": versions(), "rows": rows}, indent=2) + "\n")
    print(f"written to {options.json}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check that all find the same")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/search.json"), help="where to write")
    return parser.parse_args()


def unit(n: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=1)


def searches(queries: Tensor, gallery: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each gives the rows that it found, (n, K)."""
    found: dict[str, Callable[[], Tensor]] = {
        "torch, topk by chunk": lambda: by_chunk(queries, gallery),
        "confu, two levels": lambda: top_k(queries, gallery, K)[1],
    }
    try:
        import faiss
    except ImportError:
        print("FAISS is not installed (pip install faiss-cpu): left out")
        return found
    faiss.omp_set_num_threads(1)
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
