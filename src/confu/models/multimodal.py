"""The model of a plan: an encoder and a projection per modality, and fusion networks for the fused subsets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.fusion import OneSet, SetFusion, build_fusion, set_sums
from confu.nn.layers import FeatureNorm, unit
from confu.plan import Plan, Subset
from confu.types import SCORES, Batch, Embeddings, Inputs, Mask


class MultimodalModel(nn.Module):
    r"""Embeds every subset of a plan in one space (Eq. 1 and 4).

    $$h_i = f_i(x_i), \quad z_i = \frac{p_i(h_i)}{\|p_i(h_i)\|}, \quad z_{ij} = \frac{g_{ij}(h_i, h_j)}{\|\cdot\|}$$

    The fusion networks g read the encoders' features h, before the projections p: the features are wider, and what a
    fused term needs of them need not survive in z.

    Args:
        plan: says which fusion networks exist.
        encoders: by modality name; each a module with an `out_dim`, called with the modality's inputs (a dict of
            inputs as keywords), returning (rows, out_dim).
        dim: size of the common space.
        fusion: kind of fusion network, `"mlp"`, `"released"`, `"bilinear"` or `"weighted"`, one for each fused subset,
            or `"shared"`, one for all of them (see `confu.nn.fusion`).
        fusion_dim: width inside the fusion networks.
        mask_ratio: share of each modality's features dropped before fusion in training (Appendix B.3).
        fusion_depth: hidden layers of the fusion networks; 1 is the paper's two-layer MLP.
        score: how embeddings are compared by the method that trains this model: `"cosine"` (CLIP, ConFu),
            `"multilinear"` (Symile), `"volume"` (GRAM) or `"area"` (TRIANGLE). The model itself does not use it;
            it travels with the embeddings, so that they are evaluated in the way that they were trained for.
        fusion_dropout: share of the fusion networks' hidden layers that is dropped in training.
        feature_norm: normalise each encoder's features over the batch before projections and fusion read them. Features
            with one mean for all inputs give every pair nearly the same cosine, and a training starts slowly.
        stacking: fused subset -> weights of its fused vector and of the vectors of its modalities, whose weighted sum
            is embedded in evaluation mode in place of the fused vector alone; see `confu.training.stacking`.
        modalities: build the towers of these only, for a model that is used and not trained; None for all of the plan.

    Attributes:
        subsets: what it embeds: the subsets of the plan whose modalities it has.

    Raises:
        ValueError: if the encoders are not those of the modalities, one has no `out_dim`, the score is unknown, or
            no subset of the plan can be embedded with these modalities.
    """

    def __init__(
        self,
        plan: Plan,
        encoders: Mapping[str, nn.Module],
        dim: int = 256,
        fusion: str = "mlp",
        fusion_dim: int = 512,
        mask_ratio: float = 0.0,
        fusion_depth: int = 1,
        score: str = "cosine",
        modalities: Sequence[str] | None = None,
        fusion_dropout: float = 0.0,
        feature_norm: bool = False,
        stacking: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        check_known("score", score, SCORES)
        for name in modalities or ():
            check_known("modality", name, plan.modalities)
        held = [name for name in plan.modalities if modalities is None or name in modalities]
        widths = check_encoders(encoders, held)
        self.plan = plan
        self.subsets = tuple(subset for subset in plan.subsets if subset <= set(held))
        if not self.subsets:
            raise ValueError(
                f"modalities {held} make no subset of this plan, which embeds {', '.join(map(str, plan.subsets))}"
            )
        self.dim = dim
        self.score = score
        self._widths = widths
        self.settings: dict[str, Any] = {"dim": dim, "fusion": fusion, "fusion_dim": fusion_dim}
        self.settings |= {"mask_ratio": mask_ratio, "fusion_depth": fusion_depth, "score": score}
        if fusion_dropout:  # models without it keep the settings, and so the fingerprint, that they have
            self.settings["fusion_dropout"] = fusion_dropout
        if feature_norm:
            self.settings["feature_norm"] = True
        if stacking:
            self.settings["stacking"] = check_stacking(plan, stacking)
        self.encoders = nn.ModuleDict({name: encoders[name] for name in held})
        self.norms = nn.ModuleDict(
            {name: FeatureNorm(width) if feature_norm else nn.Identity() for name, width in widths.items()}
        )
        self.projections = nn.ModuleDict(
            {name: nn.Linear(widths[name], dim) for subset in self.subsets if not subset.is_fused for name in subset}
        )
        fused = [subset for subset in self.subsets if subset.is_fused]
        sizes = (dim, fusion_dim, mask_ratio, fusion_depth, fusion_dropout)
        if fusion == "shared" and fused:
            used = {name: width for name, width in widths.items() if any(name in subset for subset in fused)}
            self.fusers: Any = SharedFusers(SetFusion(used, *sizes), fused)
        else:
            networks = {str(s): build_fusion(fusion, [widths[name] for name in s], *sizes) for s in fused}
            self.fusers = nn.ModuleDict(networks)

    def stacking(self, subset: Subset) -> list[float]:
        """Weights of a fused subset's vector and of those of its modalities; empty if it stands alone."""
        return self.settings.get("stacking", {}).get(str(subset), [])

    def supports(self, subset: Subset | str) -> bool:
        """Whether this model embeds the subset: whether it stands in a term of the plan and its towers are there."""
        return Subset.parse(subset) in self.subsets

    def forward(self, batch: Batch, subsets: Iterable[Subset | str] | None = None) -> Embeddings:
        """Embed a batch.

        Args:
            batch: inputs by modality; only the modalities of the subsets asked for are read.
            subsets: which to embed; None for every subset that it can embed.

        Returns:
            Embeddings: subset -> (batch, dim), float32, unit length in every row that has the whole subset.

        Raises:
            ValueError: if the model has no such subset, or the batch lacks a modality altogether.
        """
        requested = self.subsets if subsets is None else tuple(self.plan.subset(subset) for subset in subsets)
        for subset in requested:
            if missing := [name for name in subset if name not in self.encoders]:
                raise ValueError(
                    f"this model has no tower for {', '.join(missing)}, and cannot embed {subset}; load it with "
                    f"modalities={[name for name in self.plan.modalities if name in {*self.encoders, *subset}]}"
                )
            if not self.supports(subset):
                raise ValueError(
                    f"this model was not trained to embed {subset}; it embeds "
                    f"{', '.join(map(str, self.plan.subsets))}. Add a term with {subset} to the plan and train again."
                )
        names = [name for name in self.plan.modalities if any(name in subset for subset in requested)]
        for name in names:
            if name not in batch.inputs:
                raise ValueError(
                    f"the batch has no inputs for {name!r}, only for {', '.join(batch.inputs)}; give them, or ask for "
                    "subsets without it"
                )
        features = {name: self.encode(name, batch.inputs[name]) for name in names}
        rows = {name: batch.inputs[name].rows for name in names}
        present = {name: mask for name in names if not bool((mask := batch.inputs[name].present).all())}
        fused = self._fuse([subset for subset in requested if subset.is_fused], features, rows, present)
        singles: dict[str, Tensor] = {}

        def single(name: str) -> Tensor:
            if name not in singles:
                singles[name] = spread(unit(self.projections[name](features[name])), rows[name], present.get(name))
            return singles[name]

        vectors = {}
        for subset in requested:  # in the order of the request
            if not subset.is_fused:
                vectors[subset] = single(*subset)
            elif (weights := self.stacking(subset)) and not self.training:
                vectors[subset] = stacked(weights, [fused[subset], *map(single, subset)])
                if (complete := Embeddings({}, present).complete(subset)) is not None:
                    vectors[subset] = vectors[subset] * complete[:, None]
            else:
                vectors[subset] = fused[subset]
        return Embeddings(vectors, present, batch.groups, batch.contents)

    def _fuse(
        self,
        subsets: Sequence[Subset],
        features: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        present: Mapping[str, Mask],
    ) -> dict[Subset, Tensor]:
        """Unit vectors (batch, dim) of fused subsets; rows that are not complete hold zeros."""
        shared: Any = getattr(self.fusers, "shared", None)  # one `SetFusion`, or a network for each subset
        totals: list[Any] = [None] * len(subsets)
        if shared is not None:
            parts = {}
            for name in {name: None for subset in subsets for name in subset}:
                if shared.training and shared.mask.ratio:  # each row draws its own mask, also where an input repeats
                    parts[name] = shared.mapped(name, spread(features[name], rows[name], present.get(name)))
                else:
                    parts[name] = spread(shared.mapped(name, features[name]), rows[name], present.get(name))
            totals = set_sums(parts, [subset.names for subset in subsets])
        vectors = {}
        for subset, total in zip(subsets, totals):
            complete = Embeddings({}, dict(present)).complete(subset)
            where = None if complete is None else complete.nonzero().squeeze(1)
            if shared is not None:
                fused = unit(shared.fused(total if where is None else total[where], len(subset)))
            else:
                picked = {name: rows[name] if where is None else rows[name][where] for name in subset}
                fused = unit(self.fusers[str(subset)]([features[name][picked[name]] for name in subset]))
            if complete is not None and where is not None:
                fused = fused.new_zeros(len(complete), fused.shape[1]).index_copy(0, where, fused)
            vectors[subset] = fused
        return vectors

    def encode(self, name: str, inputs: Inputs) -> Tensor:
        """Features h of a modality's distinct inputs, (distinct, out_dim)."""
        encoder = self.encoders[name]
        if not bool(inputs.present.any()):  # an encoder need not stand an empty batch
            return next(self.parameters()).new_zeros(0, self._widths[name])
        features = encoder(**inputs.values) if isinstance(inputs.values, dict) else encoder(inputs.values)
        return self.norms[name](features)


