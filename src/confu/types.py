"""The types that travel between the layers: a subset's name, a batch, and what a model makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.plan import Subset

Vectors = Float[Tensor, "batch dim"]
Mask = Bool[Tensor, " batch"]

SCORES = ("cosine", "multilinear", "volume", "area")
"""How a method compares embeddings: two at a time (CLIP, ConFu), or all at once (Symile, GRAM, TRIANGLE)."""

_FACTORS = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64  # odd, as int64
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_HASHED = 2**20  # numbers at a time


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

    def contents(self) -> Int[Tensor, " batch"]:
        """(batch,) a hash of each row's input, of 63 bits, equal for equal inputs on any process; -1 without one.

        Zeros at the end, and steps that a mask leaves out, are padding and change nothing.

        >>> Inputs(torch.tensor([[1.0], [2.0], [1.0]]), torch.tensor([0, 1, 2, -1])).contents()[[0, 2, 3]].diff().sign()
        tensor([ 0, -1])
        """
        values = self.values if isinstance(self.values, dict) else {"": self.values}
        if not bool(self.present.any()):
            return torch.full_like(self.rows, -1)
        mask = values.get("attention_mask", values.get("mask"))
        parts = []
        for _, part in sorted(values.items()):
            if mask is not None and part.shape[:2] == mask.shape:
                part = part.masked_fill(~mask.bool().view(*mask.shape, *[1] * (part.ndim - 2)), 0)
            parts.append(_row_hashes(part))
        return torch.where(self.present, joint_contents(parts)[self.rows.clamp_min(0)], -1)


@dataclass(frozen=True)
class Batch:
    """Inputs by modality name, with what is known of each row.

    Attributes:
        inputs: by modality name.
        ids: one per row.
        labels: (batch,) class indices, or None.
        groups: (batch,) what each row belongs to, or None; rows of one group mean the same thing, and are false
            negatives of one another. -1 is a row of no group.
        contents: by modality, (batch,) a number for each row's input, equal for equal inputs; -1 where it is not known.
            Of a modality that is not named it is found from the input itself, if a loss asks for it.
    """

    inputs: dict[str, Inputs]
    ids: list[str]
    labels: Int[Tensor, " batch"] | None = None
    groups: Int[Tensor, " batch"] | None = None
    contents: dict[str, Int[Tensor, " batch"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        groups = None if self.groups is None else self.groups.to(device)
        inputs = {name: inputs.to(device) for name, inputs in self.inputs.items()}
        contents = {name: numbers.to(device) for name, numbers in self.contents.items()}
        return Batch(inputs, self.ids, labels, groups, contents)

    def with_contents(self) -> "Batch":
        """The same batch with the contents of every modality."""
        hashes = {name: inputs.contents() for name, inputs in self.inputs.items() if name not in self.contents}
        return replace(self, contents={**self.contents, **hashes}) if hashes else self


@dataclass(frozen=True)
class Embeddings(Mapping[Subset, Tensor]):
    """What a model makes of a batch: unit vectors by subset, and which rows have which modality.

    A row of a subset that is not complete holds no embedding; its numbers mean nothing and `complete(subset)` is
    False there.

    Attributes:
        vectors: subset -> (batch, dim), each complete row of length one.
        present: modality -> (batch,) bool. A modality that is not listed is present in every row.
        groups: (batch,) as `Batch.groups`.
        contents: as `Batch.contents`.
    """

    vectors: dict[Subset, Vectors]
    present: dict[str, Mask] = field(default_factory=dict)
    groups: Int[Tensor, " batch"] | None = None
    contents: dict[str, Int[Tensor, " batch"]] = field(default_factory=dict)

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

    def content(self, subset: Subset) -> Int[Tensor, " batch"]:
        """(batch,) a number for each row's inputs, equal only where those of all these modalities are.

        -1 in rows of which one is not known.

        Raises:
            ValueError: if the contents of a modality are not given.
        """
        if missing := [name for name in subset if name not in self.contents]:
            raise ValueError(
                f"equal_inputs needs the contents of {', '.join(missing)}; got those of "
                f"{', '.join(self.contents) or 'none'}. Embed `batch.with_contents()`, or leave equal_inputs at "
                "'negatives'"
            )
        return joint_contents([self.contents[name] for name in subset])


def joint_contents(numbers: Sequence[Int[Tensor, " batch"]]) -> Int[Tensor, " batch"]:
    """One number for several of 0 or more: equal where all of them are, up to chance (1 in 2^63); -1 where one is -1.

    >>> first, second = torch.tensor([3, 3, 3, -1]), torch.tensor([1, 2, 1, 1])
    >>> joint = joint_contents([first, second])
    >>> bool(joint[0] == joint[2]), bool(joint[0] == joint[1]), int(joint[3])
    (True, False, -1)
    """
    if len(numbers) == 1:
        return numbers[0]
    joint = torch.zeros_like(numbers[0])
    for part in numbers:
        joint = joint * _FACTORS[0] + part
    return torch.where(torch.stack(list(numbers)).amin(dim=0) < 0, -1, joint & (2**63 - 1))


def _row_hashes(values: Tensor) -> Int[Tensor, " rows"]:
    """(rows,) of 0 or more; numbers that are zero at the end of a row change nothing."""
    flat = values.flatten(1) if values.ndim > 1 else values[:, None]
    if flat.is_floating_point():
        flat = flat.contiguous().view(_BITS[flat.element_size()])
    total = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
    width = max(1, _HASHED // max(1, len(flat)))
    places = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    for part, place in zip(flat.split(width, dim=1), places.split(width)):
        total += _mixed(part.long() * _mixed(place)).sum(dim=1)
    return total & (2**63 - 1)


def _mixed(numbers: Tensor) -> Tensor:
    """Of every number another, of 0 itself: high bits are brought to where a product does not lose them."""
    mixed = numbers * _FACTORS[0]
    return (mixed ^ (mixed >> 32)) * _FACTORS[1]
