"""Stores of an index: time to build, memory, bytes on disk, milliseconds a query, recall@10.

python benchmarks/index.py                            # a million rows of 256 numbers: an hour, 8 GiB of disk
python benchmarks/index.py --rows 100000 --only exact "faiss hnsw"
python benchmarks/index.py --quick                    # 2,000 rows, only whether all find what they should: seconds

One thread, unless the environment says OMP_NUM_THREADS=2. Each store is built and asked in processes of its own.
Rows are unit vectors about 1,000 centres that overlap; queries are of the same kind and not among them.
"""

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import numpy as np
import pyarrow as pa
import torch
from measure import in_own_process
from torch import Tensor
from torch.nn.functional import normalize

from confu import versions
from confu.embeddings import EmbeddingTable
from confu.files import write_json
from confu.index import About, Index, Items
from confu.index.recall import measure_settings, recall_of
from confu.plan import Subset
from confu.products import top_k

K, PART, CENTRES, LATENT, SPREAD = 10, 1 << 16, 1000, 32, 0.7
TARGET = Subset("image")
STORES: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("exact", {}),
    "faiss flat": ("faiss", {"kind": "flat"}),
    "faiss hnsw": ("faiss", {"kind": "hnsw"}),
    "faiss ivfpq": ("faiss", {"kind": "ivfpq"}),
    "postgres": ("postgres", {"timeout": 600.0, "build_memory": 4096}),
    "qdrant in memory": ("qdrant", {"url": ":memory:"}),
}
LEAST = {"exact": 1.0, "faiss flat": 1.0, "qdrant in memory": 1.0}  # recall that is asked of --quick; 0.9 of the others


def main() -> None:
    options = parsed()
    folder = Path(tempfile.mkdtemp(prefix="confu-index-", dir=options.folder))
    most = {"postgres": options.postgres_rows, "qdrant in memory": options.qdrant_rows}
    rows = []
    try:
        in_own_process(write_data, folder, options.rows, options.queries, options.dim)
        for name in options.only:
            count = min(options.rows, most.get(name, options.rows))
            kind, settings = STORES[name]
            small = {"least": 500} if options.quick and "kind" in settings else {}
            with postgres(name) as url:
                given = {**settings, **small, **({} if url is None else {"url": url})}
                row = {"store": name, "rows": count, **measured(kind, given, count, options.dim, folder)}
            print(line(row), flush=True)
            rows.append(row)
    finally:
        shutil.rmtree(folder)
    if options.quick:
        wrong = [row for row in rows if row["recall"] < LEAST.get(row["store"], 0.9)]
        if wrong:
            raise RuntimeError(f"too little was found by {', '.join(row['store'] for row in wrong)}")
        print(f"{len(rows)} stores find what they should")
        return
    settings = {
        "rows": options.rows, "dim": options.dim, "queries": options.queries, "k": K, "centres": CENTRES,
        "latent": LATENT, "spread": SPREAD, "threads": torch.get_num_threads(), "load average": os.getloadavg(),
    }  # fmt: skip
    write_json(options.json, {"settings": settings, "versions": versions(), "rows": rows})
    print(f"written to {options.json}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 rows of 32 numbers, and only check what is found")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--postgres-rows", type=int, default=200_000, help="rows at most of the database")
    parser.add_argument("--qdrant-rows", type=int, default=5000, help="rows at most of Qdrant's client in memory")
    parser.add_argument("--only", nargs="+", choices=STORES, default=list(STORES), help="these stores")
    parser.add_argument("--folder", type=Path, help="where to write; of the system by default")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/index.json"), help="where to write")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.dim, options.queries, options.qdrant_rows = 2000, 32, 60, 300
    return options


def write_data(folder: Path, rows: int, queries: int, dim: int) -> None:
    data = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (rows, dim))
    for number, start in enumerate(range(0, rows, PART)):
        part = clustered(min(PART, rows - start), dim, number + 1)
        data[start : start + len(part)] = part.numpy()
    np.save(folder / "queries.npy", clustered(queries, dim, 0).numpy())


def clustered(rows: int, dim: int, seed: int) -> Tensor:
    """Unit vectors about centres that overlap: what varies has 32 directions, as in embeddings few have much to say."""
    fixed, generator = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    centres, directions = torch.randn(CENTRES, LATENT, generator=fixed), torch.randn(LATENT, dim, generator=fixed)
    latent = centres[torch.randint(CENTRES, (rows,), generator=generator)]
    latent = latent + SPREAD * torch.randn(rows, LATENT, generator=generator)
    return normalize(latent @ directions + 0.5 * torch.randn(rows, dim, generator=generator), dim=1)


