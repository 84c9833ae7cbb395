"""The index of the paper: what each table and figure measures, on which data, and which of its numbers we hold.

The text is in `paper_index.toml`, the numbers in `published.toml`.
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from confu.checks import check_known
from confu_paper.datasets.data_set_info import DataSetInfo
from confu_paper.datasets.registry import data_sets
from confu_paper.experiments.published import STATEMENTS, VALUES, Published, Statement

EXPERIMENTS = (
    "zero-shot", "retrieval", "linear-probe", "few-shot", "overlap", "noise", "lambda", "mask", "xor", "xor-dimension",
)  # fmt: skip


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
    def sources(self) -> tuple[DataSetInfo, ...]:
        """The data sets whose files it needs, those for training last."""
        return tuple(SOURCES[name] for name in (*self.data, *self.trained_on))

    @property
    def values(self) -> tuple[Published, ...]:
        """The numbers that it prints."""
        return tuple(one for one in VALUES if one.source == self.name)

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The numbers that the text says about it."""
        return tuple(one for one in STATEMENTS if one.source == self.name)

    def availability(self, connected: Collection[str]) -> str:
        """What a user can do with it, in a few words.

        Args:
            connected: the experiments that the caller can run, of `EXPERIMENTS`.

        Example:
            >>> entry("table6").availability({"noise"}), entry("table6").availability(())
            ('on ssw60, or --on av-mnist', 'no recipe yet')
        """
        if self.experiment is None:
            return "not an experiment"
        if self.experiment not in connected:
            return "no recipe yet"
        return f"on {', '.join(self.data)}" + ("" if self.also is None else f", or --on {self.also}")

    def to_markdown(self, connected: Collection[str] = ()) -> str:
        """Everything about it, with the files that it needs; for the argument see `availability`."""
        if self.experiment is None:
            return f"**{self.label}. {self.title}**\n\nNot an experiment.\n"
        parts = [
            f"**{self.label}. {self.title}**\n",
            f"Measures {self.measures}.\n",
            f"Can be run: {self.availability(connected)}.\n",
            f"The paper prints {len(self.values) or 'no'} numbers.\n",
        ]
        sections = {
            "The text says:": [_said(one) for one in self.statements],
            "Protocol:": self.protocol,
            "Unclear:": self.unclear,
        }
        parts += [_list(title, lines) for title, lines in sections.items() if lines]
        parts += [_list(f"{one.title}: {one.what}. Get: {one.get}.", one.layout) for one in self.sources]
        return "\n".join(parts)


def _said(one: Statement) -> str:
    if one.low == one.high:
        value = f"{one.low:g}"
    elif one.low is None:
        value = f"at most {one.high:g}"
    elif one.high is None:
        value = f"more than {one.low:g}"
    else:
        value = f"{one.low:g} to {one.high:g}"
    return f"{one.method}, {one.quantity}: {value}"


def _list(title: str, lines: Collection[str]) -> str:
    return f"{title}\n" + ("\n" + "".join(f"- {line}\n" for line in lines) if lines else "")


def _load() -> tuple[Entry, ...]:
    content = tomllib.loads(Path(__file__).with_name("paper_index.toml").read_text(encoding="utf-8"))

    def plain(fields: dict[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}

    return tuple(Entry(name, **plain(fields)) for name, fields in content["entries"].items())


SOURCES = {info.name: info for info in data_sets()}
_ENTRIES = _load()


def index() -> tuple[Entry, ...]:
    """Every table and figure, tables first, in the paper's order.

    Example:
        >>> len(index()), [entry.name for entry in index() if entry.experiment is None]
        (23, ['fig1', 'fig2', 'fig14'])
    """
    return _ENTRIES


def entry(name: str) -> Entry:
    """A table or figure by name.

    Args:
        name: e.g. `"table6"`; also `"Table 6"`, `"Figure 3"`, `"Fig. 3"`.

    Raises:
        ValueError: naming the closest one.

    Example:
        >>> entry("Fig. 6").title
        'XOR by embedding dimension'
        >>> entry("tabel6")
        Traceback (most recent call last):
        ...
        ValueError: table or figure 'tabel6' is not known; did you mean 'table6'? Known: 'table1', 'table2', ...
    """
    short = re.sub(r"[\s.]", "", name.lower()).replace("figure", "fig")
    entries = {one.name: one for one in _ENTRIES}
    check_known("table or figure", short, entries)
    return entries[short]


_HEADER = ("name", "what", "data of the paper", "protocol", "can be run")


def _rows(connected: Collection[str]) -> list[tuple[str, ...]]:
    for experiment in connected:
        check_known("experiment", experiment, EXPERIMENTS)
    return [
        (
            one.name,
            one.title,
            ", ".join(source.title for source in one.sources) or "-",
            one.experiment or "-",
            one.availability(connected),
        )
        for one in _ENTRIES
    ]


def index_table(connected: Collection[str] = ()) -> Table:
    """The index for the terminal.

    Args:
        connected: the experiments that the caller can run, of `EXPERIMENTS`; what is not among them is called
            "no recipe yet".
    """
    table = Table()
    for name in _HEADER:
        table.add_column(name, no_wrap=name == "name")
    for row in _rows(connected):
        table.add_row(*row)
    return table


def index_markdown(connected: Collection[str] = ()) -> str:
    """The index for a document; for the argument see `index_table`."""
    lines = [f"| {' | '.join(row)} |" for row in (_HEADER, *_rows(connected))]
    lines.insert(1, "|" + "---|" * len(_HEADER))
    return "\n".join(lines) + "\n"
