"""Six views of scikit-learn's handwritten digits, after the six feature sets of UCI's "Multiple Features".

The pictures are 8 x 8 with 17 grey levels, 1,797 of them. Each view leaves something out, and has noise of its
own, so that several tell more than one:

| view | numbers | what it leaves out |
|---|---|---|
| pixels | 16 | detail: means of 2 x 2 pixels |
| fourier | 39 | where things are: magnitudes of the Fourier transform, without the mean |
| profiles | 16 | what stands where in a row: ink in each row and column |
| karhunen | 8 | all but the first principal components, those of the training pictures |
| top | 32 | the lower half |
| left | 32 | the right half |
"""

from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from confu.data import ArrayDataset, Splits, TensorColumn

VIEWS = ("pixels", "fourier", "profiles", "karhunen", "top", "left")
PARTS = (1000, 347, 450)  # train, validation, test
COMPONENTS = 8


def digit_views(seed: int = 0, noise: float = 0.5) -> Splits:
    """The six views as a data set with the digits as labels, split at random.

    Args:
        seed: of the split and the noise.
        noise: standard deviation of what is added to each number, in units of that number's own, drawn for each view.
    """
    found = load_digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(found.target))
    pictures, labels = found.images[order] / 16, torch.tensor(found.target[order])
    views = {name: _noisy(_standard(numbers), noise, generator) for name, numbers in _views(pictures, PARTS[0]).items()}
    ends = np.cumsum((0, *PARTS))
    return Splits(*(_part(views, labels, start, end) for start, end in pairwise(ends)))


def _views(pictures: np.ndarray, train: int) -> dict[str, np.ndarray]:
    """(n, numbers) by view, of pictures (n, 8, 8) of which the first `train` are for training."""
    n = len(pictures)
    flat = pictures.reshape(n, -1)
    mean = flat[:train].mean(axis=0)
    _, _, components = np.linalg.svd(flat[:train] - mean, full_matrices=False)
    return {
        "pixels": pictures.reshape(n, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(n, -1),
        "fourier": np.abs(np.fft.rfft2(pictures)).reshape(n, -1)[:, 1:],
        "profiles": np.concatenate([pictures.sum(axis=1), pictures.sum(axis=2)], axis=1),
        "karhunen": (flat - mean) @ components[:COMPONENTS].T,
        "top": pictures[:, :4].reshape(n, -1),
        "left": pictures[:, :, :4].reshape(n, -1),
    }


def _standard(numbers: np.ndarray) -> np.ndarray:
    train = numbers[: PARTS[0]]
    return (numbers - train.mean(axis=0)) / np.maximum(train.std(axis=0), 0.1 * train.std())


def _noisy(numbers: np.ndarray, noise: float, generator: np.random.Generator) -> Tensor:
    return torch.tensor(numbers + noise * generator.standard_normal(numbers.shape), dtype=torch.float32)


def _part(views: dict[str, Tensor], labels: Tensor, start: int, end: int) -> ArrayDataset:
    columns = {name: TensorColumn(numbers[start:end]) for name, numbers in views.items()}
    return ArrayDataset(columns, labels[start:end], [f"digit-{row}" for row in range(start, end)])
