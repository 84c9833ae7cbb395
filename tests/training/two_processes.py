"""Trains every method on rows with gaps and writes its weights: one process, or two or four together.

Several processes also train in a ring what can be, and are started unlike one another, to see what they say.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset, random_gaps
from confu.distributed import every_rank, rank, world_size
from confu.methods import build_objective
from confu.nn.encoders import build_encoder
from confu.training import TrainSettings, fit
from confu.types import Batch, Inputs

NAMES = ("image", "audio", "text")
METHODS = {
    "confu": {}, "confu-positives": {"same_group": "positives"}, "confu-excluded": {"same_group": "excluded"},
    "tri-clip": {}, "symile-n2": {}, "gram": {}, "triangle": {},
}  # fmt: skip
RING = ("confu", "confu-positives", "confu-excluded", "tri-clip")
# Of what several processes train, the part that four do too: each costs them seconds.
FOUR = ("confu", "confu-positives", "gram", "ring/confu", "ring/confu-excluded")
ROWS = 15  # a batch: two processes hold 8 and 7 of them
EPOCHS, STEPS = 2, 10


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = {name: TensorColumn(torch.randn(count, 6, generator=generator)) for name in NAMES}
    groups = torch.randint(-1, 8, (count,), generator=generator)
    whole = ArrayDataset(columns, ids=[f"{seed}-{row}" for row in range(count)], groups=groups)
    return IncompleteDataset(whole, random_gaps(count, NAMES, 0.5, seed))


def objective(method):
    torch.manual_seed(0)
    encoders = {name: build_encoder({"kind": "mlp", "in_dim": 6, "hidden_dims": [8], "out_dim": 8}) for name in NAMES}
    return build_objective(method.split("-p")[0].split("-e")[0], NAMES, encoders, dim=8, **METHODS[method])


def train(method, folder, **changes):
    chosen = {
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "batch_size": ROWS,
        "lr": 1e-2,
        "sampling": "balanced",
        "log_every": 1,
        **changes,
    }
    fit(objective(method), rows(64, 1), rows(32, 2), TrainSettings(**chosen), folder, progress=False)


def train_one(place):
    train("tri-clip", Path(place))
    return world_size()


def told(function, *arguments, **options):
    """What each process says of a training that cannot be."""
    try:
        function(*arguments, **options)
    except ValueError as error:
        return every_rank(str(error))
    return every_rank("")


def wrong_starts(folder):
    mine = rank() == 1
    batch = rows(16, 3).batch(torch.arange(16).tensor_split(world_size())[rank()])
    other = objective("confu" if mine else "tri-clip")
    return {
        "batch size": told(train, "confu", folder, batch_size=ROWS + mine),
        "negatives": told(train, "confu", folder, negatives="ring" if mine else "gather"),
        "plan": told(train, "confu" if mine else "tri-clip", folder),
        "loss": told(other, batch),
        "ring": told(train, "gram", folder, negatives="ring"),
        **{f"nan {method}": told(objective(method), spoiled(mine)) for method in ("confu", "gram")},
        **{f"one row {method}": told(objective(method), part_of_whole(1)) for method in ("confu", "gram")},
    }


def part_of_whole(count):
    """This process's part of a batch whose rows lack nothing."""
    inputs = {name: torch.randn(count, 6, generator=torch.Generator().manual_seed(4)) for name in NAMES}
    where = torch.arange(count).tensor_split(world_size())[rank()]
    here = {name: Inputs(values[where], torch.arange(len(where))) for name, values in inputs.items()}
    return Batch(here, [str(row) for row in where.tolist()])


def spoiled(mine):
    batch = part_of_whole(8)
    if mine:
        batch.inputs["audio"].values[0, 0] = torch.nan
    return batch


def difference(one, two):
    first, second = load_file(str(one)), load_file(str(two))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def train_all(place, ways):
    """Train in each of these ways, `method` or `ring/method`, into a folder of that name."""
    for way in ways:
        train(way.removeprefix("ring/"), Path(place) / way, negatives="ring" if way.startswith("ring/") else "gather")
    return wrong_starts(Path(place) / "wrong") if world_size() > 1 else None