def check_encoders(encoders: Mapping[str, nn.Module], modalities: Iterable[str]) -> dict[str, int]:
    """Check that every modality has an encoder that says its size, and return the sizes by name."""
    for name in encoders:
        check_known("encoder of modality", name, modalities)
    widths = {}
    for name in modalities:
        if name not in encoders:
            raise ValueError(f"the plan has the modality {name!r} but no encoder was given for it")
        if hasattr(nn.ModuleDict(), name):  # torch keeps modules as attributes, and fails late and without saying why
            raise ValueError(f"the modality {name!r} has a name that torch uses itself; rename it, e.g. '{name}_input'")
        width = getattr(encoders[name], "out_dim", None)
        if not isinstance(width, int):
            raise ValueError(
                f"the encoder of {name!r} ({type(encoders[name]).__name__}) must say the size of its features in an "
                f"attribute `out_dim` (an int); got {width!r}"
            )
        widths[name] = width
    return widths


def check_stacking(plan: Plan, stacking: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Check that each subset is fused, and that it and each of its modalities have an embedding and a weight."""
    checked = {}
    for name, weights in stacking.items():
        subset = plan.subset(name)
        if not subset.is_fused or any(Subset(part) not in plan.subsets for part in subset):
            raise ValueError(
                f"stacking weighs a fused subset with its modalities, each of which is a side of a term; got {subset} "
                f"with the plan's {', '.join(map(str, plan.subsets))}"
            )
        if len(weights) != 1 + len(subset):
            raise ValueError(
                f"stacking of {subset} takes {1 + len(subset)} weights, of it and of each modality; got {weights}"
            )
        checked[str(subset)] = list(weights)
    return checked


class SharedFusers(nn.Module):
    """One `SetFusion` of all modalities that some fused subset holds, read like a dict of a network for each."""

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


def stacked(weights: Sequence[float], vectors: Sequence[Tensor]) -> Tensor:
    """Unit vectors (batch, dim) along the weighted sum of a fused subset's and its modalities' unit vectors."""
    return unit(reduce(torch.add, (weight * one for weight, one in zip(weights, vectors, strict=True))))


def spread(vectors: Tensor, rows: Tensor, complete: Mask | None) -> Tensor:
    """Give every row of the batch the vector of its distinct input; rows without one hold zeros, and are masked."""
    if complete is None:
        return vectors[rows]
    where = complete.nonzero().squeeze(1)
    return vectors.new_zeros(len(rows), vectors.shape[1]).index_copy(0, where, vectors[rows[where]])
