"""InfoNCE between sets of embeddings, of which rows may be missing and may belong together."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.checks import check_finite, check_fraction, check_known, check_pair, check_rows, check_temperature
from confu.distributed import every_count, every_rank, gather_rows, world_size
from confu.losses.targets import Job, Side, Targets
from confu.losses.tiled import tiled_info_nce
from confu.types import Mask, Vectors

SAME_GROUP = ("negatives", "positives", "excluded")
"""What rows of one group are to one another: negatives as any others, further positives, or neither."""

SMALL = 128
"""Up to so many rows calls cost more than numbers, and all scores are formed at once."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class ContrastOptions:
    """How rows are contrasted; see `info_nce`.

    Attributes:
        symmetric: both directions.
        same_group: one of `SAME_GROUP`.
        label_smoothing: share of every target alike, in [0, 1].
        negatives: the rows are this process's part of a batch, and meet those of the others by `"gather"` (each process
            holds all rows) or `"ring"` (never more than those of two processes, for more messages and scores computed
            twice). None: there are no others.
    """

    symmetric: bool = True
    same_group: str = "negatives"
    label_smoothing: float = 0.0
    negatives: str | None = None

    def __post_init__(self) -> None:
        check_known("same_group", self.same_group, SAME_GROUP)
        check_fraction("label_smoothing", self.label_smoothing)
        if self.negatives is not None:
            check_known("negatives", self.negatives, ("gather", "ring"))


