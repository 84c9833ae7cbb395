"""Trains with weights spread over processes, for the tests of sharding; each function runs in every process."""

import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset
from confu.distributed import every_rank, rank
from confu.methods import build_objective
from confu.nn import Temperature
from confu.training import TrainSettings, fit
from training import two_processes
from training.two_processes import NAMES, told

METHODS = ("confu", "gram")
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


def with_layers(seed=0):
    """An objective that learns its temperature, a number without a dimension."""
    torch.manual_seed(seed)
    module = build_objective("confu", NAMES, {name: Layers() for name in NAMES}, dim=8)
    module.loss.temperature = Temperature(0.1, learned=True)
    return module


def rows(count, seed, rare=False):
    generator = torch.Generator().manual_seed(seed)
    columns = {name: TensorColumn(torch.randn(count, 6, generator=generator)) for name in NAMES}
    whole = ArrayDataset(columns, ids=[f"{seed}-{row}" for row in range(count)])
    if not rare:
        return whole
    present = {name: torch.ones(count, dtype=torch.bool) for name in NAMES}
    present["audio"] = torch.arange(count) % 16 < 2
    return IncompleteDataset(whole, present)


def train(module, folder, rare=False, stop=None, monitor=None):
    data = rows(64, 1, rare)
    if stop is not None:
        take, left = data.batch, iter(range(stop))

        def batch(indices):
            if next(left, None) is None:
                raise Stopped
            return take(indices)

        data.batch = batch
    settings = TrainSettings(epochs=2, steps_per_epoch=10, batch_size=15, lr=1e-2, log_every=1, checkpoint_every=3)
    fit(module, data, rows(32, 2), settings, folder, monitor=monitor, progress=False)
    return module


def share(module):
    """Which part of all numbers this process holds, and the temperature."""
    weights = list(module.parameters())
    held = sum(weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel() for weight in weights)
    return held / sum(weight.numel() for weight in weights), float(module.loss.temperature())


def alone(place):
    """What one process trains, which holds all."""
    for name in METHODS:
        two_processes.train(name, Path(place) / name)
    train(with_layers(), Path(place) / "whole")
    train(with_layers(), Path(place) / "rare", rare=True)


def sharded(place):
    """The same by two, each with half of the weights; what each says of itself."""
    place, found = Path(place), {}
    for name in METHODS:
        two_processes.train(name, place / name)
    module = with_layers(seed=rank())  # what counts are the first process's weights

    def monitor():
        vectors = module.model(rows(8, 3).batch(torch.arange(8))).vectors
        return {"sum": float(sum(one.sum() for one in vectors.values()))}

    found["share"] = every_rank(share(train(module, place / "whole", monitor=monitor)))
    train(with_layers(), place / "rare", rare=True)
    try:
        train(with_layers(), place / "cut", stop=8)
    except Stopped:
        found["left"] = sorted(file.name for file in (place / "cut").iterdir())
    train(with_layers(), place / "cut")
    with suppress(Stopped):
        train(with_layers(), place / "taken over", stop=8)
    os.environ.update(WRAP | {"FSDP_TRANSFORMER_CLS_TO_WRAP": "Layer"})
    found["wrapped"] = every_rank(share(train(with_layers(), place / "wrapped")))
    found["rare"] = told(train, with_layers(), place / "waits", rare=True)
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "Linear"
    found["outside"] = told(train, with_layers(), place / "outside")
    return found
