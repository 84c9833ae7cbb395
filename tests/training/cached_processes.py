"""Trains in parts, on as many processes as run it, and writes the weights; run by torchrun with two."""

import sys
from pathlib import Path

import torch

from confu.distributed import every_rank
from confu.training import fit
from training.cached_parts import incomplete, objective
from training.parts import settings

METHODS = ("confu-positives", "symile-n2", "gram")
ROWS = 15  # a batch: the processes hold 8 and 7 of them, in parts of at most 3 or 7


def train(method, folder, chunk=None, norm=False, negatives="gather"):
    module = objective(method, norm=norm, small=not norm)
    chosen = settings(epochs=2, batch_size=ROWS, sampling="balanced", chunk=chunk, negatives=negatives)
    fit(module, incomplete(64, 1), incomplete(32, 2), chosen, folder, progress=False)
    return module


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    for name in METHODS:
        train(name, place / name, chunk=3)
    train("confu-positives", place / "uneven", chunk=7)  # two parts on one process, one on the other
    train("confu-excluded", place / "ring", chunk=3, negatives="ring")
    normed = train("confu-positives", place / "norm", chunk=4, norm=True)
    mine = {key: value.tolist() for key, value in normed.state_dict().items()}
    assert all(mine == other for other in every_rank(mine)), "the processes hold different weights or statistics"
