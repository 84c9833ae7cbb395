r"""InfoNCE of many terms in O(N d) memory: one node of autograd that forms the gradient in its forward pass.

A term is a pair of sides with scores $S_{ij} = l_i \cdot r_j / \tau$. With the sums of their exponentials by row
$\rho_i$ and by column $\kappa_j$, weights $\alpha_i$, $\beta_j$ of rows and columns, and $M_{ij}$ of targets,

$$L = \sum_i \alpha_i \log \rho_i + \sum_j \beta_j \log \kappa_j - \sum_{ij} M_{ij} S_{ij}, \qquad
\frac{\partial L}{\partial S_{ij}} = e^{S_{ij}} (\alpha_i / \rho_i + \beta_j / \kappa_j) - M_{ij}$$

Masks, groups, label smoothing and the weights of terms are all in alpha, beta and M (`Targets`). The exponentials of
one term at a time are kept between the two passes over it (three matrix products a term); beyond `KEPT_BYTES` they are
computed again, tile by tile (four). exp2 is four times as fast as exp on a CPU: its factor goes on the left side.

Across processes each has its own rows of the left sides. `gather`: all rows of the right sides are gathered. `ring`:
they travel from process to process and bring back column sums and gradients. All this is in the forward pass.
"""

import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.distributed import gather_rows, largest, log_sum_over, rank, scatter_sums, travel, world_size
from confu.losses.targets import Job, Targets
from confu.products import products

KEPT_BYTES = 256 * 2**20
"""The exponentials of a term are kept for its gradient up to this size."""

KERNEL_DEVICES = ("cuda",)
"""Types of devices; on no other is Triton so much as imported."""

STACKED = 2**17
"""So many scores of several terms are computed at once; twice as many of one."""

_SMALLEST = 1e-25  # of a sum of exp scores: what vanished beside it is less than rounding
TILE = 2**20  # numbers of a tile of scores: 4 MiB, within the cache of most processors
LOG2E = math.log2(math.e)


def tiled_info_nce(
    job: Job, temperature: Float[Tensor, ""], vectors: Sequence[Float[Tensor, "_ dim"]]
) -> tuple[Float[Tensor, ""], Float[Tensor, " terms"]]:
    """The sum of all terms with its gradient, and each term without; of this process's rows of every side."""
    total, losses = _InfoNCE.apply(job, temperature, *vectors)  # pyright: ignore[reportGeneralTypeIssues]
    return total, losses


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, job: Job, temperature: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        losses, ctx.gradient = _computed(job, temperature, vectors)
        ctx.job = job
        ctx.save_for_backward(temperature, *vectors)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        temperature, *vectors = ctx.saved_tensors
        # The gradient is handed over, not copied; whoever goes back twice waits for it once more.
        gradient = _computed(ctx.job, temperature, vectors)[1] if ctx.gradient is None else ctx.gradient
        assert gradient is not None
        ctx.gradient = None
        scale = grads[0] / temperature  # every score is divided by it
        if ctx.job.spread:
            scale = scale * world_size()
        of_vectors = gradient.mul_(scale).split([len(v) for v in vectors])
        of_temperature = None
        if ctx.needs_input_grad[1]:  # each score is counted by two sides
            dots = [torch.linalg.vecdot(v, one).sum() for v, one in zip(vectors, of_vectors)]
            of_temperature = torch.stack(dots).sum() / (-2 * temperature)
        return None, of_temperature, *of_vectors


def _computed(
    job: Job, temperature: Tensor, vectors: Sequence[Tensor]
) -> tuple[Float[Tensor, " terms"], Float[Tensor, "all dim"] | None]:
    """The terms, and the gradient of all sides after one another, but for the division by the temperature."""
    inverse = 1 / temperature
    lengths = [len(v) for v in vectors]
    gradient = vectors[0].new_zeros(sum(lengths), vectors[0].shape[1]) if job.gradient else None
    gradients = [] if gradient is None else list(gradient.split(lengths))
    device = temperature.device.type
    autocast = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
    with autocast, products(vectors[0]):
        losses = _stacked(job, vectors, inverse, gradients)
        if losses is None:
            meet = _travelling if job.spread == "ring" else _gathered
            losses = meet(job, vectors, inverse, not _exp_fits(job, vectors, inverse), gradients)
    if job.spread and world_size() > 1:
        dist.all_reduce(losses)
    return losses.to(temperature.dtype), gradient


