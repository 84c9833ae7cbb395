"""The types that travel between the layers: a subset's name, a batch, and what a model makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Vectors = Float[Tensor, "batch dim"]
Mask = Bool[Tensor, " batch"]

SCORES = ("cosine", "multilinear", "volume", "area")
"""How a method compares embeddings: two at a time (CLIP, ConFu), or all at once (Symile, GRAM, TRIANGLE)."""


class Subset(frozenset[str]):
    """A non-empty set of modality names, e.g. `image+audio`.

    Two subsets are equal if they hold the same names; the order given is kept for printing only.

    >>> Subset("image", "audio") == Subset("audio", "image")
    True
    >>> print(Subset.parse("image+audio"))
    image+audio
    """

    names: tuple[str, ...]

    def __new__(cls, *names: str) -> "Subset":
        if not names or not all(names):
            raise ValueError(f"a subset needs at least one modality name, each non-empty; got {names!r}")
        if len(set(names)) != len(names):
            raise ValueError(f"a subset names each modality once; got {'+'.join(names)!r}")
        for name in names:
            if any(mark in name for mark in "+~.") or name != name.strip():
                raise ValueError(f"a modality's name may not hold '+', '~', '.' or outer spaces; got {name!r}")
        self = super().__new__(cls, names)
        self.names = names
        return self

    @classmethod
    def parse(cls, text: "str | Subset") -> "Subset":
        """Read `"image+audio"`; a Subset passes through."""
        if isinstance(text, Subset):
            return text
        return cls(*(part.strip() for part in text.split("+")))

    @property
    def is_fused(self) -> bool:
        """Whether it holds more than one modality, so that a fusion network makes its embedding."""
        return len(self) > 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __str__(self) -> str:
        return "+".join(self.names)

    def __repr__(self) -> str:
        return f"Subset({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Subset, self.names)


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
        return self.rows >= 0

    def to(self, device: torch.device | str) -> "Inputs":
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
