"""The loss of ConFu against other ways to compute it, and against the matrix products that cannot be left out.

python benchmarks/loss.py                              # N = 64 to 4096, three to six modalities, peak memory: 5 minutes
python benchmarks/loss.py --rows --many --large 16384  # one step of the released code's way: 2 minutes, 15 GiB
python benchmarks/loss.py --quick                      # only whether all ways give one value and one gradient: seconds

Six terms on unit vectors, D = 256, forward and backward, float32. Times are CPU time on one thread and wall time on
more, ratios to the released code's way. The floors are nothing but the products of a term: three (scores, two
gradients), and four with the scores made again; in tiles of 1,024 rows, by the faster backend.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loss_ways import (
    CHOSEN,
    DIM,
    FLOOR,
    MISSING,
    MOST_ROWS,
    PML,
    TAU,
    WAYS,
    Terms,
    check_equal,
    floor,
    of_plan,
    step,
    three_modalities,
    usable,
)  # fmt: skip
from measure import Times, clock_of, in_own_process, interleaved, parser, peak_above_base, ratio, write_results
from rich.console import Console
from rich.table import Table

from confu.plan import disjoint_plan
from confu.products import matmul_backend

REPEATS = {64: 60, 256: 30, 1024: 12, 4096: 3}
MODALITIES = 512  # rows where the number of modalities grows
FLOORS = {"floor of three products": 3, "floor of four products": 4}
BYTES = 57  # a pair of rows, where the released code's way is at its peak
Row = dict[str, Any]


def measured(options: argparse.Namespace) -> list[Row]:
    """Rows of the table, in a process of its own."""
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    count, terms = three_modalities()
    for n in options.rows:
        names, rounds = usable(n), options.repeats or REPEATS.get(n, 8)
        slow = [name for name in names if name == PML]  # hundreds of times the others' time: few rounds, by itself
        rows += _compared(f"N = {n}", n, count, terms, [name for name in names if name not in slow], rounds, options)
        if slow:
            rows += _compared(f"N = {n}", n, count, terms, [FLOOR, *slow], 3, options)[1:2]
    for m in options.many:
        count, terms = of_plan(disjoint_plan([f"m{i}" for i in range(m)]))
        what = f"M = {m} ({len(terms)} terms), N = {MODALITIES}"
        rows += _compared(what, MODALITIES, count, terms, [FLOOR, "confu"], options.repeats or 8, options)
    return rows


def _compared(
    what: str, n: int, count: int, terms: Terms, names: list[str], rounds: int, options: argparse.Namespace
) -> list[Row]:
    steps: dict[str, Callable[[], object]] = {name: step(name, n, count, terms) for name in names}
    if len(names) > 1 and PML not in names:
        steps |= {name: floor(n, terms, products) for name, products in FLOORS.items()}
    clock = clock_of(options.threads)
    times = interleaved(steps, rounds)
    rows = [_row(what, n, name, times, clock) for name in steps]
    print(f"{what}: " + ", ".join(f"{row['way']} {row['ratio']:.2f}" for row in rows), flush=True)
    return rows


def _row(what: str, n: int, name: str, times: Times, clock: str) -> Row:
    to = {
        key: ratio(times, name, way, clock)
        for key, way in (("to chosen backend", CHOSEN), ("to four products", "floor of four products"))
        if way in times
    }
    return {"what": what, "n": n, "way": name, "ms": times[name][clock]["median"],
            **ratio(times, name, FLOOR, clock), **to}  # fmt: skip


def large(options: argparse.Namespace) -> list[Row]:
    """One size whose scores hardly fit in memory: each way in a process of its own, few rounds, none to warm up."""
    n, clock = options.large, clock_of(options.threads)
    names = [FLOOR, "confu", *FLOORS]
    if (free := _available()) < BYTES * n * n:
        print(f"N = {n}: {FLOOR} needs {BYTES * n * n / 2**30:.1f} GiB, {free / 2**30:.1f} are free: left out")
        names.remove(FLOOR)
    times: Times = {}
    for name in names:
        rounds = (options.repeats or 1) if name == FLOOR else (options.repeats or 1) + 1
        print(f"N = {n}, {name}: {rounds} round(s)", flush=True)
        times |= in_own_process(_large_step, name, n, options.threads, rounds)
    if FLOOR not in times:
        return [{"what": f"N = {n}", "n": n, "way": name, "ms": times[name][clock]["median"]} for name in names]
    least = min(len(one[clock]["each"]) for one in times.values())
    for one in times.values():  # the least disturbed rounds, as many of each
        one[clock]["each"] = sorted(one[clock]["each"])[:least]
    return [_row(f"N = {n}", n, name, times, clock) for name in names]


def _large_step(name: str, n: int, threads: int, rounds: int) -> Times:
    torch.set_num_threads(threads)
    count, terms = three_modalities()
    run = floor(n, terms, FLOORS[name]) if name in FLOORS else step(name, n, count, terms)
    return interleaved({name: run}, rounds, warm_up=False)


def _available() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: nobody says what is free, so the attempt is made
        return float("inf")
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])


def peak(name: str, n: int) -> int:
    torch.set_num_threads(1)
    count, terms = three_modalities()
    return peak_above_base(step(name, n, count, terms), warm_up=step(name, 200, count, terms))


def table(rows: list[Row], threads: int) -> Table:
    columns = list(dict.fromkeys(row["what"] for row in rows))
    clock = "CPU time" if threads == 1 else "wall time"
    found = Table(title=f"Forward and backward, {threads} thread(s): {clock} / {FLOOR}")
    found.add_column("")
    for what in columns:
        found.add_column(what, justify="right")
    for way in [*WAYS, *FLOORS]:
        cells = {row["what"]: _cell(row) for row in rows if row["way"] == way}
        lacking = MISSING.get(way, "N³ in memory" if way in MOST_ROWS else "-").split(" (")[0]
        found.add_row(way, *(cells.get(what, lacking if what.startswith("N") else "-") for what in columns))
    return found


def _cell(row: Row) -> str:
    return f"{row['ms']:.1f} ms" if row["way"] == FLOOR or "ratio" not in row else f"{row['ratio']:.2f}"


def main() -> None:
    asked = parser(__doc__, "loss")
    asked.add_argument("--rows", type=int, nargs="*", default=[64, 256, 1024, 4096], help="batch sizes N")
    asked.add_argument("--many", type=int, nargs="*", default=[3, 4, 5, 6], help="numbers of modalities")
    asked.add_argument("--large", type=int, help="a batch size for which each way has a process and a round only")
    asked.add_argument("--memory-rows", type=int, nargs="*", default=[], help="batch sizes for peak memory")
    options = asked.parse_args()
    in_own_process(check_equal)
    if options.quick:
        return
    peaks = [
        {"way": name, "n": n, "mib": in_own_process(peak, name, n) / 2**20}
        for n in options.memory_rows
        for name in usable(n)
        if n <= 4096 or name.startswith("confu")  # the released code's way needs 14 GiB at 16,384
    ]
    rows = in_own_process(measured, options) + (large(options) if options.large else [])
    Console(width=200).print(table(rows, options.threads))
    for one in peaks:
        print(f"peak memory of {one['way']} at N = {one['n']}: {one['mib']:.0f} MiB")
    missing = [f"{name}: {why}" for name, why in MISSING.items()]
    settings = {"dim": DIM, "temperature": TAU, "backend": vars(matmul_backend())}
    print(f"products: {matmul_backend().why}", *missing, sep="\n")
    write_results(options, settings, rows=rows, peak_memory_mib=peaks, missing=missing)


if __name__ == "__main__":
    main()
