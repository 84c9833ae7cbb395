"""The types that travel between the layers: a subset's name, a batch, and what a model makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.plan import Subset

Vectors = Float[Tensor, "batch dim"]
Mask = Bool[Tensor, " batch"]

SCORES = ("cosine", "multilinear", "volume", "area")
"""How a method compares embeddings: two at a time (CLIP, ConFu), or all at once (Symile, GRAM, TRIANGLE)."""


@dataclass(frozen=True)
class Inputs:
    """One modality of a batch: its distinct inputs, and which of them each row has.

    `rows` does two jobs with one mechanism: inputs that repeat in a batch (captions) are stored and encoded
    once, and a row without this modality holds -1.

    Attributes:
        values: (distinct, ...) a tensor, or a dict of tensors that is passed to the encoder as keywords.
        rows: (batch,) index into `values`, or -1 where the row lacks this modality.
    """

    values: Tensor | dict[str, Tensor]
    rows: Int[Tensor, " batch"]

    @property
    def present(self) -> Mask:
        """(batch,) bool: the rows that have the modality."""
        return self.rows >= 0

    def to(self, device: torch.device | str) -> "Inputs":
        """The same inputs on a device."""
        values = self.values
        moved = (
            {name: value.to(device, non_blocking=True) for name, value in values.items()}
            if isinstance(values, dict)
            else values.to(device, non_blocking=True)
        )
        return Inputs(moved, self.rows.to(device, non_blocking=True))


@dataclass(frozen=True)
class Batch:
    """Inputs by modality name, with what is known of each row.

    Attributes:
        inputs: by modality name.
        ids: one per row.
        labels: (batch,) class indices, or None.
        groups: (batch,) what each row belongs to, or None; rows of one group mean the same thing, and are false
            negatives of one another. -1 is a row of no group.
    """

    inputs: dict[str, Inputs]
    ids: list[str]
    labels: Int[Tensor, " batch"] | None = None
    groups: Int[Tensor, " batch"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        groups = None if self.groups is None else self.groups.to(device)
        return Batch({name: inputs.to(device) for name, inputs in self.inputs.items()}, self.ids, labels, groups)


@dataclass(frozen=True)
class Embeddings(Mapping[Subset, Tensor]):
    """What a model makes of a batch: unit vectors by subset, and which rows have which modality.

    A row of a subset that is not complete holds no embedding; its numbers mean nothing and `complete(subset)` is
    False there.

    Attributes:
        vectors: subset -> (batch, dim), each complete row of length one.
        present: modality -> (batch,) bool. A modality that is not listed is present in every row.
        groups: (batch,) as `Batch.groups`.
    """

    vectors: dict[Subset, Vectors]
    present: dict[str, Mask] = field(default_factory=dict)
    groups: Int[Tensor, " batch"] | None = None

    def __getitem__(self, subset: Subset | str) -> Tensor:
        return self.vectors[Subset.parse(subset)]

    def __iter__(self) -> Iterator[Subset]:
        return iter(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def complete(self, *subsets: Subset) -> Mask | None:
        """(batch,) bool: the rows that have every modality of these subsets; None if all rows have."""
        masks = [self.present[name] for subset in subsets for name in subset if name in self.present]
        return torch.stack(masks).all(dim=0) if masks else None
