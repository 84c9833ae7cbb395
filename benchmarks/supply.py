"""What it costs to make the batches of an epoch: confu's columns beside torch's DataLoader over the same arrays.

python benchmarks/supply.py            # 8,192 rows of AV-MNIST's shape in batches of 256: a minute, 1 GiB
python benchmarks/supply.py --quick    # only whether both give the same batches: seconds

A row is an image of 28 x 28, a spectrogram of 112 x 112 and twelve tokens; a batch holds float32 and int64. Rows are
kept as float32 in memory (so a batch is nothing but a copy), as bytes in memory, and as bytes in a memory-mapped file.
Times are wall times, as worker processes are part of them; workers are started before, and kept.
"""

import argparse
import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import interleaved, parser, ratio, write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from confu.data import ArrayDataset, TensorColumn

SHAPES = {"image": (1, 28, 28), "audio": (1, 112, 112)}
KINDS = ("float32 in memory", "bytes in memory", "bytes memory-mapped")
WORKERS = (0, 1, 2)
LENGTH, WORDS, BYTE = 12, 100, 255
FLOOR = "floor: one copy into one buffer"
Arrays = dict[str, np.ndarray]


class Rows(Dataset):
    """The same arrays as a DataLoader wants them: row by row."""

    def __init__(self, arrays: Arrays, labels: Tensor) -> None:
        self.arrays, self.labels = arrays, labels
        shared = {name: torch.from_numpy(one) for name, one in arrays.items() if not isinstance(one, np.memmap)}
        self.rows: dict[str, Any] = {**arrays, **shared}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = {name: self.value(rows[index]) for name, rows in self.rows.items()}
        return row | {"label": self.labels[index]}

    def value(self, row: Any) -> Tensor:
        if isinstance(row, np.ndarray):
            row = torch.from_numpy(np.array(row))  # a copy, as memory-mapped rows cannot be written to
        return row.to(torch.float32).div_(BYTE) if row.dtype == torch.uint8 else row


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    check_equal()
    if options.quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for kind in KINDS for row in measured(kind, options, Path(folder))]
    Console(width=110).print(table(rows, options))
    write_results(options, {"shapes": SHAPES, "tokens": LENGTH, "clock": "wall time"}, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "supply", repeats=7)
    asked.add_argument("--rows", type=int, default=8192, help="of the set")
    asked.add_argument("--batch", type=int, default=256, help="rows of a batch")
    return asked.parse_args()


def arrays_of(kind: str, count: int, folder: Path) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    made: Arrays = {}
    for name, shape in SHAPES.items():
        values = torch.randint(0, BYTE + 1, (count, *shape), generator=generator, dtype=torch.uint8)
        made[name] = (values.float() / BYTE if kind.startswith("float32") else values).numpy()
    made["text"] = torch.randint(0, WORDS, (count, LENGTH), generator=generator).numpy()
    if kind.endswith("mapped"):
        for name, values in made.items():
            np.save(folder / f"{name}.npy", values)
            made[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return made


def ours(arrays: Arrays, labels: Tensor) -> ArrayDataset:
    return ArrayDataset(
        {name: TensorColumn(one, scale=BYTE if one.dtype == np.uint8 else None) for name, one in arrays.items()}, labels
    )


def supplies(kind: str, count: int, batch: int, folder: Path) -> dict[str, Callable[[], Iterator[list[Tensor]]]]:
    """By name, what gives the batches of one epoch, in one order: values of each modality, and labels."""
    arrays, labels = arrays_of(kind, count, folder), torch.arange(count) % 10
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))[: count // batch * batch]
    dataset = ours(arrays, labels)

    def by_columns() -> Iterator[list[Tensor]]:
        for rows in order.view(-1, batch):
            found = dataset.batch(rows)
            yield [*(found.inputs[name].values for name in arrays), found.labels]

    def by_loader(loader: DataLoader) -> Callable[[], Iterator[list[Tensor]]]:
        return lambda: (list(found.values()) for found in loader)

    made: dict[str, Callable[[], Iterator[list[Tensor]]]] = {"confu": by_columns, FLOOR: copies(arrays, order, batch)}
    for workers in WORKERS:
        loader = DataLoader(Rows(arrays, labels), batch, sampler=order.tolist(), num_workers=workers,
                            persistent_workers=workers > 0)  # fmt: skip
        made[f"DataLoader, {workers} workers"] = by_loader(loader)
    return made


def copies(arrays: Arrays, order: Tensor, batch: int) -> Callable[[], Iterator[list[Tensor]]]:
    """Nothing but the rows, as they are stored, copied to where the last batch was."""
    shared = [torch.from_numpy(np.array(one)) for one in arrays.values()]
    rooms = [one.new_empty(batch, *one.shape[1:]) for one in shared]

    def run() -> Iterator[list[Tensor]]:
        for rows in order.view(-1, batch):
            yield [torch.index_select(one, 0, rows, out=room) for one, room in zip(shared, rooms)]

    return run


def measured(kind: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each supply, times a batch."""
    found = supplies(kind, options.rows, options.batch, folder)
    times = interleaved({name: lambda one=one: _drain(one) for name, one in found.items()}, options.repeats)
    batches = options.rows // options.batch
    rows = [
        {"kind": kind, "supply": name, "ms a batch": times[name]["wall_ms"]["median"] / batches,
         "confu's ratio": ratio(times, "confu", name, "wall_ms")}
        for name in found
    ]  # fmt: skip
    print(f"{kind}: " + ", ".join(f"{row['supply']} {row['ms a batch']:.2f} ms" for row in rows), flush=True)
    return rows


def _drain(supply: Callable[[], Iterator[list[Tensor]]]) -> None:
    for _ in supply():
        pass


def check_equal() -> None:
    """Fail unless every supply gives the same batches."""
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = supplies(kind, 40, 8, Path(folder))
            batches = list(found["confu"]())
            for name in ("DataLoader, 0 workers", "DataLoader, 1 workers"):
                for mine, theirs in zip(batches, found[name](), strict=True):
                    if not all(torch.equal(one, two) and one.dtype == two.dtype for one, two in zip(mine, theirs)):
                        raise RuntimeError(f"{kind}: {name} gives other batches than confu")
        print(f"{kind}: the same batches from confu and from a DataLoader")


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    found = Table(title=f"A batch of {options.batch} rows of AV-MNIST's shape: milliseconds; confu's share of them")
    for column in ("", *KINDS):
        found.add_column(column, justify="right" if column else "left")
    for name in dict.fromkeys(row["supply"] for row in rows):
        cells = []
        for row in (row for row in rows if row["supply"] == name):
            share = row["confu's ratio"]
            spread = "" if name == "confu" else f"; {share['ratio']:.2f} ({share['low']:.2f} to {share['high']:.2f})"
            cells.append(f"{row['ms a batch']:.2f}{spread}")
        found.add_row(name, *cells)
    return found


if __name__ == "__main__":
    main()
