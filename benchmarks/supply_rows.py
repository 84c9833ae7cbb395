"""AV-MNIST and its loss as the released code's shape has them, for `av_mnist_small.py`: rows, and a matrix a term."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from confu import Embeddings, Plan
from confu.data import ArrayDataset
from confu_paper.datasets.av_mnist_sound import shift_time

SHAPES = {"image": (1, 28, 28), "audio": (1, 112, 112)}


class PlainRows(Dataset):
    """The rows of a data set one by one, for a DataLoader.

    Args:
        dataset: AV-MNIST, captions not deduplicated.
        time_shift: frames by which sounds are shifted at random.
    """

    def __init__(self, dataset: ArrayDataset, time_shift: int = 0) -> None:
        every = torch.arange(len(dataset))
        self.words = dataset.columns["text"].take(every, "text").values
        self.values = {name: dataset.columns[name].values for name in SHAPES}
        self.time_shift = time_shift

    def __len__(self) -> int:
        return len(self.words["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = {name: words[index] for name, words in self.words.items()}
        for name, shape in SHAPES.items():
            value = torch.from_numpy(np.array(self.values[name][index])).view(shape)
            if name == "audio" and self.time_shift:
                value = shift_time(value, self.time_shift)
            row[name] = value.float() / 255
        return row


def released_total(z: Embeddings, plan: Plan, temperature: Tensor) -> Tensor:
    """A score matrix a term, and two cross-entropies of it, weighted."""
    losses = []
    for term in plan.terms:
        scores = z[term.left] @ z[term.right].T / temperature
        targets = torch.arange(len(scores))
        losses.append(term.weight * (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2)
    return torch.stack(losses).sum()
