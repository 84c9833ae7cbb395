"""Trainings of which several processes must make what one makes; `together` runs in each of the processes."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset, random_gaps
from confu.distributed import every_rank, rank, world_size
from confu.methods import build_objective
from confu.nn import Temperature
from confu.training import TrainSettings, fit
from confu.training.log import read_log
from confu.types import Batch, Inputs
from training import cached_parts
from training.cached_parts import NAMES, Normed
from training.parts import raise_at

METHODS = [name for name in cached_parts.METHODS if name not in ("confu-bilinear", "symile")]
ROWS = 15  # a batch: two processes hold 8 and 7 of them
EPOCHS, STEPS = 2, 4
# What several processes train, and in which way: the name of the folder, the method, its settings.
WAYS = {
    2: {
        **{name: (name, {}) for name in METHODS},
        "ring/confu": ("confu", {"negatives": "ring"}),
        "ring/confu-excluded": ("confu-excluded", {"negatives": "ring"}),
        "chunk/symile-n2": ("symile-n2", {"chunk": 3}),
        "chunk/gram": ("gram", {"chunk": 3}),
        "chunk/ring": ("confu-excluded", {"chunk": 3, "negatives": "ring"}),
        "chunk/uneven": ("confu-positives", {"chunk": 7}),  # two chunks on one process, one on the other
    },
    3: {
        "confu-positives": ("confu-positives", {}),
        "gram": ("gram", {}),
        "ring/confu-equal": ("confu-equal", {"negatives": "ring"}),
    },
}
# Batches of other sizes for three processes: they hold 2, 1 and 1 rows, or 1, 1 and none.
SIZES = {"size 4": 4, "size 2": 2}
SHARD = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
WRAP = {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, 8), nn.LayerNorm(8)

    def forward(self, values):
        return self.norm(torch.relu(self.linear(values)))


class Layers(nn.Module):
    """An encoder of two layers, with a weight that nothing uses, as pretrained ones have."""

    out_dim = 8

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = Layer(6), Layer(8), nn.Linear(3, 3)
        self.settings = {"kind": "layers"}

    def forward(self, values):
        return self.second(self.first(values))


class Stopped(Exception):
    """In the place of a crash, in all processes at once."""


def objective(method):
    return cached_parts.objective(method, small=True)


def with_layers(seed=0):
    """An objective that learns its temperature, a number without a dimension."""
    torch.manual_seed(seed)
    module = build_objective("confu", NAMES, {name: Layers() for name in NAMES}, dim=8)
    module.loss.temperature = Temperature(0.1, learned=True)
    return module


def rows(count, seed, gaps=0.5, rare=False):
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(count, 6, generator=generator) for name in NAMES}
    values["audio"] = values["audio"][torch.randint(min(9, count), (count,), generator=generator)]  # equal inputs
    columns = {name: TensorColumn(one) for name, one in values.items()}
    groups = torch.randint(-1, 8, (count,), generator=generator)
    whole = ArrayDataset(columns, ids=[f"{seed}-{row}" for row in range(count)], groups=groups)
    if rare:
        present = {name: torch.ones(count, dtype=torch.bool) for name in NAMES}
        present["audio"] = torch.arange(count) % 16 < 2
        return IncompleteDataset(whole, present)
    return IncompleteDataset(whole, random_gaps(count, NAMES, gaps, seed)) if gaps else whole


def train(module, folder, data=None, monitor=None, **changes):
    defaults = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "batch_size": ROWS, "lr": 1e-2, "log_every": 1}
    settings = TrainSettings(**{**defaults, "sampling": "balanced", **changes})
    fit(module, data or rows(64, 1), rows(32, 2), settings, folder, monitor=monitor, progress=False)
    return module


def train_layers(module, folder, rare=False, stop=None, monitor=None):
    data = rows(64, 1, gaps=0, rare=rare)
    if stop is not None:
        raise_at(Stopped, data, stop)
    return train(module, folder, data, monitor, sampling="uniform", checkpoint_every=3)


def selected(method, folder, data=None, **changes):
    """The mean reciprocal ranks of an epoch, on each process; so small a step that rounding moves no rank."""
    settings = {"epochs": 1, "batch_size": ROWS, "lr": 2e-6, "select": "retrieval", "clip_grad": 0.1, **changes}
    module = objective(method) if isinstance(method, str) else method
    train_rows, validation = data or (rows(64, 1), rows(32, 2))
    result = fit(module, train_rows, validation, TrainSettings(**settings), folder, progress=False)
    (record,) = read_log(folder, "validation")
    assert record["mrr"] == result.best_mrr
    norm = read_log(folder, "train")[-1]["metrics"]["grad_norm"]
    return every_rank({**record["mrr_by_query"], "clipped norm": norm})


def selections(place, whole=True):
    """Of gathered and of encoded in chunks, of fused pairs and of volumes; and of layers, which may be sharded."""
    gapless = rows(64, 1, gaps=0), rows(32, 2, gaps=0)
    if not whole:
        return {"layers": selected(with_layers(), place / "layers", gapless)}
    return {
        "confu": selected("confu", place / "confu"),
        "chunk": selected("confu", place / "chunk", chunk=3),
        "gram": selected("gram", place / "gram"),
        **selections(place, whole=False),
    }


def train_alone(place):
    """What one process trains: the reference."""
    results = {"selections": selections(Path(place) / "selections")}
    for name in METHODS:
        train(objective(name), Path(place) / name)
    train_sizes(Path(place))
    train_layers(with_layers(), Path(place) / "layers")
    train_layers(with_layers(), Path(place) / "rare", rare=True)
    return results


def train_together(place):
    """The same by several processes, in each of `WAYS`; two also shard. Returns what they say of themselves."""
    place = Path(place)
    for folder, (method, changes) in WAYS[world_size()].items():
        train(objective(method), place / folder, **changes)
    results = {"refusals": refusals(place / "refused"), "selections": selections(place / "selections")}
    if world_size() == 3:
        train_sizes(place)
    if world_size() == 2:
        torch.manual_seed(0)
        norms = {name: Normed(norm=True) for name in NAMES}
        normed = train(build_objective("confu", NAMES, norms, dim=8), place / "norm", chunk=4)
        state = {key: value.tolist() for key, value in normed.state_dict().items()}
        results["norm"] = all(state == other for other in every_rank(state))
        os.environ.update(SHARD)
        results |= train_sharded(place / "sharded")
    return results


def train_sizes(place):
    for name, size in SIZES.items():
        settings = TrainSettings(epochs=EPOCHS, steps_per_epoch=STEPS, batch_size=size, lr=1e-2, log_every=1)
        fit(objective("confu"), rows(64, 1, gaps=0), rows(8, 2, gaps=0), settings, place / name, progress=False)


def train_one(place):
    train(objective("tri-clip"), Path(place))
    return world_size()


def train_sharded(place):
    """Two processes, each with half of the weights."""
    results = {}
    train(objective("gram"), place / "gram")
    module = with_layers(seed=rank())  # what counts are the first process's weights

    def monitor():
        vectors = module.model(rows(8, 3, gaps=0).batch(torch.arange(8))).vectors
        return {"sum": float(sum(vector.detach().sum() for vector in vectors.values()))}

    results["share"] = every_rank(share(train_layers(module, place / "layers", monitor=monitor)))
    train_layers(with_layers(), place / "rare", rare=True)
    with suppress(Stopped):
        train_layers(with_layers(), place / "cut", stop=5)
    results["left"] = sorted(file.name for file in (place / "cut").iterdir())
    if rank() == 0:
        shutil.copytree(place / "cut", place / "taken over")
    train_layers(with_layers(), place / "cut")
    os.environ.update(WRAP | {"FSDP_TRANSFORMER_CLS_TO_WRAP": "Layer"})
    results["wrapped"] = every_rank(share(train_layers(with_layers(), place / "wrapped")))
    results["sharded selections"] = selections(place / "selections", whole=False)
    results["waits"] = error_of(train_layers, with_layers(), place / "waits", rare=True)
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "Linear"
    results["outside"] = error_of(train_layers, with_layers(), place / "outside")
    return results


def share(module):
    """Which part of all numbers this process holds, and the temperature."""
    weights = list(module.parameters())
    held = sum(weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel() for weight in weights)
    return held / sum(weight.numel() for weight in weights), float(module.loss.temperature())


def error_of(function, *arguments, **options):
    """The error of each process."""
    try:
        function(*arguments, **options)
    except ValueError as error:
        return every_rank(str(error))
    return every_rank("")


def refusals(folder):
    """What each process says if they are started unlike one another, or with what no method can learn from."""
    differs = rank() == 1
    batch = rows(16, 3).batch(torch.arange(16).tensor_split(world_size())[rank()])
    methods = ("confu", "gram")
    return {
        "batch size": error_of(train, objective("confu"), folder, batch_size=ROWS + differs),
        "negatives": error_of(train, objective("confu"), folder, negatives="ring" if differs else "gather"),
        "plan": error_of(train, objective("confu" if differs else "tri-clip"), folder),
        "loss": error_of(objective("confu" if differs else "tri-clip"), batch),
        "ring": error_of(train, objective("gram"), folder, negatives="ring"),
        **{f"nan {method}": error_of(objective(method), own_rows(8, spoil=differs)) for method in methods},
        **{f"one row {method}": error_of(objective(method), own_rows(1)) for method in methods},
    }


def own_rows(count, spoil=False):
    """This process's part of a batch whose rows lack nothing."""
    inputs = {name: torch.randn(count, 6, generator=torch.Generator().manual_seed(4)) for name in NAMES}
    where = torch.arange(count).tensor_split(world_size())[rank()]
    own = {name: Inputs(values[where], torch.arange(len(where))) for name, values in inputs.items()}
    if spoil:
        own["audio"].values[0, 0] = torch.nan
    return Batch(own, [str(row) for row in where.tolist()])


def difference(one, two):
    first, second = load_file(str(one)), load_file(str(two))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
