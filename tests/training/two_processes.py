"""Trains every method on rows with gaps and writes its weights; run alone, and by torchrun with two processes."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset, random_gaps
from confu.nn.encoders import build_encoder
from confu.recipes.methods import build_objective
from confu.training import TrainSettings, fit

NAMES = ("image", "audio", "text")
METHODS = {
    "confu": {}, "confu-positives": {"same_group": "positives"}, "confu-excluded": {"same_group": "excluded"},
    "tri-clip": {}, "symile-n2": {}, "gram": {}, "triangle": {},
}  # fmt: skip


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = {name: TensorColumn(torch.randn(count, 6, generator=generator)) for name in NAMES}
    groups = torch.randint(-1, 8, (count,), generator=generator)
    whole = ArrayDataset(columns, ids=[f"{seed}-{row}" for row in range(count)], groups=groups)
    return IncompleteDataset(whole, random_gaps(count, NAMES, 0.5, seed))


def train(method, folder):
    torch.manual_seed(0)
    encoders = {name: build_encoder({"kind": "mlp", "in_dim": 6, "hidden_dims": [8], "out_dim": 8}) for name in NAMES}
    objective = build_objective(method.split("-p")[0].split("-e")[0], NAMES, encoders, dim=8, **METHODS[method])
    # 15 rows a batch: the processes hold 8 and 7 of them.
    settings = TrainSettings(epochs=2, batch_size=15, lr=1e-2, sampling="balanced", log_every=1)
    fit(objective, rows(64, 1), rows(32, 2), settings, folder / method, progress=False)


def difference(one, two):
    first, second = load_file(str(one)), load_file(str(two))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in METHODS:
        train(name, Path(sys.argv[1]))
