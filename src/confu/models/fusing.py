"""The fused embeddings of a batch: by a network for each subset, or by one that all subsets share."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from confu.nn.fusion import OneSet, SetFusion, build_fusion, set_sums
from confu.plan import Subset
from confu.types import Embeddings, Mask


class SharedFusers(nn.Module):
    """One `SetFusion` that stands for a network of each subset, and is read like a dict of them.

    Args:
        shared: of all modalities that some subset holds.
        subsets: the fused ones.
    """

    def __init__(self, shared: SetFusion, subsets: Sequence[Subset]) -> None:
        super().__init__()
        self.shared = shared
        self.subsets = {str(subset): subset for subset in subsets}

    def __getitem__(self, name: str) -> OneSet:
        """The network as that of one subset; it holds no weights of its own."""
        return OneSet(self.shared, self.subsets[name].names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.subsets)

    def __len__(self) -> int:
        return len(self.subsets)


def build_fusers(
    kind: str,
    subsets: Sequence[Subset],
    widths: Mapping[str, int],
    dim: int,
    hidden_dim: int,
    mask_ratio: float,
    depth: int,
) -> nn.ModuleDict | SharedFusers:
    """The fusion networks of these subsets, by their names; see `confu.nn.fusion.build_fusion`.

    Args:
        kind: of fusion network; `"shared"` is one for all subsets.
        subsets: the fused ones.
        widths: sizes of the features by modality.
        dim: size of the output.
        hidden_dim: width inside the networks.
        mask_ratio: share of the features that is dropped in training.
        depth: hidden layers.
    """
    if kind == "shared" and subsets:
        used = {name: width for name, width in widths.items() if any(name in subset for subset in subsets)}
        return SharedFusers(SetFusion(used, dim, hidden_dim, mask_ratio, depth), subsets)
    return nn.ModuleDict(
        {
            str(subset): build_fusion(kind, [widths[name] for name in subset], dim, hidden_dim, mask_ratio, depth)
            for subset in subsets
        }
    )


def fuse(
    fusers: nn.ModuleDict | SharedFusers,
    subsets: Sequence[Subset],
    features: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    present: Mapping[str, Mask],
) -> dict[Subset, Tensor]:
    """Unit vectors (batch, dim) of each subset; rows that are not complete hold zeros.

    Args:
        fusers: see `build_fusers`.
        subsets: which.
        features: by modality, (distinct, width), one row for each distinct input.
        rows: by modality, (batch,) index into them, -1 where a row lacks it.
        present: by modality, which rows have it; one that is not listed is in every row.
    """
    if not isinstance(fusers, SharedFusers):
        return {subset: _by_its_own(fusers[str(subset)], subset, features, rows, present) for subset in subsets}
    shared, names = fusers.shared, {name: None for subset in subsets for name in subset}
    parts = {name: _part(shared, name, features[name], rows[name], present.get(name)) for name in names}
    fused = {}
    for subset, total in zip(subsets, set_sums(parts, [subset.names for subset in subsets])):
        where = _where(subset, present)
        if where is None:
            fused[subset] = unit(shared.fused(total, len(subset)))
        else:
            found = unit(shared.fused(total[where], len(subset)))
            fused[subset] = found.new_zeros(len(total), found.shape[1]).index_copy(0, where, found)
    return fused


def _by_its_own(
    fuser: nn.Module,
    subset: Subset,
    features: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    present: Mapping[str, Mask],
) -> Tensor:
    where = _where(subset, present)
    picked = [features[name][rows[name] if where is None else rows[name][where]] for name in subset]
    fused = unit(fuser(picked))
    if where is None:
        return fused
    return fused.new_zeros(len(rows[subset.names[0]]), fused.shape[1]).index_copy(0, where, fused)


def _part(shared: SetFusion, name: str, features: Tensor, rows: Tensor, present: Mask | None) -> Tensor:
    """A modality's part of every sum, (batch, hidden); zeros where a row lacks it."""
    if shared.training and shared.mask.ratio:  # each row draws a mask of its own, also where an input repeats
        return shared.mapped(name, spread(features, rows, present))
    return spread(shared.mapped(name, features), rows, present)


def _where(subset: Subset, present: Mapping[str, Mask]) -> Tensor | None:
    complete = Embeddings({}, dict(present)).complete(subset)
    return None if complete is None else complete.nonzero().squeeze(1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors divided by their lengths, in float32 or better."""
    # Lengths are taken in float32 also under bfloat16 autocast: 8 bits of mantissa would leave 0.4 % of error.
    return F.normalize(vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors, dim=-1)


def spread(vectors: Tensor, rows: Tensor, complete: Mask | None) -> Tensor:
    """Give every row of the batch the vector of its distinct input; rows without one hold zeros, and are masked."""
    if complete is None:
        return vectors[rows]
    where = complete.nonzero().squeeze(1)
    return vectors.new_zeros(len(rows), vectors.shape[1]).index_copy(0, where, vectors[rows[where]])
