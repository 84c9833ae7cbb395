"""The index of the paper: what each table and figure measures, on which data, and which of its numbers we hold.

The text is in `paper_index.toml`, the numbers in `published.toml`. Nothing here imports torch.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.table import Table

from confu.checks import check_known
from confu_paper.datasets.registry import DataSet, data_set
from confu_paper.experiments.published import VALUES, Published

EXPERIMENTS = ("zero-shot", "retrieval", "linear-probe", "few-shot", "overlap", "noise", "lambda", "mask")
EXPERIMENTS += ("xor", "xor-dimension")


@dataclass(frozen=True)
class Entry:
    """A table or figure of the paper.

    Attributes:
        name: `"table1"` to `"table9"`, `"fig1"` to `"fig14"`.
        title: what it is about.
        measures: what its numbers are.
        experiment: the protocol that makes such numbers, one of `EXPERIMENTS`; None if it is not an experiment.
        data: names of the paper's data sets that it is measured on.
        trained_on: names of those that its models are trained on, if they are others.
        also: another data set on which the protocol makes sense, for who does not have the paper's; None if none is.
        frames: `"eight"` of a video, averaged, or `"single"` ones; nothing else than bird videos has frames.
        protocol: how the paper or its released code measures it.
        unclear: what neither says, or where they contradict each other.
    """

    name: str
    title: str
    measures: str
    experiment: str | None = None
    data: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    also: str | None = None
    frames: str = "eight"
    protocol: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`Table 1`, `Fig 14`."""
        return re.sub(r"([a-z]+)(\d+)", lambda match: f"{match[1].capitalize()} {match[2]}", self.name)

    @property
    def sources(self) -> tuple[DataSet, ...]:
        """The data sets whose files it needs, those for training last."""
        return tuple(data_set(name) for name in (*self.data, *self.trained_on))

    @property
    def values(self) -> tuple[Published, ...]:
        """The numbers that it prints."""
        return tuple(number for number in VALUES if number.source == self.name)

    @property
    def availability(self) -> str:
        """What a user can do with it, in a few words.

        >>> entry("table6").availability
        'on ssw60, or --on av-mnist'
        """
        if self.experiment is None:
            return "not an experiment"
        return f"on {', '.join(self.data)}" + ("" if self.also is None else f", or --on {self.also}")


@cache
def index() -> tuple[Entry, ...]:
    """Every table and figure, tables first, in the paper's order.

    >>> len(index()), [entry.name for entry in index() if entry.experiment is None]
    (23, ['fig1', 'fig2', 'fig14'])
    """
    content = tomllib.loads(Path(__file__).with_name("paper_index.toml").read_text(encoding="utf-8"))
    entries = []
    for name, fields in content["entries"].items():
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        entries.append(Entry(name, **{**fields, **lists}))
    return tuple(entries)


def entry(name: str) -> Entry:
    """A table or figure by name, e.g. `"table6"`; also `"Table 6"`, `"Figure 3"`, `"Fig. 3"`.

    Raises:
        ValueError: naming the closest one.

    >>> entry("Fig. 6").title
    'XOR by embedding dimension'
    >>> entry("tabel6")
    Traceback (most recent call last):
    ...
    ValueError: table or figure 'tabel6' is not known; did you mean 'table6'? Known: 'table1', 'table2', ...
    """
    short = re.sub(r"[\s.]", "", name.lower()).replace("figure", "fig")
    entries = {one.name: one for one in index()}
    check_known("table or figure", short, entries)
    return entries[short]


def index_table() -> Table:
    """The index for the terminal."""
    table = Table()
    for name in ("name", "what", "data of the paper", "protocol", "can be run"):
        table.add_column(name, no_wrap=name == "name")
    for one in index():
        data = ", ".join(source.title for source in one.sources) or "-"
        table.add_row(one.name, one.title, data, one.experiment or "-", one.availability)
    return table
