"""An objective whose losses are written down beforehand, to test the loop alone."""

import json

import pytest
import torch
from torch import nn

from confu.data import ArrayDataset, TensorColumn
from confu.losses import LossOutput
from confu.training import TrainSettings
from confu.training import loop as training_loop


def rows(count: int) -> ArrayDataset:
    return ArrayDataset(
        {"x": TensorColumn(torch.arange(count).float()[:, None])}, ids=[f"row{i}" for i in range(count)]
    )


def settings(**changes) -> TrainSettings:
    return TrainSettings(**{"epochs": 4, "batch_size": 4, "lr": 0.01, "checkpoint_every": 3, "log_every": 1, **changes})


def stopped(train, at: int = 5) -> None:
    """Begin a training, and interrupt it at this step."""
    step, calls = training_loop._step, []

    def until_it_stops(*arguments):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_loop, "_step", until_it_stops)
        train()


def raise_at(error, data, fetch: int) -> None:
    """Raise an error when a data set has given so many batches."""
    take, remaining = data.batch, iter(range(fetch))

    def batch(indices):
        if next(remaining, None) is None:
            raise error
        return take(indices)

    data.batch = batch


class Scripted(nn.Module):
    """Three weights that fall a little with each step.

    Args:
        validation: the validation loss of each epoch.
        training: the training loss of some steps, counted from 1 in the life of this object; 1.0 for the others.
        bad_gradient: a step with a finite loss whose gradient is not a number.
    """

    def __init__(self, validation=(4.0, 3.0, 2.0, 1.0), training=None, bad_gradient=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.validation, self.training_losses, self.bad_gradient = list(validation), training or {}, bad_gradient
        self.batches: list[tuple[bool, list[str]]] = []
        self.saved: list[str] = []

    def forward(self, batch):
        self.batches.append((self.training, batch.ids))
        steps = sum(training for training, _ in self.batches)
        if self.training:
            total = self.weight.sum() - self.weight.sum().detach() + self.training_losses.get(steps, 1.0)
            if steps == self.bad_gradient:
                total = total + (self.weight - self.weight.detach()).sqrt().sum()
        else:
            epochs = [k for k, (training, _) in enumerate(self.batches) if not training and self.batches[k - 1][0]]
            total = torch.tensor(self.validation[len(epochs) - 1])
        return LossOutput(total, {"x ~ y": total.detach()}, {"x ~ y": len(batch)}, {"temperature": 0.07})

    def save(self, folder):
        folder.mkdir(exist_ok=True)
        self.saved.append(folder.name)
        (folder / "weights.json").write_text(json.dumps(self.weight.tolist()))

    def fetched(self, training=True):
        return [ids for was_training, ids in self.batches if was_training == training]
