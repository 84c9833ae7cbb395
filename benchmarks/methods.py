"""What a step of each method costs: CPU time and memory, the loss alone and with the smallest model around it.

python benchmarks/methods.py            # N = 256, 1024, 4096: some twenty minutes
python benchmarks/methods.py --quick    # only whether both ways of computing a loss give the same: seconds
"""

import argparse
import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from contenders import CONTENDERS, FLOOR, FUSION_DIM, PARTS, Contender, loss_step
from measure import clock_of, in_own_process, interleaved, parser, peak_above_base, write_results
from rich.console import Console
from rich.table import Table

REPEATS = {256: 30, 1024: 10, 4096: 5}
GIB = 2**30


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    in_own_process(check_equal)
    if options.quick:
        return
    print("peak memory of each, in processes of their own", flush=True)
    peaks = all_peaks(options)  # before this process itself computes anything
    torch.set_num_threads(options.threads)
    rows = [row for n in options.rows for row in measured(n, options, peaks)]
    Console(width=60 + 40 * len(options.rows)).print(table(rows, options))
    write_results(options, {"fusion_dim": FUSION_DIM, "dtype": "float32", "ratios to": FLOOR}, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "methods")
    asked.add_argument("--rows", type=int, nargs="+", default=list(REPEATS), help="batch sizes N")
    asked.add_argument("--dim", type=int, default=256, help="of embeddings, encoders and projections")
    asked.add_argument("--most-gib", type=float, default=8, help="leave out what needs more memory")
    asked.add_argument("--most-tflop", type=float, default=1, help="leave out what multiplies more")
    return asked.parse_args()


def check_equal() -> bool:
    """Fail unless every loss that is computed in two ways has one value and one gradient."""
    for name, contender in CONTENDERS.items():
        if contender.same_as is None:
            continue
        found = []
        for one in (contender, CONTENDERS[contender.same_as]):
            step = loss_step(one, n=24, dim=16, dtype=torch.float64)
            torch.manual_seed(1)  # of Symile's shuffles
            found.append([step(), *(leaf.grad for leaf in step.leaves)])
        apart = max(float((ours - theirs).abs().max()) for ours, theirs in zip(*found))
        # A fixed temperature is a float32 number here and Python's there.
        if apart > 1e-6:
            raise RuntimeError(f"{name} and {contender.same_as} differ by {apart:.1e}, value or gradient")
        print(f"{name} = {contender.same_as}: value and gradients within {apart:.0e}")
    return True


def all_peaks(options: argparse.Namespace) -> dict[tuple[str, str, int], int]:
    """Peak memory in bytes by contender, part and batch size."""
    return {
        (name, part, n): in_own_process(peak_memory, name, part, n, options.dim)
        for n in options.rows
        for name, contender in CONTENDERS.items()
        if not too_much(contender, n, options)
        for part in PARTS
    }


def measured(n: int, options: argparse.Namespace, peaks: dict[tuple[str, str, int], int]) -> list[dict[str, Any]]:
    """A row for each contender and part at one batch size."""
    rows = []
    left_out = {name: reason for name, one in CONTENDERS.items() if (reason := too_much(one, n, options))}
    repeats = options.repeats or REPEATS.get(n, 5)
    for part, make in PARTS.items():
        print(f"N = {n}: {repeats} rounds of {len(CONTENDERS) - len(left_out)} ({part})", flush=True)
        times = interleaved({name: make(one, n, options.dim) for name, one in CONTENDERS.items()
                             if name not in left_out}, repeats)  # fmt: skip
        for name in CONTENDERS:
            row = {"contender": name, "part": part, "n": n}
            if name in left_out:
                rows.append(row | {"left_out": left_out[name]})
            else:
                rows.append(row | times[name] | {"repeats": repeats, "peak_bytes": peaks[name, part, n]})
    return rows


def too_much(contender: Contender, n: int, options: argparse.Namespace) -> str | None:
    gib, tflop = 4 * contender.held(n, options.dim) / GIB, contender.products(n, options.dim) / 1e12
    if gib > options.most_gib:
        return f"computed: {gib:.0f} GiB"
    return f"computed: {tflop:.0f} TFLOP" if tflop > options.most_tflop else None


def peak_memory(name: str, part: str, n: int, dim: int) -> int:
    """Bytes, in a process of its own."""
    contender = CONTENDERS[name]
    return peak_above_base(PARTS[part](contender, n, dim), warm_up=PARTS[part](contender, 8, dim))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    """Time as a ratio to the floor's, which shows its milliseconds; peak memory in MiB."""
    by_key = {(row["contender"], row["part"], row["n"]): row for row in rows}
    columns, clock = [(n, part) for n in options.rows for part in PARTS], clock_of(options.threads)
    found = Table(title=f"A step, forward and backward, {options.threads} thread(s): time / {FLOOR}; peak memory")
    found.add_column("")
    for n, part in columns:
        found.add_column(f"N = {n}\n{part}", justify="right")
        found.add_column("\nMiB", justify="right", style="dim")
    for name in CONTENDERS:
        cells = []
        for n, part in columns:
            row, floor = by_key[name, part, n], by_key[FLOOR, part, n]
            if "left_out" in row:
                cells += [str(row["left_out"]), ""]
                continue
            own, reference = row[clock]["median"], floor[clock]["median"]
            cells += [
                f"{own:.0f} ms" if name == FLOOR else f"{own / reference:.2f}",
                f"{row['peak_bytes'] / 2**20:.0f}",
            ]
        found.add_row(name, *cells, end_section=name == FLOOR)
    return found


if __name__ == "__main__":
    main()
