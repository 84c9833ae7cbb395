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
from confu.losses.targets import Alike, AlikeSum, Job, Same, Side, Targets, alike_sums
from confu.losses.tiled import tiled_info_nce
from confu.types import Mask, Vectors

SAME_GROUP = ("negatives", "positives", "excluded")
"""What rows that are the same are to one another: negatives as any others, further positives, or neither."""

SMALL = 128
"""Up to so many rows, of which some are missing, calls cost more than numbers: all scores are formed at once."""

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
        equal_inputs: one of `SAME_GROUP`, for rows whose query or whose target has the same content.
    """

    symmetric: bool = True
    same_group: str = "negatives"
    label_smoothing: float = 0.0
    negatives: str | None = None
    equal_inputs: str = "negatives"

    def __post_init__(self) -> None:
        check_known("same_group", self.same_group, SAME_GROUP)
        check_known("equal_inputs", self.equal_inputs, SAME_GROUP)
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
    contents: tuple[Int[Tensor, " batch"] | None, Int[Tensor, " batch"] | None] = (None, None),
    equal_inputs: str = "negatives",
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
        contents: (batch,) each, of the queries and of the targets: equal numbers for equal inputs, -1 where they are
            not known.
        equal_inputs: the same choice for two rows whose queries or whose targets have the same content. What is a
            positive by its group or by its content is one, also if the other excludes it.

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
    numbers = {name: each for name, each in zip(("queries", "targets"), contents) if each is not None}
    options = ContrastOptions(symmetric, same_group, label_smoothing, equal_inputs=equal_inputs)
    total, _ = info_nce_terms(
        {"queries": queries, "targets": targets},
        [("queries", "targets")],
        temperature,
        present=masks,
        groups=groups,
        contents=numbers,
        options=options,
    )
    return total


def info_nce_terms(
    vectors: Mapping[Name, Vectors],
    terms: Sequence[tuple[Name, Name]],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    weights: Sequence[float] | None = None,
    present: Mapping[Name, Mask] | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    contents: Mapping[Name, Int[Tensor, " batch"]] | None = None,
    options: ContrastOptions = ContrastOptions(),
) -> tuple[Float[Tensor, ""], Float[Tensor, " terms"]]:
    """InfoNCE of many terms: their weighted sum, and each of them. What the arguments mean is said in `info_nce`.

    Few rows with gaps are contrasted by `info_nce_of_scores`, all others by the one node of `confu.losses.tiled`.

    Args:
        vectors: by side, (batch, dim), rows of length one; if `options.negatives` is given, this process's, whose
            number may differ between processes, and be 0.
        terms: pairs of sides, queries first.
        temperature: of all terms.
        weights: of the terms in the sum; all 1 if None.
        present: by side, the rows that have it; a side that is not named has all.
        groups: as for `info_nce`; they count over all processes.
        contents: by side, as for `info_nce`; a side that is not named has no equal rows. All processes name the same.
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
    ids = [(contents or {}).get(name) if options.equal_inputs != "negatives" else None for name in names]
    ids = [each if each is None or mask is None else each.masked_fill(~mask, -1) for each, mask in zip(ids, masks)]
    ids.append(None if options.same_group == "negatives" else groups)
    sizes = None
    if options.negatives is not None:
        sizes = [size for (size,) in every_count([len(sides[0])])]
    alike = _alike(ids, sizes)
    numbers = [(names.index(left), names.index(right)) for left, right in terms]
    shares = [1.0] * len(terms) if weights is None else list(weights)
    dtype = torch.float32 if sides[0].dtype in (torch.bfloat16, torch.float16) else sides[0].dtype
    tau = torch.as_tensor(temperature, dtype=dtype, device=sides[0].device)
    if sizes is None and len(sides[0]) <= SMALL and any(mask is not None for mask in masks):
        losses = _all_at_once(sides, numbers, tau, masks, alike, options)
        total, losses = losses @ losses.new_tensor(shares), losses.detach()
    else:
        total, losses = _in_tiles(sides, numbers, tau, shares, masks, alike, sizes, options)
    if not bool(losses.isfinite().all()):
        _raise_not_finite(dict(zip(names, zip(sides, masks))))
    return total, losses


