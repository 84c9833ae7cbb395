"""Accuracy of a supervised classifier, the ceiling that zero-shot classification is compared with."""

import torch

from confu.data import Dataset
from confu.models import LateFusionClassifier


def classifier_accuracy(model: LateFusionClassifier, dataset: Dataset, batch_size: int = 1024) -> float:
    """The share of rows whose largest logit is their label's.

    Args:
        model: left in evaluation mode.
        dataset: with labels.
        batch_size: rows at once; the result does not depend on it.
    """
    device = next(model.parameters()).device
    model.eval()
    right = 0
    with torch.inference_mode():
        for rows in torch.arange(len(dataset)).split(batch_size):
            batch = dataset.batch(rows).to(device)
            if batch.labels is None:
                raise ValueError("accuracy needs labels, but this data set has none")
            right += int((model(batch).argmax(dim=1) == batch.labels).sum())
    return right / len(dataset)
