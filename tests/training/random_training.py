"""A small training with all that is random in one: dropout, augmentation, masked features, shuffled rows; a learned
temperature.
"""

import os
import signal

import torch

from confu.data import ArrayDataset, Splits, TensorColumn
from confu.data.augmented import Augment
from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn import Temperature
from confu.nn.encoders import MLPEncoder
from confu.plan import confu_plan
from confu.training import ContrastiveObjective, FitResult, TrainSettings, fit

NAMES = ("x1", "x2", "x3")
STEPS_PER_EPOCH = 4
SETTINGS = TrainSettings(
    epochs=2, batch_size=32, lr=3e-3, warmup_steps=6, seed=3, checkpoint_every=3, log_every=2, weight_decay=0.01
)
STEPS = SETTINGS.epochs * STEPS_PER_EPOCH


def views(rows: int, seed: int = 0) -> ArrayDataset:
    """Three noisy views of one thing: easy to align."""
    generator = torch.Generator().manual_seed(seed)
    thing = torch.randn(rows, 5, generator=generator)
    return ArrayDataset({name: TensorColumn(thing + 0.2 * torch.randn(rows, 5, generator=generator)) for name in NAMES})


def data() -> Splits:
    return Splits(views(32 * STEPS_PER_EPOCH + 7), views(70, 1), views(8, 2))


def objective(seed: int = 1) -> ContrastiveObjective:
    torch.manual_seed(seed)
    plan = confu_plan(NAMES)
    encoders = {name: MLPEncoder(5, [16], 12, dropout=0.1) for name in NAMES}
    model = MultimodalModel(plan, encoders, dim=8, fusion="released", fusion_dim=16, mask_ratio=0.1)
    augment = Augment(views(64), {"x1": {"noise": 0.1}, "x2": {"drop": 0.2}}, dict.fromkeys(NAMES, "vector"))
    return ContrastiveObjective(model, ConFuLoss(plan, Temperature(0.2, learned=True)), augment=augment)


def train(folder, module=None, splits=None) -> FitResult:
    splits = splits or data()
    return fit(module or objective(), splits.train, splits.validation, SETTINGS, folder, progress=False)


def train_and_be_killed(folder, moment: str, number: int) -> None:
    """Train in a process that gets SIGKILL at the nth such moment: nothing can be caught, nothing cleaned up.

    `"step"` is within a step, `"writing"` when half of a checkpoint is written, `"written"` just after a file is whole.
    """
    remaining = number

    def kill_in_time() -> None:
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    module, replace, save = objective(), os.replace, torch.save

    def save_half(content, path):
        save(content, path)
        half = path.read_bytes()[: path.stat().st_size // 2]
        path.write_bytes(half)
        kill_in_time()
        save(content, path)

    def replace_and_die(source, target):
        replace(source, target)
        kill_in_time()

    if moment == "step":
        module.model.encoders["x3"].register_full_backward_hook(lambda *_: kill_in_time())
    elif moment == "writing":
        torch.save = save_half
    else:
        os.replace = replace_and_die
    train(folder, module)
