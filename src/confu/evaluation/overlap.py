"""Which queries are right about which rows: what only a fused query solves, and what only one modality does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.evaluation.report import ReportRow

ALL, NONE = "all", "none"


@dataclass(frozen=True)
class OverlapResult:
    """Shares of rows by who is right about them.

    Attributes:
        queries: the names that were compared, the fullest first.
        shares: category -> share of the rows; they add up to 1. The categories are `X only` for each query, `X & Y` and
            so on for two or more, `all` and `none`, in the order of Fig 5.
        by_class: class name -> the same among the rows of that class; a class without a compared row is not there.
        counts: class name -> its rows.
        count: how many rows were compared.
        left_out: how many were not, as they are not complete for every query.
    """

    queries: tuple[str, ...]
    shares: dict[str, float]
    by_class: dict[str, dict[str, float]]
    counts: dict[str, int]
    count: int
    left_out: int

    def percent(self) -> list[float]:
        """The shares in percent, in their order, for `bars(list(result.shares), {"confu": ...})` (Fig 5)."""
        return [100 * share for share in self.shares.values()]

    def matrix(self) -> list[list[float]]:
        """The shares of each class in percent, a line a class, for `heatmap` (Fig 8)."""
        return [[100 * share for share in shares.values()] for shares in self.by_class.values()]

    def to_rows(self, target: str, method: str = "", seed: int = 0) -> list[ReportRow]:
        """A row a category, `share X only`, and one for each category of each class, `share X only of CLASS`."""
        query = " | ".join(self.queries)
        note = f"{self.left_out} rows that are not complete for every query are left out" if self.left_out else ""
        shares = [(f"share {name}", value, self.count) for name, value in self.shares.items()]
        for label, of_class in self.by_class.items():
            shares += [(f"share {name} of {label}", value, self.counts[label]) for name, value in of_class.items()]
        return [ReportRow(metric, query, target, value, count, method, seed, note) for metric, value, count in shares]


def evaluate_overlap(
    credit: Mapping[str, Float[Tensor, " _"]], labels: Int[Tensor, " _"], class_names: Sequence[str] | None = None
) -> OverlapResult:
    """The share of rows that exactly these queries get right, for every set of queries.

        share(S) = 1/n sum_i prod_{q in S} c_qi prod_{q not in S} (1 - c_qi)

    where c is 1 for a right row and 0 for a wrong one. A row on which several classes tie for the first place has a
    credit between the two, and counts in each category with the probability that breaking the ties at random, for each
    query on its own, has.

    Args:
        credit: by query, e.g. `ZeroShotResult.credit` or `LinearProbeResult.credit`; two to six queries. NaN where a
            row is not complete.
        labels: (n,) the class of each row.
        class_names: what each label means; by default the labels themselves.

    Returns:
        shares over all rows and by class.

    Raises:
        ValueError: for fewer than two queries or more than six, sizes that differ, a credit outside [0, 1], a label
            without a name or two with the same, or if no row is complete for all queries.

    Reference:
        Figs 5 and 8 of the ConFu paper, with three queries: vision, audio and both.

    Example:
        >>> right = {"image": torch.tensor([1.0, 1, 0, 0]), "image+audio": torch.tensor([1.0, 0, 1, 0])}
        >>> evaluate_overlap(right, torch.tensor([0, 0, 1, 1])).shares
        {'image+audio only': 0.25, 'image only': 0.25, 'all': 0.25, 'none': 0.25}
    """
    if not 2 <= len(credit) <= 6:
        raise ValueError(f"overlap compares two to six queries; got {len(credit)}: {', '.join(credit) or 'none'}")
    for name, values in credit.items():
        if values.shape != labels.shape:
            raise ValueError(
                f"credit of {name} must have one value per label, {len(labels)}; got {tuple(values.shape)}"
            )
        outside = (values < 0) | (values > 1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0, 0])
            raise ValueError(f"credit of {name} must lie in [0, 1], or be NaN; row {row} has {float(values[row]):g}")
    names = sorted(credit, key=lambda name: -name.count("+") - name.count(","))  # sorted keeps the order of equals
    right = torch.stack([credit[name].double() for name in names])
    whole = ~right.isnan().any(dim=0)
    if not bool(whole.any()):
        raise ValueError(
            f"no row is complete for all of {', '.join(names)}, so that they cannot be compared; leave a query out"
        )
    right, kept = right[:, whole], labels[whole]
    categories = {}
    # The sets of one query, of two, ..., of all, and the empty one last, as in Fig 5.
    for chosen in [s for size in range(1, len(names) + 1) for s in combinations(names, size)] + [()]:
        name = ALL if len(chosen) == len(names) else " & ".join(chosen) + " only" * (len(chosen) == 1) or NONE
        categories[name] = torch.stack([c if n in chosen else 1 - c for n, c in zip(names, right)]).prod(0)
    classes = {name: kept == label for label, name in _named(kept.unique().tolist(), class_names).items()}
    return OverlapResult(
        queries=tuple(names),
        shares={name: float(part.mean()) for name, part in categories.items()},
        by_class={
            label: {name: float(part[rows].mean()) for name, part in categories.items()}
            for label, rows in classes.items()
        },
        counts={label: int(rows.sum()) for label, rows in classes.items()},
        count=int(whole.sum()),
        left_out=int((~whole).sum()),
    )


def _named(labels: Sequence[int], class_names: Sequence[str] | None) -> dict[int, str]:
    """The name of each of these labels, all different."""
    if class_names is None:
        return {label: str(label) for label in labels}
    if labels[0] < 0 or labels[-1] >= len(class_names):
        raise ValueError(
            f"labels must lie in 0..{len(class_names) - 1}, the classes with names; got {labels[0]} to {labels[-1]}"
        )
    named = {label: class_names[label] for label in labels}
    if len(set(named.values())) < len(named):
        twice = next(name for name in named.values() if list(named.values()).count(name) > 1)
        raise ValueError(f"class_names must differ, or two classes become one line; {twice!r} is there twice")
    return named