def _exp_fits(job: Job, vectors: Sequence[Tensor], inverse: Tensor) -> bool:
    """Whether exp of every score and of its negative, and sums of them, are normal numbers: |l r| <= |l| |r|."""
    longest = torch.stack([v.norm(dim=1).max() if len(v) else v.new_zeros(()) for v in vectors]).max()
    if job.spread:
        longest = largest(longest)
    most = math.log(torch.finfo(longest.dtype).max) - math.log(max(1, *(sum(side.sizes) for side in job.sides))) - 1
    return bool(longest.square() * inverse < most)  # not for NaN


def _stacked(
    job: Job, vectors: Sequence[Tensor], inverse: Tensor, gradients: list[Tensor]
) -> Float[Tensor, " terms"] | None:
    """A small batch in which nothing is missing, several terms at once, as calls cost more than numbers there.

    None if the batch is not of that kind, or if exp of a score did not fit.
    """
    n, count = len(vectors[0]), len(job.terms)
    if n * n > 2 * STACKED or job.spread or any(term.position is not None for term in job.terms):
        return None
    factor = LOG2E * float(inverse)
    directions = 1 if job.terms[0].columns is None else 2
    if job.weights is not None:
        weights = job.weights[:, None].expand(directions, count, n)
    else:
        pairs = [(term.rows, term.columns) for term in job.terms]
        weights = torch.stack([torch.stack([one for one in each if one is not None]) for each in pairs], dim=1)
    sums, goals = weights.new_empty(directions, count, n), weights.new_empty(count, n)
    together = min(count, max(1, STACKED // n**2))
    room = vectors[0].new_empty(2, together, n, n)
    for start in range(0, count, together):
        terms = job.terms[start : start + together]
        part = slice(start, start + len(terms))
        scores, shares = room[:, : len(terms)]
        for term, out in zip(terms, scores):
            torch.addmm(out, vectors[term.left], vectors[term.right].T, beta=0, alpha=factor, out=out)
        if job.weights is None:
            goal = torch.stack([_goal(term) for term in terms])
            torch.sum(torch.mul(goal, scores, out=shares), dim=2, out=goals[part])
        else:
            goal = job.weights[part, None] * directions
            torch.mul(goal, scores.diagonal(dim1=1, dim2=2), out=goals[part])
        for term, out in zip(terms, scores):
            if term.excluded:
                out.masked_fill_(_left_out(term.excluded, term.not_excluded), -torch.inf)
        scores.exp2_()
        for direction in range(directions):
            torch.sum(scores, dim=2 - direction, out=sums[direction, part])
        if gradients:
            share = weights[:, part] / sums[:, part]
            if directions == 2:
                scores.mul_(torch.add(share[0, :, :, None], share[1, :, None, :], out=shares))
            else:
                scores.mul_(share[0, :, :, None])
            (scores if job.weights is None else scores.diagonal(dim1=1, dim2=2)).sub_(goal)
            for term, one in zip(terms, scores):
                gradients[term.left].addmm_(one, vectors[term.right])
                gradients[term.right].addmm_(one.T, vectors[term.left])
    low, high = sums.aminmax()
    if not (float(low) > _SMALLEST and float(high) < math.inf):  # NaN too
        for gradient in gradients:
            gradient.zero_()
        return None
    return _wide((sums.log_().mul_(weights)).sum(dim=0) - goals / LOG2E).sum(dim=1)


def _goal(term: Targets) -> Float[Tensor, "n m"]:
    """M of a term in which nothing is missing."""
    goal = torch.diag(term.own)
    for same in term.same:
        alike = (same.left[:, None] == same.right).to(goal.dtype)
        goal.addcmul_(alike, same.of_left[:, None] + same.of_right)
    if term.every is not None:
        goal += term.every[0][:, None] + term.every[1]
    return goal


def _left_out(
    excluded: Sequence[tuple[Tensor, Tensor]], not_excluded: Sequence[tuple[Tensor, Tensor]], tile: slice = slice(None)
) -> Bool[Tensor, "n m"]:
    """Which columns are left out of the sums of a tile's rows (see `Targets`)."""
    mask, *more = (left[tile, None] == right for left, right in excluded)
    for one in more:
        mask |= one
    for left, right in not_excluded:
        mask &= left[tile, None] != right
    return mask


def _gathered(
    job: Job, vectors: Sequence[Tensor], inverse: Tensor, guarded: bool, gradients: list[Tensor]
) -> Float[Tensor, " terms"]:
    """Term after term, with all rows of the right sides at hand."""
    here = rank() if job.spread else 0
    sent = {term.right: vectors[term.right] for term in job.terms}
    of_sent = {side: gradients[side] for side in sent if job.gradient}
    if job.spread and world_size() > 1:
        sent = {side: gather_rows(rows, job.sides[side].sizes) for side, rows in sent.items()}
        of_sent = {side: torch.zeros_like(rows) for side, rows in sent.items() if job.gradient}
    losses = []
    for term in job.terms:
        right = sent[term.right]
        block = _Block(job, term, vectors[term.left], right, slice(0, len(right)), inverse, guarded, here)
        rows, columns, kept = block.log_sums()
        if job.spread and columns is not None:
            columns = log_sum_over(columns)
        into = (gradients[term.left], of_sent[term.right]) if job.gradient else None
        losses.append(block.weighted(rows, columns) - block.subtract_targets(into))
        if into is not None:
            block.add_softmax(rows, columns, kept, into)
    if job.spread and world_size() > 1 and job.gradient:
        for side, gradient in of_sent.items():
            gradients[side] += scatter_sums(gradient, job.sides[side].sizes)
    return torch.stack(losses)


def _travelling(
    job: Job, vectors: Sequence[Tensor], inverse: Tensor, guarded: bool, gradients: list[Tensor]
) -> Float[Tensor, " terms"]:
    """All terms with the right rows of one process after another: no process holds those of more than two."""
    sent = list(dict.fromkeys(term.right for term in job.terms))
    rows = [v.new_full((len(v),), -torch.inf) for v in (vectors[term.left] for term in job.terms)]
    targets = [_wide(inverse.new_zeros(())) for _ in job.terms]
    paired = job.terms[0].columns is not None

    def block(owner: int, term: Targets, rights: Sequence[Tensor]) -> _Block:
        columns = job.sides[term.right].part(owner)
        right = rights[sent.index(term.right)]
        return _Block(job, term, vectors[term.left], right, columns, inverse, guarded, rank())

    def first(owner: int, rights: list[Tensor], columns: list[Tensor]) -> None:
        for k, term in enumerate(job.terms):
            more, down, _ = block(owner, term, rights).log_sums(keep=False)
            rows[k] = torch.logaddexp(rows[k], more)
            if down is not None:
                columns[k].copy_(torch.logaddexp(columns[k], down))

    def second(owner: int, given: list[Tensor], of_rights: list[Tensor]) -> None:
        for k, term in enumerate(job.terms):
            one, columns = block(owner, term, given), given[len(sent) + k] if paired else None
            into = (gradients[term.left], of_rights[sent.index(term.right)]) if job.gradient else None
            targets[k] += one.subtract_targets(into)
            if into is not None:
                one.add_softmax(rows[k], columns, None, into)

    rights = [vectors[side] for side in sent]
    own = [vectors[term.right].new_full((len(vectors[term.right]),), -torch.inf) for term in job.terms if paired]
    own = travel(rights, own, first)
    of_rights = travel([*rights, *own], [torch.zeros_like(one) for one in rights] if job.gradient else [], second)
    for side, gradient in zip(sent, of_rights):
        gradients[side] += gradient
    losses = []
    for k, term in enumerate(job.terms):
        mine = block(rank(), term, rights)
        losses.append(mine.weighted(rows[k], own[k] if paired else None) - targets[k])
    return torch.stack(losses)


def _kernels(block: "_Block", bfloat16: bool) -> Any:
    """Triton's way to pass over a block on a GPU, where it was found to be faster."""
    left, right = block.left, block.right
    if left.device.type not in KERNEL_DEVICES or left.dtype != torch.float32 or not left.numel() or not right.numel():
        return None
    mode = os.environ.get("CONFU_TRITON", "auto")
    if mode not in ("0", "1", "auto"):
        raise ValueError(f"CONFU_TRITON must be '0', '1' or 'auto'; got {mode!r}")
    if mode == "0" or not (mode == "1" or _worth_it(left, right, bfloat16)):
        return None
    if importlib.util.find_spec("triton") is None:
        return None
    from confu.losses import triton_kernels  # compiles nothing yet, but exists on Linux only

    return triton_kernels.chosen(block, bfloat16, "tf32" if not bfloat16 and tf32_is_allowed() else "ieee")


def tf32_is_allowed() -> bool:
    """Whether torch may round what it multiplies on a GPU to 10 bits, by its own switch."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # newer torch refuses to read the old switch beside the new
    return precision == "tf32" if precision is not None else bool(matmul.allow_tf32)


def _worth_it(left: Tensor, right: Tensor, bfloat16: bool) -> bool:
    """Below, starting kernels costs more than what they do, and in float32 torch keeps the exponentials."""
    return len(left) * len(right) >= (2**20 if bfloat16 else 2**24)


class _Block:
    """The left rows of this process and some right rows."""

    def __init__(
        self,
        job: Job,
        term: Targets,
        left: Tensor,
        right: Tensor,
        columns: slice,
        inverse: Tensor,
        guarded: bool,
        here: int,
    ) -> None:
        sides = job.sides[term.left], job.sides[term.right]
        mine = sides[0].part(here)
        self.left, self.right, self.inverse, self.guarded = left, right, inverse, guarded
        self.keep = job.gradient
        self.row_weights = term.rows[mine]
        self.column_weights = None if term.columns is None else term.columns[columns]
        self.own_columns = sides[1].part(here) if columns == slice(0, sum(sides[1].sizes)) else slice(None)
        self.position, self.own = None, term.own[mine]
        if term.position is not None or job.spread:
            position = torch.arange(len(term.own), device=left.device) if term.position is None else term.position
            position = position[mine] - columns.start
            inside = (position >= 0) & (position < len(right)) & (position + columns.start >= 0)
            self.position, self.own = position.clamp(0, max(0, len(right) - 1)), self.own * inside
        self.same = [one.part(mine, columns) for one in term.same]
        self.every = None if term.every is None else (term.every[0][mine], term.every[1][columns])
        self.excluded = [(one[mine], other[columns]) for one, other in term.excluded]
        self.not_excluded = [(one[mine], other[columns]) for one, other in term.not_excluded]
        # The kernels leave out rows that are alike in one way, but for the own target: numbers and rows of both sides.
        self.apart = None
        if len(self.excluded) == len(self.not_excluded) == 1:
            self.apart = *self.excluded[0], sides[0].rows[mine], sides[1].rows[columns]
        several = bool(self.excluded) and self.apart is None
        self.kernels = None if guarded or several else _kernels(self, job.bfloat16)

    def log_sums(self, keep: bool = True) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Logarithms of the sums of exp scores by row and by column; and exp scores (scores if guarded), if kept."""
        if self.kernels is not None:
            return *self.kernels.log_sums(self), None
        n, m = len(self.left), len(self.right)
        columns = self.left.new_full((m,), -torch.inf if self.guarded else 0.0)
        keep = keep and self.keep and n * m * self.left.element_size() <= KEPT_BYTES
        rows, room = self.left.new_empty(n), self.left.new_empty(n if keep else self._height(), m)
        for tile in self._tiles():
            part = room[tile] if keep else room[: tile.stop - tile.start]
            self._scores(tile, part)
            if self.guarded:
                torch.logsumexp(part, dim=1, out=rows[tile])
                if self.column_weights is not None:
                    columns = torch.logaddexp(columns, part.logsumexp(dim=0))
            else:
                torch.sum(part.exp2_(), dim=1, out=rows[tile])
                if self.column_weights is not None:
                    columns += part.sum(dim=0)
        if not self.guarded:
            rows.log_()
            columns.log_()
        return rows, None if self.column_weights is None else columns, room if keep else None

    def add_softmax(
        self, rows: Tensor, columns: Tensor | None, kept: Tensor | None, into: tuple[Tensor, Tensor]
    ) -> None:
        """Add W R and W^T L of the weights W = exp S (alpha / rho + beta / kappa), tile by tile."""
        # What has no weight may have a sum over nothing, whose logarithm is -inf: taken as inf, it vanishes.
        rows = torch.where(self.row_weights > 0, rows, torch.inf)
        if columns is not None and self.column_weights is not None:
            columns = torch.where(self.column_weights > 0, columns, torch.inf)
        if self.kernels is not None:
            return self.kernels.add_softmax(self, rows, columns, into)
        of_left, of_right = into
        row_shares = (self.row_weights * (-rows).exp())[:, None]
        column_shares = None
        if columns is not None and self.column_weights is not None:
            column_shares = self.column_weights * (-columns).exp()
        weights = self.left.new_empty(self._height(), len(self.right))
        room = torch.empty_like(weights) if kept is None else weights
        for tile in self._tiles():
            part = weights[: tile.stop - tile.start]
            made = room[: tile.stop - tile.start] if kept is None else kept[tile]
            if kept is None:
                self._scores(tile, made)
            if self.guarded:
                torch.sub(made, rows[tile, None], out=part).exp_().mul_(self.row_weights[tile, None])
                if columns is not None and self.column_weights is not None:
                    part += made.sub_(columns).exp_().mul_(self.column_weights)
            else:
                made = made.exp2_() if kept is None else made
                if column_shares is None:
                    torch.mul(made, row_shares[tile], out=part)
                else:
                    torch.add(row_shares[tile], column_shares, out=part).mul_(made)
            of_left[tile].addmm_(part, self.right)
            of_right.addmm_(part.T, self.left[tile])

    def weighted(self, rows: Tensor, columns: Tensor | None) -> Tensor:
        """The weighted sum of the logarithms of this process's rows and own columns."""
        pairs = [(self.row_weights, rows)]
        if columns is not None and self.column_weights is not None:
            pairs.append((self.column_weights[self.own_columns], columns[self.own_columns]))
        # In float64: what is subtracted from it is nearly as large.
        return sum((_wide(torch.where(w > 0, w * logs, 0)).sum() for w, logs in pairs), _wide(rows.new_zeros(())))

    def subtract_targets(self, into: tuple[Tensor, Tensor] | None) -> Tensor:
        """The weighted sum of the targets' scores; its gradients are subtracted. All in O((n + m) d)."""
        left, right = self.left, self.right
        target = right if self.position is None else right[self.position] if len(right) else torch.zeros_like(left)
        own = self.own[:, None]
        value = _wide(torch.linalg.vecdot(left, target) * self.own).sum()
        if into is not None:
            into[0].addcmul_(own, target, value=-1)
            if self.position is None:
                into[1].addcmul_(own, left, value=-1)
            elif len(right):
                into[1].index_add_(0, self.position, own * left, alpha=-1)
        for same in self.same:
            # Sums of rows that are alike: of the left and right side, each as it is and weighted.
            at_left, at_right, u, v = same.left, same.right, same.of_left[:, None], same.of_right[:, None]
            nothing = left.new_zeros(same.count + 1, left.shape[1])
            lefts, weighted_lefts = nothing.index_add(0, at_left, left), nothing.index_add(0, at_left, u * left)
            rights, weighted_rights = nothing.index_add(0, at_right, right), nothing.index_add(0, at_right, v * right)
            value += _wide(weighted_lefts * rights + lefts * weighted_rights).sum()
            if into is not None:
                into[0].sub_(u * rights[at_left] + weighted_rights[at_left])
                into[1].sub_(weighted_lefts[at_right] + v * lefts[at_right])
        if self.every is not None:
            u, v = self.every
            lefts, weighted_left, rights, weighted_right = left.sum(dim=0), u @ left, right.sum(dim=0), v @ right
            value += _wide(weighted_left * rights + lefts * weighted_right).sum()
            if into is not None:
                into[0].sub_(u[:, None] * rights + weighted_right)
                into[1].sub_(weighted_left + v[:, None] * lefts)
        return value * self.inverse

    def _scores(self, tile: slice, out: Tensor) -> None:
        factor = self.inverse if self.guarded else self.inverse * LOG2E
        torch.mm(self.left[tile] * factor, self.right.T, out=out)
        if self.excluded:
            out.masked_fill_(_left_out(self.excluded, self.not_excluded, tile), -torch.inf)

    def _height(self) -> int:
        # Products of fewer than 256 rows (of TILE = 2^20) are slower.
        return max(1, min(len(self.left), max(TILE // max(1, len(self.right)), TILE >> 12)))

    def _tiles(self) -> Iterator[slice]:
        for start in range(0, len(self.left), self._height()):
            yield slice(start, min(start + self._height(), len(self.left)))


def _wide(numbers: Tensor) -> Tensor:
    """In float64, which Apple's GPUs lack."""
    return numbers if numbers.device.type == "mps" else numbers.double()
