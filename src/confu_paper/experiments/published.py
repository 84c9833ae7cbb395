"""What the paper reports, by table and figure, so that every number of ours stands beside it.

Source: Koutoupis et al., "The More, the Merrier: Contrastive Fusion for Higher-Order Multimodal Alignment",
arXiv 2511.21331. The numbers are in `published.toml`, laid out as the paper's tables are. Percentages; (mean, standard
deviation) where the paper gives both, over five runs, in Table 5 over 19 frames. Modalities have our names: the
paper's M1, M2, M3 are vision, audio, text; its V is `image` on AV-MNIST and on birds.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from confu.checks import check_known

Value = tuple[float, float | None]

METHODS = ("clip", "tri-clip", "symile", "gram", "triangle", "confu")


@dataclass(frozen=True)
class Published:
    """One number of a table of the paper.

    Attributes:
        source: the table, e.g. `"table1"`.
        data: the data set it is measured on: av-mnist, mosi, ur-funny, mustard, ssw60 or vb100.
        method: one of `METHODS`.
        metric: `"accuracy"`, `"recall@10"` or `"recall@10 difference"`.
        query: the subset that asks, e.g. `"image+audio"`; `"concat(vision, audio, text)"` for a probe on three;
            `"1 -> 1"` or `"2 -> 1"` for a mean over pairs.
        target: the subset that is sought; `"label"` for a probe; `"mean"` for a mean over pairs.
        mean: in percent.
        std: standard deviation in percent, if printed.
        condition: what else it depends on, e.g. `"image noise 20 dB"`, `"fused_weight=0.1"`, `"multi-frame"`.
    """

    source: str
    data: str
    method: str
    metric: str
    query: str
    target: str
    mean: float
    std: float | None = None
    condition: str = ""

    @property
    def value(self) -> Value:
        """As a `Cell` takes it."""
        return self.mean, self.std


@dataclass(frozen=True)
class Statement:
    """A number that the text says about a figure, which prints none itself.

    Attributes:
        source: the figure, e.g. `"fig5"`.
        data, method: as in `Published`, and the data set `xor`.
        quantity: what is stated, with its unit.
        low: it is at least this; None if no lower bound is stated.
        high: it is at most this; None if no upper bound is stated.
        words: the paper's.
    """

    source: str
    data: str
    method: str
    quantity: str
    low: float | None
    high: float | None
    words: str


def _number(text: str) -> Value | None:
    if text == "-":
        return None
    mean, _, std = text.partition(" ± ")
    return float(mean), float(std) if std else None


def _load() -> tuple[tuple[Published, ...], tuple[Statement, ...]]:
    content = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    values = []
    for table in content["tables"]:
        shared = {key: table[key] for key in ("source", "data", "metric")}
        for method, row in table["rows"].items():
            for column, text in zip(table["columns"], row, strict=True):
                query, target = column.rsplit(" -> ", 1)
                if (number := _number(text)) is not None:
                    condition = table.get("condition", "")
                    values.append(Published(**shared, method=method, query=query, target=target, mean=number[0],
                                            std=number[1], condition=condition))  # fmt: skip
    statements = [Statement(**{"low": None, "high": None, **statement}) for statement in content["statements"]]
    return tuple(values), tuple(statements)


VALUES, STATEMENTS = _load()


def published(
    source: str | None = None,
    data: str | None = None,
    method: str | None = None,
    metric: str | None = None,
    query: str | None = None,
    target: str | None = None,
    condition: str | None = None,
) -> tuple[Published, ...]:
    """The numbers of the paper's tables that match; what is None is not asked for.

    Args:
        source, data, method, metric, condition: as the attributes of `Published`.
        query, target: subsets; the order of their modalities does not matter. One that the paper does not have
            matches nothing.

    Returns:
        in the paper's order; empty if the paper has a dash there.

    Raises:
        ValueError: if the paper has no such source, data set, method, metric or condition at all.

    Example:
        >>> [(one.query, one.mean) for one in published("table1", method="gram")]
        [('audio', 9.8), ('image', 63.9), ('image+audio', 64.4)]
    """
    wanted = {"source": source, "data": data, "method": method, "metric": metric, "condition": condition}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    for name, value in wanted.items():
        check_known(name, value, dict.fromkeys(getattr(one, name) for one in VALUES))
    return tuple(
        one
        for one in VALUES
        if all(getattr(one, name) == value for name, value in wanted.items())
        and (query is None or _modalities(query) == _modalities(one.query))
        and (target is None or _modalities(target) == _modalities(one.target))
    )


def _modalities(subset: str) -> frozenset[str]:
    return frozenset(subset.split("+"))


def published_value(
    source: str,
    data: str,
    method: str,
    query: str,
    target: str | None = None,
    metric: str = "accuracy",
    condition: str | None = None,
) -> Value | None:
    """The one number of the paper for a cell of ours, or None if the paper has none there.

    Args:
        source, data, method, metric, query, target, condition: as for `published`; target and condition may be left
            out where only one fits.

    Raises:
        ValueError: as `published`, and if several numbers fit, naming them.

    Example:
        >>> published_value("table1", "av-mnist", "confu", "audio+image")
        (71.2, 0.2)
        >>> published_value("table1", "av-mnist", "symile", "image") is None
        True
    """
    found = published(source, data, method, metric, query, target, condition)
    if len(found) > 1:
        which = "; ".join(f"{one.query} -> {one.target} {one.condition}".strip() for one in found)
        raise ValueError(f"{source} has several numbers of {method} on {data}: {which}. Give target or condition too")
    return found[0].value if found else None


@dataclass(frozen=True)
class PrintedMean:
    """A "Mean" column of Table 2 beside the mean of its own cells.

    Attributes:
        data, method: whose row.
        direction: `"1 -> 1"`, over six cells, or `"2 -> 1"`, over three.
        printed: in the paper, percent.
        recomputed: from the printed cells, percent.
    """

    data: str
    method: str
    direction: str
    printed: float
    recomputed: float

    @property
    def agrees(self) -> bool:
        """Whether rounding to one digit explains the difference: 0.05 of the cells and 0.05 of the mean."""
        return abs(self.printed - self.recomputed) <= 0.1 + 1e-9


def printed_means() -> tuple[PrintedMean, ...]:
    """Every printed mean of Table 2 with the mean of its cells; eleven of the 21 disagree.

    Example:
        >>> wrong = [mean for mean in printed_means() if not mean.agrees]
        >>> len(wrong), f"{wrong[0].data} {wrong[0].method} {wrong[0].printed} {wrong[0].recomputed:.2f}"
        (11, 'mosi gram 10.1 12.07')
    """
    means = []
    for mean in published("table2", target="mean"):
        cells = [one for one in published("table2", mean.data, mean.method) if one.target != "mean"]
        size = int(mean.query.split(" -> ")[0])
        used = [cell.mean for cell in cells if len(_modalities(cell.query)) == size]
        means.append(PrintedMean(mean.data, mean.method, mean.query, mean.mean, fmean(used)))
    return tuple(means)


def stated(source: str, method: str | None = None) -> tuple[Statement, ...]:
    """What the text says about a figure; empty if it gives no number.

    Example:
        >>> [(one.method, one.low, one.high) for one in stated("fig6", "confu")]
        [('confu', 64, 64)]
    """
    return tuple(one for one in STATEMENTS if one.source == source and method in (None, one.method))


# Table 1: zero-shot accuracy on AV-MNIST by method and query.
AV_MNIST: dict[str, dict[str, Value]] = {
    method: {one.query: one.value for one in published("table1", method=method)} for method in METHODS
}

# Supervised classifiers of one modality on AV-MNIST, which the noise of our build is calibrated to: the unimodal
# results of MultiBench (Liang et al. 2021, arXiv 2107.07502), whose files the paper uses; quoted, not re-measured.
AV_MNIST_SUPERVISED: dict[str, Value] = {"audio": (42.0, None), "image": (65.1, None)}

# Figure 6: the smallest embedding dimension at which a method solves XOR at p = 1 (text of Appendix B.2).
XOR_SMALLEST_DIMENSION: dict[str, int] = {
    one.method: int(one.low) for one in stated("fig6") if one.low is not None and one.low == one.high
}
