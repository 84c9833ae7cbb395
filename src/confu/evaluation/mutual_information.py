r"""What modalities tell of one another, in nats: InfoNCE bounds on mutual information from stored embeddings.

A score s of queries with targets and a gallery of N rows bound the information of the two (Eq. 11 and 12):

$$I(X; Y) \ge I_N = \ln N + \frac{1}{2N} \sum_i \left(
  \ln \frac{e^{w s_{ii}}}{\sum_j e^{w s_{ij}}} + \ln \frac{e^{w s_{ii}}}{\sum_j e^{w s_{ji}}} \right)$$

This holds for every scale w (an inverse temperature); it is chosen on other rows, so that I_N is large: a model that is
too sure of itself tells no less for that. I_N cannot exceed ln N, its cap, and with the best score it is too low by
about a / N (a is half the chi-squared divergence of pairs from rows combined at random), which 2 I_N - I_{N/2} takes
away. Below half the cap that leaves a few percent; above it estimates stay too low.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.bootstrap import bootstrap_interval
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import mean_name, pair_scores, query_vectors, sides, why_not
from confu.plan import Subset

FEW_ROWS = 50
_LEAST = 4  # rows: halves of a gallery need a negative
_FIT_ROWS = 600
_HALVINGS = 2  # random ways to part a gallery into halves
_SCALES = (2.0**-4, 2.0**16)  # from a score that hardly counts to one that decides alone

Interval = tuple[float, float, float]
"""A value, and the low and the high end of its confidence interval."""


@dataclass(frozen=True)
class Information:
    """Mutual information of a query and a target, in nats: each tells as much of the other.

    Attributes:
        query, target: subsets, as text; `mean(image, audio)` where embeddings are averaged.
        nats: extrapolated to a gallery without end. It estimates a lower bound, and may lie above the truth by chance.
        low, high: ends of the bootstrap interval of `nats` over rows; it does not tell of other trainings.
        bound: I_N of the gallery.
        gallery: N, the rows among which each pair is sought.
        rows: that are complete for both.
    """

    query: str
    target: str
    nats: float
    low: float
    high: float
    bound: float
    gallery: int
    rows: int

    @property
    def cap(self) -> float:
        """ln N, the most that the gallery can show."""
        return math.log(self.gallery)

    @property
    def at_least(self) -> bool:
        """Whether it lies above half the cap, where it is too low."""
        return self.nats > self.cap / 2


@dataclass(frozen=True)
class FusedInformation:
    """What several modalities together tell of another one, beside what each of them does, on the same rows.

    Attributes:
        together: of the fused embedding; of the mean of the embeddings where there is none.
        parts: of each modality.
        mean: of the mean of the embeddings; None if the table does not compare cosines.
        best: the part that tells most.
        gain: together minus the best part.
        co_information: the sum of two parts minus together: what both tell alike minus what only both together tell.
            None for more parts.
    """

    together: Information
    parts: dict[str, Information]
    mean: Information | None
    best: str
    gain: Interval
    co_information: Interval | None

    @property
    def alike(self) -> tuple[float, float] | None:
        """The least and the most that both parts tell alike (redundancy), in nats; None for more than two parts."""
        most = max(0.0, min(part.nats for part in self.parts.values()))
        return None if self.co_information is None else (min(most, max(0.0, self.co_information[0])), most)

    @property
    def only_together(self) -> tuple[float, float] | None:
        """The least and the most that only both parts together tell (synergy), in nats; None for more than two."""
        most = max(0.0, self.gain[0])
        return None if self.co_information is None else (min(most, max(0.0, -self.co_information[0])), most)

    def sentence(self) -> str:
        """What fusion is worth, in words."""
        together, best, (value, low, high) = self.together, self.parts[self.best], self.gain
        *first, last = self.parts
        names = f"{', '.join(first)} and {last}"
        who = (
            f"the mean of {names} tells"
            if together.query == mean_name(Subset(*self.parts))
            else f"{names} together tell"
        )
        than = f"the {'better of the two' if len(self.parts) == 2 else 'best of them'} ({self.best}, {best.nats:.2f})"
        if low <= 0 <= high:
            text = f"{who} as much of {together.target} as {than}: the difference is {low:+.2f} to {high:+.2f} nats"
        else:
            least = "at least " if value > 0 and together.at_least and not best.at_least else ""
            more = f"{least}{abs(value):.2f} nats {'more' if value > 0 else 'less'}"
            ends = sorted((abs(low), abs(high)))
            text = f"{who} {more} of {together.target} than {than}; 95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
        if best.at_least:
            text += f". Both are above half of what {together.gallery:,} rows can show: such differences are too small"
        return f"{text}."


@dataclass(frozen=True)
class InformationAccount:
    """What each modality tells of each other, and what several together tell of another one; see `information`.

    Attributes:
        pairs: of single modalities; and of several with one, where the parts cannot ask alone.
        fused: of two or three modalities with another one.
        notes: what a reader must know.
        confidence: of the intervals.
    """

    pairs: list[Information] = field(default_factory=list)
    fused: list[FusedInformation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    confidence: float = 0.95

    def sentences(self) -> list[str]:
        """What fusion is worth, a sentence for each fused query, and the notes."""
        return [*(one.sentence() for one in self.fused), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the sentences."""

        def plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
            return {name: list(value) if isinstance(value, tuple) else value for name, value in items}

        return {**asdict(self, dict_factory=plain), "sentences": self.sentences()}

    def to_rows(self) -> list[ReportRow]:
        """Rows of `information`, `information gain` and `co-information`, in nats."""
        numbers: list[tuple[str, Information, Interval, str]] = []
        means = [one.mean for one in self.fused if one.mean is not None and one.mean != one.together]
        for one in (*self.pairs, *(fused.together for fused in self.fused), *means):
            note = f"nats; bound {one.bound:.4g}, at most ln {one.gallery} = {one.cap:.4g}"
            numbers.append(("information", one, (one.nats, one.low, one.high), note))
        for fused in self.fused:
            numbers.append(("information gain", fused.together, fused.gain, f"nats; over {fused.best}"))
            if fused.co_information is not None:
                numbers.append(("co-information", fused.together, fused.co_information, "nats"))
        return [
            ReportRow(metric, of.query, of.target, value, of.rows, "", 0, note, low, high, self.confidence)
            for metric, of, (value, low, high), note in numbers
        ]


