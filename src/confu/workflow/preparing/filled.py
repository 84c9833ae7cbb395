"""The baseline for gaps that every paper compares with: zeros where a modality is missing."""

import torch
from jaxtyping import Bool
from torch import Tensor

from confu._typing import Inputs
from confu.data import Column
from confu.data.columns import Indices
from confu.data.gaps import filled


class FilledColumn:
    """A column whose gaps hold zeros, and texts without a word, and which says that they are there.

    Args:
        column: with gaps; at least one row must have a value.

    >>> from confu.data import TensorColumn
    >>> column = FilledColumn(TensorColumn(torch.ones(2, 1), missing=torch.tensor([False, True])))
    >>> column.take(torch.tensor([1, 0]), "sensor").values.tolist(), column.present.tolist()
    ([[0.0], [1.0]], [True, True])
    """

    def __init__(self, column: Column) -> None:
        self.column = column
        self._some = column.present.nonzero()[:1, 0]
        if not len(self._some):
            raise ValueError("column: every row lacks this modality, so that nothing says what zeros should look like")

    def __len__(self) -> int:
        return len(self.column)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`: all rows."""
        return torch.ones(len(self), dtype=torch.bool)

    def check(self, modality: str) -> None:
        """See `Column`."""
        self.column.check(modality)

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        inputs = self.column.take(indices, modality)
        there = inputs.present
        if not bool(there.any()):  # a batch of gaps alone: the shape comes from another row
            inputs = Inputs(self.column.take(self._some, modality).values, torch.zeros_like(inputs.rows))
        return filled(inputs, there)
