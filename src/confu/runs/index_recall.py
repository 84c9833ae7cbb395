"""What an approximate index misses: recall and time of each of its settings, as a table, JSON and a plot."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from confu.evaluation.plots import lines, save_figure
from confu.files import write_json
from confu.index import Index
from confu.index.catalog import read_catalog
from confu.index.recall import Setting, measure_settings, sample_queries
from confu.plan import Subset


@dataclass(frozen=True)
class MeasuredRecall:
    """Recall and time of the settings of an index.

    Attributes:
        settings: by ascending value of the dial.
        k: neighbours.
        queries: how many asked.
        asked: the subset that the queries are of.
        target: the subset that was searched.
        items: in the index.
        backend: its kind.
    """

    settings: tuple[Setting, ...]
    k: int
    queries: int
    asked: Subset
    target: Subset
    items: int
    backend: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        content = asdict(self)
        return content | {"asked": str(self.asked), "target": str(self.target)}

    def to_rich(self) -> Table:
        """For the terminal."""
        title = f"{self.queries} queries of {self.asked} -> {self.target}, {self.items} items ({self.backend})"
        table = Table(title=title, title_justify="left")
        for name in (self.settings[0].dial or "setting", f"recall@{self.k}", "ms a query", "ms a query, 64 at once"):
            table.add_column(name, justify="right")
        for one in self.settings:
            table.add_row(
                (f"{one.value}" if one.dial else "exact") + (" (in use)" if one.in_use and one.dial else ""),
                f"{100 * one.recall:.1f} %",
                f"{one.one_ms:.2f}",
                f"{one.batch_ms:.2f}",
            )
        return table


def measure_recall(
    folder: Path | str,
    queries: int = 1000,
    k: int = 10,
    out: Path | str | None = None,
    target: Subset | str | None = None,
    values: tuple[int, ...] = (),
    seed: int = 0,
    **options: Any,
) -> MeasuredRecall:
    """Ask an index as people do, through each setting of its dial and exactly, and compare.

    Args:
        folder: of the index.
        queries: so many of its items ask, each by a subset that shares nothing with the target where one is stored.
        k: neighbours.
        out: a plot (PNG and SVG), and the numbers beside it as JSON.
        target: stored subset; the first that is stored by default.
        values: of the dial, e.g. of `ef`; powers of two by default.
        seed: of the choice of items.
        options: of the backend, e.g. the `url` of a server.

    Raises:
        ValueError: if the index is empty, or the target is not stored.
    """
    for name, number in (("queries", queries), ("k", k)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {number!r}")
    with Index.open(folder, **options) as index:
        if not len(index):
            raise ValueError(f"{folder} holds no items; there is nothing to find")
        wanted = index.subsets[0] if target is None else Subset.parse(target)
        stored = next((subset for subset in index.subsets if subset == wanted), wanted)
        vectors, asked = sample_queries(index, stored, queries, seed)
        found = MeasuredRecall(
            tuple(measure_settings(index.backend, vectors, stored, k, values)),
            k,
            len(vectors),
            asked,
            stored,
            len(index),
            read_catalog(Path(folder)).kind,
        )
    if out is not None:
        draw(found, out)
        write_json(Path(out).with_suffix(".json"), found.to_dict())
    return found


def draw(found: MeasuredRecall, path: Path | str) -> tuple[Path, Path]:
    """Recall over the milliseconds of a query, one point a setting, as PNG and SVG."""
    shown = sorted(found.settings, key=lambda one: one.one_ms)
    dial = shown[0].dial
    name = f"{found.backend}, {dial} {min(one.value for one in shown)} to {max(one.value for one in shown)}"
    figure = lines(
        [one.one_ms for one in shown],
        {name if dial else found.backend: ([100 * one.recall for one in shown], None)},
        {f"in use, {dial} {one.value}": 100 * one.recall for one in shown if one.in_use and dial},
        x_label="ms a query",
        y_label=f"recall@{found.k} (%)",
    )
    return save_figure(figure, path)