def information(
    table: EmbeddingTable,
    fit: EmbeddingTable | None = None,
    confidence: float = 0.95,
    max_gallery: int = 2048,
    seed: int = 0,
) -> InformationAccount:
    """What each modality tells of each other one, and what two or three together tell of another one, in nats.

    Args:
        table: of test rows; its method's score is taken for what it tells.
        fit: of other rows, e.g. of validation, on which the scale of the scores is chosen. Without it, or where fewer
            than 50 of them are complete, it is the table's own: one number fitted to n rows, which raises what they
            tell by about 1 / (2 n).
        confidence: of the bootstrap intervals over rows.
        max_gallery: more rows than these are parted at random into galleries of one size.
        seed: of the galleries.

    Returns:
        the account. Queries with fewer than 4 complete rows are left out; a note says so, and where they are fewer
        than 50.

    Raises:
        ValueError: if an embedding is not finite, or `max_gallery` is less than 8.

    Example:
        >>> codes = torch.nn.functional.normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)))
        >>> table = EmbeddingTable([f"{i}" for i in range(200)], {Subset("a"): codes, Subset("b"): codes})
        >>> (pair,) = information(table).pairs
        >>> pair.query, pair.target, round(pair.bound, 1), round(pair.cap, 1)
        ('a', 'b', 5.3, 5.3)
    """
    if max_gallery < 2 * _LEAST:  # so that none of the parts of a larger table has fewer than 4 rows
        raise ValueError(f"max_gallery must be at least {2 * _LEAST} rows, better 1000 or more; got {max_gallery}")
    measure = _Measure(table, table if fit is None else fit, confidence, max_gallery, seed)
    account, few = InformationAccount(confidence=confidence), {}
    for query, target in _asked(table):
        alone = all(why_not(table, Subset(name), target) is None for name in query)
        if not alone and why_not(table, query, target) is not None:
            continue
        rows = query_vectors(table, query, target)[0]
        if len(rows) < FEW_ROWS:
            few[f"{query} -> {target}"] = len(rows)
        if len(rows) < _LEAST:
            continue
        if query.is_fused and alone:
            account.fused.append(measure.fused(query, target, rows))
        else:
            account.pairs.append(measure.information(str(query), target, measure.values(query, target, rows)))
    if few:
        least = min(few, key=lambda name: few[name])
        account.notes.append(
            f"Information is measured on few rows, that of {least} on {few[least]}: below {FEW_ROWS} rows intervals "
            f"are too narrow, and below {_LEAST} nothing is measured."
        )
    return account


