"""Trains in parts, on as many processes as run it, and writes the weights."""

from pathlib import Path

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


def train_whole(folder):
    """What the parts must equal, on one process that encodes all rows at once."""
    for name in METHODS:
        train(name, Path(folder) / name)
    train("confu-positives", Path(folder) / "uneven")
    train("confu-excluded", Path(folder) / "ring")


def train_in_parts(folder):
    """The same on two processes; returns whether both hold the same weights and running statistics."""
    place = Path(folder)
    for name in METHODS:
        train(name, place / name, chunk=3)
    train("confu-positives", place / "uneven", chunk=7)  # two parts on one process, one on the other
    train("confu-excluded", place / "ring", chunk=3, negatives="ring")
    normed = train("confu-positives", place / "norm", chunk=4, norm=True)
    mine = {key: value.tolist() for key, value in normed.state_dict().items()}
    return all(mine == other for other in every_rank(mine))