def info_nce(
    queries: Vectors,
    targets: Vectors,
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    present: tuple[Mask | None, Mask | None] = (None, None),
    groups: Int[Tensor, " batch"] | None = None,
    same_group: str = "negatives",
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""InfoNCE: each query must find its own target among those of the batch.

    $$\frac1N \sum_m -\log \frac{\exp(q_m \cdot t_m / \tau)}{\sum_n \exp(q_m \cdot t_n / \tau)}$$

    A row that has only one of the two sides has no positive, and is a negative for the others all the same: the mean is
    over the N rows that have both, the sum over every target that is there.

    Args:
        queries: (batch, dim), rows of length one.
        targets: (batch, dim), rows of length one; row m is the positive of query m, every other row a negative.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        symmetric: also let each target find its query, and take the mean of the two directions, as CLIP and the
            released code of ConFu do. False is one direction, Eq. 2 and 5 as printed.
        present: (batch,) bool each, the rows that have a query, and those that have a target. None for all.
        groups: (batch,) rows of one group mean the same thing; -1 is a row of no group.
        same_group: what other rows of its group are to a row: `"negatives"` as all others; `"positives"`, so that the
            loss is the mean of -log softmax over all of them (Khosla et al. 2020, L_out), and a row whose own target
            is missing learns from theirs; `"excluded"`, neither.
        label_smoothing: share of the probability that is given to every target alike, in [0, 1].

    Returns:
        A scalar in nats. log(rows) if nothing is learned; log(rows) minus it is a lower bound on the mutual
        information of the two sides (Eq. 11).

    Raises:
        ValueError: if the shapes differ, if fewer than two rows take part, or for a temperature that is not positive.

    Reference: van den Oord et al. 2018, arXiv 1807.03748; ConFu Eq. 2 and 5.

    >>> z = torch.eye(4)
    >>> round(info_nce(z, z, temperature=1.0).item(), 4)   # -log(e / (e + 3))
    0.7437
    """
    masks = {name: mask for name, mask in zip(("queries", "targets"), present) if mask is not None}
    options = ContrastOptions(symmetric, same_group, label_smoothing)
    sides = {"queries": queries, "targets": targets}
    return info_nce_terms(sides, [("queries", "targets")], temperature, present=masks, groups=groups, options=options)[
        0
    ]


def info_nce_terms(
    vectors: Mapping[Name, Vectors],
    terms: Sequence[tuple[Name, Name]],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    weights: Sequence[float] | None = None,
    present: Mapping[Name, Mask] | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    options: ContrastOptions = ContrastOptions(),
) -> tuple[Float[Tensor, ""], Float[Tensor, " terms"]]:
    """InfoNCE of many terms: their weighted sum, and each of them. What the arguments mean is said in `info_nce`.

    Few rows are contrasted by `info_nce_of_scores`, more in tiles (`confu.losses.tiled`).

    Args:
        vectors: by side, (batch, dim), rows of length one; if `options.negatives` is given, this process's, whose
            number may differ between processes, and be 0.
        terms: pairs of sides, queries first.
        temperature: of all terms.
        weights: of the terms in the sum; all 1 if None.
        present: by side, the rows that have it; a side that is not named has all.
        groups: as for `info_nce`; they count over all processes.
        options: how rows are contrasted.

    Returns:
        the sum, with the gradient of `confu.distributed`, and (terms,) in nats, without; the same on all processes.

    Raises:
        ValueError: fewer than two rows with both sides; NaN or infinity; a temperature that is not positive.

    >>> z = torch.eye(4)
    >>> total, losses = info_nce_terms({"a": z, "b": z}, [("a", "b"), ("b", "a")], 1.0, weights=[1, 2])
    >>> round(total.item(), 4), [round(loss, 4) for loss in losses.tolist()]
    (2.231, [0.7437, 0.7437])
    """
    check_temperature(temperature)
    for left, right in terms:
        check_pair(vectors[left], vectors[right])
    names = list(dict.fromkeys(side for term in terms for side in term))
    sides = [vectors[name] for name in names]
    masks = [(present or {}).get(name) for name in names]
    groups = None if options.same_group == "negatives" else groups
    numbers = [(names.index(left), names.index(right)) for left, right in terms]
    shares = [1.0] * len(terms) if weights is None else list(weights)
    dtype = torch.float32 if sides[0].dtype in (torch.bfloat16, torch.float16) else sides[0].dtype
    tau = torch.as_tensor(temperature, dtype=dtype, device=sides[0].device)
    plain = groups is None and not options.label_smoothing and not any(mask is not None for mask in masks)
    if options.negatives is None and len(sides[0]) <= SMALL and not plain:
        losses = _all_at_once(sides, numbers, tau, masks, groups, options)
        total, losses = losses @ losses.new_tensor(shares), losses.detach()
    else:
        total, losses = _in_tiles(sides, numbers, tau, shares, masks, groups, options)
    if not bool(losses.isfinite().all()):
        _raise_not_finite(dict(zip(names, zip(sides, masks))))
    return total, losses


def info_nce_of_scores(
    scores: Float[Tensor, "*terms batch batch"],
    *,
    symmetric: bool = True,
    present: tuple[Bool[Tensor, "*terms batch"], Bool[Tensor, "*terms batch"]] | None = None,
    same: Bool[Tensor, "batch batch"] | None = None,
    same_group: str = "positives",
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*terms"]:
    r"""InfoNCE of any scores between queries and targets, already divided by the temperature.

    Args:
        scores: (..., batch, batch), higher is more alike; row m is query m, column m its target.
        symmetric: also let each target find its query, and take the mean of the two directions.
        present: (..., batch) each, the queries and the targets that are there.
        same: which rows are of one group.
        same_group: `"positives"` or `"excluded"`: what they are to one another.
        label_smoothing: share of the probability that every target of the batch is given alike; the released code of
            GRAM and TRIANGLE, and that of ConFu for them, has 0.1.

    Returns:
        (...,) in nats.

    Raises:
        ValueError: for fewer than two rows that ask.

    >>> round(info_nce_of_scores(torch.zeros(4, 4)).item(), 4)   # nothing told apart: log 4
    1.3863
    """
    rows = scores.shape[-1]
    if present is None and same is None:
        check_rows(rows, 2, "InfoNCE, which needs a negative for each row,")
        own = torch.arange(rows, device=scores.device).expand(scores.shape[:-1]).flatten()
        each = F.cross_entropy(scores.flatten(0, -2), own, label_smoothing=label_smoothing, reduction="none")
        loss = each.view(scores.shape[:-1]).mean(dim=-1)
    else:
        own = torch.eye(rows, dtype=torch.bool, device=scores.device)
        asks, answers = present or (scores.new_ones(rows).bool(),) * 2
        candidates = answers[..., None, :].expand(scores.shape)
        positives = candidates & own
        if same is not None and same_group == "positives":
            positives = candidates & (same | own)
        elif same is not None:
            candidates = candidates & (~same | own)
        # Not -inf, whose product with a probability of zero is NaN.
        log_softmax = scores.masked_fill(~candidates, -1e30).log_softmax(dim=-1)
        goal = positives.to(scores.dtype) / positives.sum(dim=-1, keepdim=True).clamp(min=1)
        if label_smoothing:
            every = candidates.to(scores.dtype) / candidates.sum(dim=-1, keepdim=True).clamp(min=1)
            goal = (1 - label_smoothing) * goal + label_smoothing * every
        asks = asks & positives.any(dim=-1)
        counts = asks.sum(dim=-1)
        check_rows(int(counts.min()), 2, "InfoNCE, which needs a negative for each row,")
        loss = -torch.where(asks, (goal * log_softmax).sum(dim=-1), 0).sum(dim=-1) / counts
    if symmetric:
        turned = None if present is None else (present[1], present[0])
        back = info_nce_of_scores(
            scores.mT,
            symmetric=False,
            present=turned,
            same=same,
            same_group=same_group,
            label_smoothing=label_smoothing,
        )
        loss = (loss + back) / 2
    return loss


def _all_at_once(
    sides: Sequence[Tensor],
    terms: Sequence[tuple[int, int]],
    temperature: Tensor,
    masks: Sequence[Tensor | None],
    groups: Tensor | None,
    options: ContrastOptions,
) -> Float[Tensor, " terms"]:
    """Plain torch: the scores of all terms as one tensor."""
    lefts, rights = (torch.tensor(one, device=temperature.device) for one in zip(*terms))
    present = None
    if any(mask is not None for mask in masks):
        everyone = torch.ones(len(sides[0]), dtype=torch.bool, device=temperature.device)
        there = [everyone if mask is None else mask for mask in masks]
        sides = [torch.where(mask[:, None], one, 0) for one, mask in zip(sides, there)]  # it may be NaN
        present = torch.stack(there)[lefts], torch.stack(there)[rights]
    with torch.autocast(temperature.device.type, enabled=False):
        stacked = torch.stack(list(sides)).to(temperature.dtype)
        scores = (stacked / temperature)[lefts] @ stacked[rights].mT
        same = None if groups is None else (groups == groups[:, None]) & (groups >= 0)
        return info_nce_of_scores(
            scores,
            symmetric=options.symmetric,
            present=present,
            same=same,
            same_group=options.same_group,
            label_smoothing=options.label_smoothing,
        )


def _in_tiles(
    vectors: Sequence[Tensor],
    terms: Sequence[tuple[int, int]],
    temperature: Tensor,
    shares: Sequence[float],
    masks: Sequence[Tensor | None],
    groups: Tensor | None,
    options: ContrastOptions,
) -> tuple[Tensor, Tensor]:
    """By the tiled node, of the rows that are there on all processes."""
    spread, device = options.negatives is not None, temperature.device
    sizes = [size for (size,) in every_count([len(vectors[0])])] if spread else [len(vectors[0])]
    everyone = torch.ones(len(vectors[0]), dtype=torch.bool, device=device)
    there = None
    if spread or any(mask is not None for mask in masks):
        there = torch.stack([everyone if mask is None else mask for mask in masks], dim=1)
        there = gather_rows(there, sizes) if spread else there
    groups = gather_rows(groups, sizes) if spread and groups is not None else groups
    use = Counter(side for term in terms for side in term)
    if options.symmetric:  # the right sides are sent, so that they should be few
        terms = [(right, left) if use[left] > use[right] else (left, right) for left, right in terms]
    weights = None
    if there is None and groups is None and not options.label_smoothing:
        check_rows(sizes[0], 2, "InfoNCE, which needs a negative for each row,")
        sides = [Side(torch.empty(0, dtype=torch.int64), None, sizes)] * len(vectors)
        weights = temperature.new_tensor(shares) / (sizes[0] * (1 + options.symmetric))
        alike = [(one, (1 + options.symmetric) * one) for one in weights[:, None].expand(-1, sizes[0])]
        targets = [
            Targets(left, right, each, each if options.symmetric else None, None, own)
            for (left, right), (each, own) in zip(terms, alike)
        ]
    else:
        sides = _sides(len(vectors), there, groups, sizes, device)
        targets = [
            _targets(term, sides, share, options, there is None, temperature.dtype)
            for term, share in zip(terms, shares)
        ]
    grad = torch.is_grad_enabled() and (spread or temperature.requires_grad or any(v.requires_grad for v in vectors))
    parts = [one if mask is None else one[mask] for one, mask in zip(vectors, masks)]
    bfloat16 = all(one.dtype == torch.bfloat16 for one in parts)
    job = Job(sides, targets, options.same_group == "excluded", options.negatives, weights, grad, bfloat16)
    total, losses = tiled_info_nce(job, temperature, [one.to(temperature.dtype) for one in parts])
    return total, losses / losses.new_tensor(shares)


def _sides(
    count: int, there: Tensor | None, groups: Tensor | None, sizes: list[int], device: torch.device
) -> list[Side]:
    """Who has what on all processes; each process knows, as these are small numbers."""
    everyone = torch.arange(sum(sizes), device=device)
    if there is None:
        return [Side(everyone, groups, sizes)] * count
    sides = []
    for mask in there.unbind(dim=1):
        rows = everyone[mask]
        counts = [int(part.sum()) for part in mask.split(sizes)]
        sides.append(Side(rows, None if groups is None else groups[rows], counts))
    return sides


def _targets(
    term: tuple[int, int],
    sides: Sequence[Side],
    share: float,
    options: ContrastOptions,
    complete: bool,
    dtype: torch.dtype,
) -> Targets:
    """The weights of a term's rows, columns and targets (see `Targets`)."""
    (left, right), (lefts, rights) = term, (sides[number] for number in term)
    there = back = None
    if not complete:
        there, back = _positions(lefts.rows, rights.rows), _positions(rights.rows, lefts.rows)
    share = share / 2 if options.symmetric else share
    rows, own, same_rows, every_row = _one_way(lefts, rights, there, share, options, dtype)
    columns, same_columns, every_column = None, torch.zeros_like(rights.rows, dtype=dtype), None
    if options.symmetric:
        columns, own_columns, same_columns, every_column = _one_way(rights, lefts, back, share, options, dtype)
        own = own + (own_columns if there is None else torch.where(there >= 0, own_columns[there], 0))
    if every_row is not None and every_column is None:
        every_column = torch.zeros_like(same_columns)
    return Targets(
        left,
        right,
        rows,
        columns,
        there,
        own,
        None if lefts.groups is None else (same_rows, same_columns),
        None if every_row is None or every_column is None else (every_row, every_column),
    )


def _positions(rows: Tensor, others: Tensor) -> Tensor:
    """Where each row stands among others, ascending, -1 where it does not."""
    if not len(others):
        return torch.full_like(rows, -1)
    place = torch.searchsorted(others, rows).clamp(max=len(others) - 1)
    return torch.where(others[place] == rows, place, -1)


def _one_way(
    asking: Side, answering: Side, position: Tensor | None, share: float, options: ContrastOptions, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """For each row that asks its weight, and those of its own target, of each row of its group, and of every row."""
    has_own = torch.ones_like(asking.rows, dtype=torch.bool) if position is None else position >= 0
    count = has_own.long()
    grouped, mates = torch.zeros_like(has_own), torch.zeros_like(count)
    if asking.groups is not None and answering.groups is not None:
        grouped = asking.groups >= 0
        known, number = torch.cat([asking.groups, answering.groups]).unique(return_inverse=True)
        mates = torch.bincount(number[len(count) :], minlength=len(known))[number[: len(count)]]
    positives = options.same_group == "positives"
    if positives:
        count = torch.where(grouped, mates, count)
    asks = count > 0
    check_rows(int(asks.sum()), 2, "InfoNCE, which needs a negative for each row,")
    weight = asks.to(dtype)
    weight = weight * share / weight.sum()
    of_each = (1 - options.label_smoothing) * weight / count.clamp(min=1)
    own = torch.where(grouped, 0, of_each) if positives else of_each
    same = torch.where(grouped, of_each, 0) if positives else torch.zeros_like(of_each)
    if not options.label_smoothing:
        return weight, own, same, None
    others = torch.where(grouped & has_own & (not positives), mates - 1, 0)  # of its group, that are left out
    every = options.label_smoothing * weight / (len(answering.rows) - others).clamp(min=1)
    if not positives:
        same, own = torch.where(grouped, -every, 0), own + torch.where(grouped, every, 0)
    return weight, own, same, every


def _raise_not_finite(sides: Mapping[Name, tuple[Tensor, Tensor | None]]) -> None:
    """Name the embeddings that are not finite; on every process alike, as one that goes on alone would wait."""
    text = ""
    for name, (rows, mask) in sides.items():
        try:
            check_finite(f"the embeddings of {name}", rows if mask is None else rows[mask])
        except ValueError as error:
            text = text or str(error)
    if world_size() == 1:
        if text:
            raise ValueError(text)
        return
    if texts := [f"process {number}: {one}" for number, one in enumerate(every_rank(text)) if one]:
        raise ValueError("; ".join(texts))
