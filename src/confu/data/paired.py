"""Rows put together afresh in every batch: a photo with any sound and any caption of its class."""

from collections.abc import Sequence

from confu.data.dataset import Dataset


def paired_by_class(dataset: Dataset, anchor: str, others: Sequence[str] | None = None) -> Dataset:
    """A data set whose batches take the other modalities from other rows of the same class, drawn anew each time.

    Each other modality is drawn on its own, uniformly among the rows of the class that have it, from torch's random
    state, so that an interrupted training goes on with the draws it would have made.

    Args:
        dataset: with labels.
        anchor: the modality that stays with its row; so do id, label and group.
        others: those that are drawn; None is all but the anchor. Modalities that are neither stay with their row.

    Raises:
        ValueError: no labels, an unknown modality, or the anchor among the others.
    """
    raise NotImplementedError