def _asked(table: EmbeddingTable) -> Iterator[tuple[Subset, Subset]]:
    """Pairs of single modalities; then two and three of them with another one."""
    names = list(dict.fromkeys(name for subset in table.subsets for name in subset))
    yield from ((Subset(first), Subset(second)) for first, second in combinations(names, 2))
    for target in names:
        others = [name for name in names if name != target]
        for chosen in (Subset(*some) for size in (2, 3) for some in combinations(others, size)):
            yield next((one for one in table.subsets if one == chosen), chosen), Subset(target)  # in the table's order


def fit_scale(scores: Float[Tensor, "n n"]) -> float:
    """The scale of the scores at which the bound is largest; 0 if pairs score no higher than rows combined at random.

    The bound is concave in the scale, so that the sign of its slope tells on which side the maximum lies.

    Args:
        scores: of a gallery; the diagonal holds the pairs.

    Example:
        >>> fit_scale(torch.zeros(4, 4))
        0.0
    """

    def slope(scale: float) -> float:
        rows, columns = (((scale * scores).softmax(axis) * scores).sum() for axis in (1, 0))
        return float(2 * scores.diagonal().sum() - rows - columns)

    low, high = map(math.log2, _SCALES)
    if slope(2**low) <= 0:
        return 0.0
    while high - low > 0.005:  # a scale within 0.4 %: the bound is flat there
        middle = (low + high) / 2
        low, high = (middle, high) if slope(2**middle) > 0 else (low, middle)
    return 2**low


def gallery_values(
    scores: Float[Tensor, "n n"], scale: float, partition: Sequence[Tensor] | None = None
) -> Float[Tensor, " n"]:
    """What each pair adds to the bound, whose mean it is; float64.

    Args:
        scores: of a gallery; the diagonal holds the pairs.
        scale: of the scores.
        partition: the rows of smaller galleries, if it is parted into such.

    Example:
        >>> gallery_values(torch.eye(2), scale=100.0)    # ln 2, as much as a gallery of 2 can show
        tensor([0.6931, 0.6931], dtype=torch.float64)
    """
    values = torch.zeros(len(scores), dtype=torch.float64)
    for rows in partition or [torch.arange(len(scores))]:
        part = scale * scores[rows][:, rows]
        lost = (part.logsumexp(1) + part.logsumexp(0)) / 2 - part.diagonal()
        values[rows] = math.log(len(rows)) - lost.double()
    return values


@dataclass(frozen=True, eq=False)
class _Values:
    """Of each of n rows what it adds to `nats` and to `bound`; and the rows of the smallest gallery."""

    nats: Tensor
    bound: Tensor
    gallery: int


