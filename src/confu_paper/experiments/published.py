"""The numbers that the paper reports, by table and figure, so that every number of ours stands beside it.

Source: Koutoupis et al., "The More, the Merrier: Contrastive Fusion for Higher-Order Multimodal Alignment",
arXiv 2511.21331. The numbers are in `published.toml`, laid out as the paper's tables are. Percentages; (mean, standard
deviation) where the paper gives both, over five runs, in Table 5 over 19 frames. Modalities have our names: the
paper's M1, M2, M3 are vision, audio, text; its V is `image` on AV-MNIST and on birds.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

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
        query: the subset of the query, e.g. `"image+audio"`; `"concat(vision, audio, text)"` for a probe on three;
            `"1 -> 1"` or `"2 -> 1"` for a mean over pairs.
        target: its target; `"label"` for a probe; `"mean"` for a mean over pairs.
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


def _load() -> tuple[tuple[Published, ...], tuple[Statement, ...]]:
    content = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    values = []
    for table in content["tables"]:
        about = {key: table[key] for key in ("source", "data", "metric", "condition") if key in table}
        for method, row in table["rows"].items():
            for column, text in zip(table["columns"], row, strict=True):
                query, target = column.rsplit(" -> ", 1)
                mean, _, std = text.partition(" ± ")
                if text != "-":
                    key = {"method": method, "query": query, "target": target}
                    values.append(Published(**about, **key, mean=float(mean), std=float(std) if std else None))
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
    """The numbers of the paper's tables that match, in the paper's order; None matches everything.

    Arguments are as the attributes of `Published`. Of `query` and `target` the order of their modalities does not
    matter, and one that the paper does not have matches nothing.

    Raises:
        ValueError: if the paper has no such source, data set, method, metric or condition at all.

    >>> [(number.query, number.mean) for number in published("table1", method="gram")]
    [('audio', 9.8), ('image', 63.9), ('image+audio', 64.4)]
    """
    fields = {name: value for name, value in locals().items() if value is not None}
    for name, value in fields.items():
        if name not in ("query", "target"):
            check_known(name, value, dict.fromkeys(getattr(number, name) for number in VALUES))

    def matches(number: Published, name: str, value: str) -> bool:
        own = getattr(number, name)
        return set(own.split("+")) == set(value.split("+")) if name in ("query", "target") else own == value

    return tuple(number for number in VALUES if all(matches(number, *field) for field in fields.items()))


def by_method(numbers: tuple[Published, ...]) -> dict[str, dict[str, Value]]:
    """method -> query -> value."""
    values: dict[str, dict[str, Value]] = {}
    for number in numbers:
        values.setdefault(number.method, {})[number.query] = number.value
    return values


def stated(source: str, method: str | None = None) -> tuple[Statement, ...]:
    """What the text says about a figure; empty if it gives no number.

    >>> [(statement.method, statement.low, statement.high) for statement in stated("fig6", "confu")]
    [('confu', 64, 64)]
    """
    return tuple(
        statement for statement in STATEMENTS if statement.source == source and method in (None, statement.method)
    )


# Supervised classifiers of one modality on AV-MNIST, which the noise of our build is calibrated to: the unimodal
# results of MultiBench (Liang et al. 2021, arXiv 2107.07502), whose files the paper uses; quoted, not re-measured.
AV_MNIST_SUPERVISED: dict[str, Value] = {"audio": (42.0, None), "image": (65.1, None)}

# Figure 6: the smallest embedding dimension at which a method solves XOR at p = 1 (text of Appendix B.2).
XOR_SMALLEST_DIMENSION: dict[str, int] = {
    statement.method: int(statement.low)
    for statement in stated("fig6")
    if statement.low is not None and statement.low == statement.high
}
