"""What data of UR-FUNNY's size cost: from pickle to manifest, loading, and an epoch of ConFu on one and two threads.

python benchmarks/affect_epoch.py           # 16,514 rows of 50 x 371, 50 x 81 and 50 x 300: some forty minutes
python benchmarks/affect_epoch.py --quick   # 330 rows, two steps of the small encoders: does it run?

The rows are random numbers, all of 50 steps, so that nothing is saved on padding: the most that such an epoch costs.
Each part runs in a process of its own, whose peak memory is given. An epoch is estimated from measured steps (batch of
128, forward, backward and AdamW, drawing the batch included), as a whole one of the paper's encoders takes too long.
"""

import argparse
import json
import os
import pickle
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import in_own_process
from rich.console import Console
from rich.table import Table

from confu import versions
from confu.files import write_json
from confu_paper.datasets.affect import load_affect
from confu_paper.datasets.affect_build import build_affect
from confu_paper.experiments.affect import SCALES, affect_runs
from confu_paper.experiments.run import Budget

ROWS = {"train": 10_598, "valid": 2_626, "test": 3_290}
WIDTHS = {"vision": 371, "audio": 81, "text": 300}
STEPS, BATCH, EMBEDDED = 50, 128, 256


def main() -> None:
    options = parsed()
    rows = {split: count // 50 for split, count in ROWS.items()} if options.quick else ROWS
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        parts = {
            "generate the pickle": timed(write_pickle, folder, rows),
            "build the manifest": timed(build, folder),
            "load it": timed(load, folder),
        }
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        for what, found in parts.items():
            print(f"{what}: {found['seconds']:.0f} s, peak {found['peak_gb']:.1f} GB", flush=True)
        print(", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items()), flush=True)
        epochs = []
        for size in ["small"] if options.quick else options.sizes:
            for threads in [1] if options.quick else options.threads:
                found = in_own_process(steps, folder, size, threads, 2 if options.quick else options.steps, rows)
                epochs.append(found)
                print(json.dumps(found), flush=True)
    Console(width=140).print(table(epochs))
    print(
        f"estimated from {epochs[0]['measured']} measured steps each after two to warm up, the median times steps an "
        f"epoch; load average {', '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} cores: where "
        "it is above the threads used, wall time is too long and CPU time the better guide"
    )
    settings = {"rows": rows, "widths": WIDTHS, "steps": STEPS, "batch": BATCH, "load average": os.getloadavg()}
    content = {"settings": settings, "versions": versions(), "parts": parts, "bytes": sizes, "epochs": epochs}
    write_json(options.json, content)
    print(f"written to {options.json}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the rows and two steps")
    parser.add_argument("--steps", type=int, default=20, help="that are measured")
    parser.add_argument("--sizes", nargs="+", default=["small", "paper"], choices=list(SCALES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where the temporary files (5 GB) go")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/affect-epoch.json"), help="where to write")
    return parser.parse_args()


def timed(part: Callable[..., object], *arguments: Any) -> dict[str, float]:
    return in_own_process(_timed, part, arguments)


def _timed(part: Callable[..., object], arguments: tuple[Any, ...]) -> dict[str, float]:
    started = time.perf_counter()
    part(*arguments)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def write_pickle(folder: Path, rows: dict[str, int]) -> None:
    random = np.random.default_rng(0)
    content = {
        split: {name: random.standard_normal((count, STEPS, width), np.float32) for name, width in WIDTHS.items()}
        | {"labels": random.integers(0, 2, (count, 1)), "id": np.arange(count) + 100_000 * len(split)}
        for split, count in rows.items()
    }
    with (folder / "humor.pkl").open("wb") as file:
        pickle.dump(content, file, protocol=5)


def build(folder: Path) -> None:
    build_affect(folder / "humor.pkl", "ur-funny", folder, progress=False)


def load(folder: Path) -> None:
    splits = load_affect(folder / "ur-funny.parquet")
    assert len(splits.train) > 0


def steps(folder: Path, size: str, threads: int, count: int, rows: dict[str, int]) -> dict[str, Any]:
    """Training steps of ConFu, and the embedding of some validation rows, as after every epoch."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    (run,) = affect_runs("confu", "ur-funny", folder, budget=Budget(size, limit=10 * BATCH))
    splits, objective = run.splits(), run.objective()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=run.train.lr)
    cpu, wall = [], []
    for _ in range(2 + count):
        began = time.process_time(), time.perf_counter()
        loss = objective(splits.train.batch(torch.randperm(len(splits.train))[:BATCH])).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    embedded = torch.arange(min(EMBEDDED, len(splits.validation)))
    model = objective.model.eval()
    started = time.perf_counter()
    with torch.inference_mode():
        for rows_of in embedded.split(BATCH):
            model(splits.validation.batch(rows_of))
    validation = (time.perf_counter() - started) * rows["valid"] / len(embedded)
    an_epoch = max(1, rows["train"] // BATCH)
    return {
        "size": size, "threads": threads, "measured": count, "steps an epoch": an_epoch,
        "parameters": sum(parameter.numel() for parameter in objective.parameters()),
        "step s": statistics.median(wall[2:]), "step CPU s": statistics.median(cpu[2:]),
        "epoch s": an_epoch * statistics.median(wall[2:]), "epoch CPU s": an_epoch * statistics.median(cpu[2:]),
        "validation s": validation, "loss": float(loss.detach()),
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }  # fmt: skip


def table(epochs: list[dict[str, Any]]) -> Table:
    shown = Table(title="UR-FUNNY's size, ConFu, seconds an epoch (estimated)")
    columns = (
        "size",
        "threads",
        "parameters",
        "step s",
        "step CPU s",
        "epoch s",
        "epoch CPU s",
        "validation s",
        "peak GB",
    )
    for column in columns:
        shown.add_column(column, justify="right")
    for found in epochs:
        values = [found[column] for column in columns]
        shown.add_row(*(_short(value) for value in values))
    return shown


def _short(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    main()