def info_nce_of_scores(
    scores: Float[Tensor, "*terms batch batch"],
    *,
    symmetric: bool = True,
    present: tuple[Bool[Tensor, "*terms batch"], Bool[Tensor, "*terms batch"]] | None = None,
    same: Bool[Tensor, "*terms batch batch"] | None = None,
    excluded: Bool[Tensor, "*terms batch batch"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*terms"]:
    r"""InfoNCE of any scores between queries and targets, already divided by the temperature.

    Args:
        scores: (..., batch, batch), higher is more alike; row m is query m, column m its target.
        symmetric: also let each target find its query, and take the mean of the two directions.
        present: (..., batch) each, the queries and the targets that are there.
        same: which rows are further positives of which; each is one of itself anyway.
        excluded: which rows are left out for which, but for positives.
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
    if present is None and same is None and excluded is None:
        check_rows(rows, 2, "InfoNCE, which needs a negative for each row,")
        own = torch.arange(rows, device=scores.device).expand(scores.shape[:-1]).flatten()
        each = F.cross_entropy(scores.flatten(0, -2), own, label_smoothing=label_smoothing, reduction="none")
        loss = each.view(scores.shape[:-1]).mean(dim=-1)
    else:
        own = torch.eye(rows, dtype=torch.bool, device=scores.device)
        asks, answers = present or (scores.new_ones(rows).bool(),) * 2
        candidates = answers[..., None, :].expand(scores.shape)
        positives = candidates & (own if same is None else same | own)
        if excluded is not None:
            candidates = positives | (candidates & ~excluded)
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
            same=None if same is None else same.mT,
            excluded=None if excluded is None else excluded.mT,
            label_smoothing=label_smoothing,
        )
        loss = (loss + back) / 2
    return loss


def _alike(ids: Sequence[Tensor | None], sizes: Sequence[int] | None) -> list[Alike | None]:
    """Which rows of all processes have equal ids, one by one; None where no two have."""
    given = [each for each in ids if each is not None]
    if given and sizes is not None:
        given = gather_rows(torch.stack(given, dim=1), sizes).unbind(dim=1)
    equivalences = map(Alike.of, given)
    alike = [None if each is None else next(equivalences) for each in ids]
    return [each if each is not None and each.has_pairs() else None for each in alike]


def _ways(
    term: tuple[int, int], alike: Sequence[Alike | None], options: ContrastOptions
) -> tuple[list[Alike], list[Alike]]:
    """In which ways rows are positives of one another for a term, and in which they are left out."""
    roles = [(alike[side], options.equal_inputs) for side in term] + [(alike[-1], options.same_group)]
    positives = [each for each, role in roles if each is not None and role == "positives"]
    return positives, [each for each, role in roles if each is not None and role == "excluded"]


def _all_at_once(
    sides: Sequence[Tensor],
    terms: Sequence[tuple[int, int]],
    temperature: Tensor,
    masks: Sequence[Tensor | None],
    alike: Sequence[Alike | None],
    options: ContrastOptions,
) -> Float[Tensor, " terms"]:
    """Plain torch: the scores of all terms as one tensor."""
    lefts, rights = (torch.tensor(one, device=temperature.device) for one in zip(*terms))
    rows, present = len(sides[0]), None
    if any(mask is not None for mask in masks):
        everyone = torch.ones(rows, dtype=torch.bool, device=temperature.device)
        there = [everyone if mask is None else mask for mask in masks]
        sides = [torch.where(mask[:, None], one, 0) for one, mask in zip(sides, there)]  # it may be NaN
        present = torch.stack(there)[lefts], torch.stack(there)[rights]
    same, excluded = None, None
    if any(one is not None for one in alike):
        nothing = torch.zeros(1, rows, rows, dtype=torch.bool, device=temperature.device)
        ways = [_ways(term, alike, options) for term in terms]
        same, excluded = (
            torch.stack([torch.cat([nothing, *(one.mask()[None] for one in each)]).any(dim=0) for each in kind])
            for kind in zip(*ways)
        )
    with torch.autocast(temperature.device.type, enabled=False):
        stacked = torch.stack(list(sides)).to(temperature.dtype)
        scores = (stacked / temperature)[lefts] @ stacked[rights].mT
        return info_nce_of_scores(
            scores,
            symmetric=options.symmetric,
            present=present,
            same=same,
            excluded=excluded,
            label_smoothing=options.label_smoothing,
        )


def _in_tiles(
    vectors: Sequence[Tensor],
    terms: Sequence[tuple[int, int]],
    temperature: Tensor,
    shares: Sequence[float],
    masks: Sequence[Tensor | None],
    alike: Sequence[Alike | None],
    counts: list[int] | None,
    options: ContrastOptions,
) -> tuple[Tensor, Tensor]:
    """By the tiled node, of the rows that are there on all processes, of which each has so many."""
    spread, device = counts is not None, temperature.device
    sizes = [len(vectors[0])] if counts is None else counts
    everyone = torch.ones(len(vectors[0]), dtype=torch.bool, device=device)
    there = None
    if spread or any(mask is not None for mask in masks):
        there = torch.stack([everyone if mask is None else mask for mask in masks], dim=1)
        there = gather_rows(there, sizes) if spread else there
    use = Counter(side for term in terms for side in term)
    if options.symmetric:  # the right sides are sent, so that they should be few
        terms = [(right, left) if use[left] > use[right] else (left, right) for left, right in terms]
    weights = None
    if there is None and not options.label_smoothing and all(one is None for one in alike):
        check_rows(sizes[0], 2, "InfoNCE, which needs a negative for each row,")
        sides = [Side(torch.empty(0, dtype=torch.int64), sizes)] * len(vectors)
        weights = temperature.new_tensor(shares) / (sizes[0] * (1 + options.symmetric))
        each = [(one, (1 + options.symmetric) * one) for one in weights[:, None].expand(-1, sizes[0])]
        targets = [
            Targets(left, right, one, one if options.symmetric else None, None, own)
            for (left, right), (one, own) in zip(terms, each)
        ]
    else:
        sides = _sides(len(vectors), there, sizes, device)
        targets = [
            _targets(term, sides, _ways(term, alike, options), share, options, there is None, temperature.dtype)
            for term, share in zip(terms, shares)
        ]
    grad = torch.is_grad_enabled() and (spread or temperature.requires_grad or any(v.requires_grad for v in vectors))
    parts = [one if mask is None else one[mask] for one, mask in zip(vectors, masks)]
    bfloat16 = all(one.dtype == torch.bfloat16 for one in parts)
    job = Job(sides, targets, options.negatives, weights, grad, bfloat16)
    total, losses = tiled_info_nce(job, temperature, [one.to(temperature.dtype) for one in parts])
    return total, losses / losses.new_tensor(shares)


def _sides(count: int, there: Tensor | None, sizes: list[int], device: torch.device) -> list[Side]:
    """Who has what on all processes; each process knows, as these are small numbers."""
    everyone = torch.arange(sum(sizes), device=device)
    if there is None:
        return [Side(everyone, sizes)] * count
    return [Side(everyone[mask], [int(part.sum()) for part in mask.split(sizes)]) for mask in there.unbind(dim=1)]


def _targets(
    term: tuple[int, int],
    sides: Sequence[Side],
    ways: tuple[list[Alike], list[Alike]],
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
    positives, excluded = ways
    # What is left out of the sums has weights of its own only for what smoothing gives every target.
    sums = alike_sums(positives, excluded if options.label_smoothing else [])
    rows, own, same_rows, every_row = _one_way(lefts, rights, there, share, sums, options, dtype)
    columns, same_columns, every_column = None, [torch.zeros_like(rights.rows, dtype=dtype)] * len(sums), None
    if options.symmetric and complete:  # the other way is the same
        columns, own, same_columns, every_column = rows, 2 * own, same_rows, every_row
    elif options.symmetric:
        columns, own_columns, same_columns, every_column = _one_way(rights, lefts, back, share, sums, options, dtype)
        assert there is not None
        own = own + torch.where(there >= 0, own_columns[there], 0)
    if every_row is not None and every_column is None:
        every_column = torch.zeros_like(rights.rows, dtype=dtype)
    return Targets(
        left,
        right,
        rows,
        columns,
        there,
        own,
        [
            Same(one.alike.buckets(lefts), one.alike.buckets(rights), one.alike.count, of_left, of_right)
            for one, of_left, of_right in zip(sums, same_rows, same_columns)
        ],
        None if every_row is None or every_column is None else (every_row, every_column),
        [one.between(lefts, rights) for one in excluded],
        [(lefts.rows.int(), rights.rows.int()), *(one.between(lefts, rights) for one in positives)] if excluded else [],
    )


def _positions(rows: Tensor, others: Tensor) -> Tensor:
    """Where each row stands among others, ascending, -1 where it does not."""
    if not len(others):
        return torch.full_like(rows, -1)
    place = torch.searchsorted(others, rows).clamp(max=len(others) - 1)
    return torch.where(others[place] == rows, place, -1)


def _one_way(
    asking: Side,
    answering: Side,
    position: Tensor | None,
    share: float,
    sums: Sequence[AlikeSum],
    options: ContrastOptions,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
    """For each row that asks its weight, and those of its own target, of the rows that are alike, and of every row."""
    has_own = torch.ones_like(asking.rows, dtype=torch.bool) if position is None else position >= 0
    # How many of the rows that answer are positives by being alike, and left out; and whether its own is among them.
    positives, excluded, by_positives, by_excluded = (torch.zeros_like(asking.rows) for _ in range(4))
    knowns = []
    for one in sums:
        number, others = one.alike.numbers[asking.rows], one.alike.numbers[answering.rows]
        known = number >= 0
        mates = torch.where(known, torch.bincount(others[others >= 0], minlength=one.alike.count + 1)[number], 0)
        positives, excluded = positives + one.positives * mates, excluded + one.excluded * mates
        by_positives, by_excluded = by_positives + one.positives * known, by_excluded + one.excluded * known
        knowns.append(known)
    count = torch.where(by_positives > 0, positives, has_own.long())
    asks = count > 0
    check_rows(int(asks.sum()), 2, "InfoNCE, which needs a negative for each row,")
    weight = asks.to(dtype)
    weight = weight * share / weight.sum()
    of_each = (1 - options.label_smoothing) * weight / count.clamp(min=1)
    own = torch.where(by_positives > 0, 0, of_each)
    same = [torch.where(known, one.positives * of_each, 0) for one, known in zip(sums, knowns)]
    if not options.label_smoothing:
        return weight, own, same, None
    others = excluded - torch.where(has_own, by_excluded, 0)
    every = options.label_smoothing * weight / (len(answering.rows) - others).clamp(min=1)
    same = [one + torch.where(known, -part.excluded * every, 0) for one, known, part in zip(same, knowns, sums)]
    return weight, own + by_excluded * every, same, every


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