def mapped(folder: Path, rows: int) -> Tensor:
    return torch.from_numpy(np.load(folder / "rows.npy", mmap_mode="c")[:rows])


def measured(kind: str, options: dict[str, Any], rows: int, dim: int, folder: Path) -> dict[str, Any]:
    if kind == "qdrant":  # which ends with the process
        found = in_own_process(both, folder, rows, dim, kind, options)
    else:
        found = in_own_process(build, folder, rows, dim, kind, options)
        found |= in_own_process(ask, folder, rows, options)
    shutil.rmtree(folder / "index")
    return found


def both(folder: Path, rows: int, dim: int, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    built = build(folder, rows, dim, kind, options)
    return {**built, **ask(folder, rows, options)}


def build(folder: Path, rows: int, dim: int, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    about = About("benchmark", "", dim, (TARGET,), {"image": "image"})
    start, before = time.perf_counter(), peak(anew=True)
    with Index.create(folder / "index", about, kind, **options) as index:
        index.add_parts(parts(mapped(folder, rows)))
        seconds = time.perf_counter() - start
        disk = sum(file.stat().st_size for file in (folder / "index").rglob("*") if file.is_file())
        if kind == "postgres":
            statement = "SELECT pg_total_relation_size(%s::regclass)"
            table = f'"{index.backend.table}"'
            disk = index.backend.connection.read(lambda cursor: cursor.execute(statement, [table]).fetchone()[0])
    return {"build_s": seconds, "build_mib": (peak() - before) / 2**20, "disk_mib": disk / 2**20}


def parts(vectors: Tensor) -> Iterator[Items]:
    for start in range(0, len(vectors), PART):
        part = vectors[start : start + PART].clone()
        ids = [str(row) for row in range(start, start + len(part))]
        years = pa.table({"year": pa.array([1900 + row % 100 for row in range(start, start + len(part))])})
        yield Items(EmbeddingTable(ids, {TARGET: part}), years)


def ask(folder: Path, rows: int, options: dict[str, Any]) -> dict[str, Any]:
    queries = torch.from_numpy(np.load(folder / "queries.npy"))
    exact = [
        list(zip(map(str, line), scores))
        for scores, line in zip(*(one.tolist() for one in top_k(queries, mapped(folder, rows), K)))
    ]
    url = {"url": options["url"]} if "url" in options else {}
    before = peak(anew=True)
    with Index.open(folder / "index", **url) as index:
        found = [one for some in queries.split(64) for one in index.backend.search(some, TARGET, K)]
        times = measure_settings(Fixed(index.backend), queries[:256], TARGET, K)[0]
        few = index.backend.search(queries[:16], TARGET, K, [condition("year < 1920")])
        assert min(map(len, few)) == K, "a condition left fewer than there are"
    return {
        "recall": recall_of(found, exact), "one_ms": times.one_ms, "batch_ms": times.batch_ms,
        "search_mib": (peak() - before) / 2**20,
    }  # fmt: skip


def condition(text: str) -> Any:
    from confu.index import parse_condition
    from confu.index.conditions import checked

    return checked([parse_condition(text)], pa.schema([("year", pa.int64())]))[0]


class Fixed:
    """A store without its dial: only the setting in use is timed."""

    dial = None

    def __init__(self, store: Any) -> None:
        self.search = store.search


def peak(anew: bool = False) -> int:
    """Bytes of the most that was resident in this process, mapped files among them; of now, if begun anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


@contextmanager
def postgres(name: str) -> Iterator[str | None]:
    """The server of CONFU_POSTGRES, or one of our own while it is needed."""
    if name != "postgres" or os.environ.get("CONFU_POSTGRES"):
        yield os.environ.get("CONFU_POSTGRES") if name == "postgres" else None
        return
    path = Path(__file__).parents[1] / "tests" / "index" / "postgres_server.py"
    found = importlib.util.spec_from_file_location("postgres_server", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    server = module.Server()
    try:
        yield server.url
    finally:
        server.close()


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['store']:17} {row['rows']:9,} rows  built in {row['build_s']:7.1f} s with {row['build_mib']:6.0f} MiB  "
        f"{row['disk_mib']:6.0f} MiB on disk  {row['one_ms']:7.2f} ms a query, {row['batch_ms']:6.2f} of 64 at once  "
        f"recall@{K} {row['recall']:.4f}  {row['search_mib']:6.0f} MiB to search"
    )


if __name__ == "__main__":
    main()
