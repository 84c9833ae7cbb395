"""A small training with all that is random in one: dropout, masked features, a learned temperature, shuffled rows.

As a script, `python kill_target.py FOLDER`, it prints a line when it fetches the rows of a step: the process that the
kill test kills.
"""

import sys
import time
from pathlib import Path

import torch

from confu.data import ArrayDataset, Splits
from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn import Temperature
from confu.nn.encoders import MLPEncoder
from confu.plan import confu_plan
from confu.training import ContrastiveObjective, FitResult, TrainSettings, fit
from confu_paper.datasets import xor

NAMES = ("x1", "x2", "x3")
STEPS_PER_EPOCH = 8
SETTINGS = TrainSettings(
    epochs=5, batch_size=32, lr=3e-3, warmup_steps=6, seed=3, checkpoint_every=3, log_every=2, weight_decay=0.01
)
STEPS = SETTINGS.epochs * STEPS_PER_EPOCH


def data(rows: int = 32 * STEPS_PER_EPOCH + 7) -> Splits:
    return xor(0.8, rows, 70, 1)


def objective(seed: int = 1) -> ContrastiveObjective:
    torch.manual_seed(seed)
    plan = confu_plan(NAMES)
    encoders = {name: MLPEncoder(5, [16], 12, dropout=0.1) for name in NAMES}
    model = MultimodalModel(plan, encoders, dim=8, fusion="released", fusion_dim=16, mask_ratio=0.1)
    return ContrastiveObjective(model, ConFuLoss(plan, Temperature(0.2, learned=True)))


def announced(rows: ArrayDataset) -> ArrayDataset:
    """Say when rows are fetched, and take some time, so that a kill can hit."""
    take = rows.batch

    def batch(indices):
        print("step", flush=True)
        time.sleep(0.01)
        return take(indices)

    rows.batch = batch
    return rows


def train(folder: Path, slowly: bool = False) -> FitResult:
    splits = data()
    rows = announced(splits.train) if slowly else splits.train
    return fit(objective(), rows, splits.validation, SETTINGS, folder, {"recipe": "kill"}, progress=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), slowly=True)