@dataclass(frozen=True, eq=False)
class _Measure:
    """The options of `information`, and what has been computed, by what is compared and the rows."""

    table: EmbeddingTable
    fit: EmbeddingTable
    confidence: float
    max_gallery: int
    seed: int
    scales: dict[frozenset[str], float] = field(default_factory=dict)
    known: dict[tuple[frozenset[str], bytes], _Values] = field(default_factory=dict)

    def fused(self, query: Subset, target: Subset, rows: Tensor) -> FusedInformation:
        """Of several modalities and each of them, on these rows."""
        by_name = {name: self.values(query, target, rows, name) for name in query_vectors(self.table, query, target)[1]}
        told = {name: self.information(name, target, values) for name, values in by_name.items()}
        (name, together), mean = next(iter(by_name.items())), told.get(mean_name(query))
        values = {part: self.values(Subset(part), target, rows) for part in query}
        parts = {part: self.information(part, target, one) for part, one in values.items()}
        best = max(query, key=lambda part: parts[part].nats)
        gain = self.interval(together.nats - values[best].nats)
        co_information = None
        if len(query) == 2:
            first, second = values.values()
            co_information = self.interval(first.nats + second.nats - together.nats)
        return FusedInformation(told[name], parts, mean, best, gain, co_information)

    def information(self, name: str, target: Subset, values: _Values) -> Information:
        """The mean over rows, with its interval."""
        bound, numbers = float(values.bound.mean()), (values.gallery, len(values.nats))
        return Information(name, str(target), *self.interval(values.nats), bound, *numbers)

    def interval(self, values: Tensor) -> Interval:
        """The mean of the values and the ends of its interval."""
        return float(values.mean()), *bootstrap_interval(values, self.confidence)

    def values(self, query: Subset, target: Subset, rows: Tensor, name: str | None = None) -> _Values:
        """Of a query, or of the mean of its parts by its name; either side tells as much of the other."""
        name = str(query) if name is None else name
        both = frozenset((name, str(target)))
        if (both, rows.numpy().tobytes()) not in self.known:
            if both not in self.scales:
                table, chosen = self.fit, query_vectors(self.fit, query, target)[0]
                if len(chosen) < FEW_ROWS:
                    table, chosen = self.table, rows
                order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(self.seed))
                chosen = chosen[order[:_FIT_ROWS].sort().values]
                self.scales[both] = fit_scale(pair_scores(table.score, *_sides(table, query, target, chosen, name)))
            self.known[both, rows.numpy().tobytes()] = self._values(query, target, rows, name, self.scales[both])
        return self.known[both, rows.numpy().tobytes()]

    def _values(self, query: Subset, target: Subset, rows: Tensor, name: str, scale: float) -> _Values:
        random = torch.Generator().manual_seed(self.seed)
        vectors = _sides(self.table, query, target, rows, name)
        galleries = torch.randperm(len(rows), generator=random).tensor_split(-(-len(rows) // self.max_gallery))
        nats, bound = torch.zeros(2, len(rows), dtype=torch.float64)
        for gallery in galleries:
            scores = pair_scores(self.table.score, *([side[gallery] for side in some] for some in vectors))
            bound[gallery] = gallery_values(scores, scale)
            nats[gallery] = 2 * bound[gallery]
            for _ in range(_HALVINGS):
                halves = torch.randperm(len(gallery), generator=random).tensor_split(2)
                nats[gallery] -= gallery_values(scores, scale, halves) / _HALVINGS
        return _Values(nats, bound, min(map(len, galleries)))


def _sides(
    table: EmbeddingTable, query: Subset, target: Subset, rows: Tensor, name: str
) -> tuple[list[Tensor], list[Tensor]]:
    """What is compared on these rows, which ascend: the query of this name and the target."""
    complete, queries = query_vectors(table, query, target)
    kept = torch.isin(complete, rows)
    return [side[kept] for side in queries[name]], [side[rows] for side in sides(table, target)]
