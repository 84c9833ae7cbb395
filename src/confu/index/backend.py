"""The protocol of index backends, and the registry of those that there are."""

import hashlib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.conditions import Filter
from confu.index.items import Items
from confu.plan import Subset

Ranking = list[tuple[str, float]]
"""(id, cosine) of the hits of one query, best first."""

BACKENDS: dict[str, str] = {
    "exact": "confu.index.exact",
    "faiss": "confu.index.faiss",
    "postgres": "confu.index.postgres",
    "qdrant": "confu.index.qdrant",
}
"""Name -> a module with two functions; the entry points of the group `confu.index_backends` name more such modules:

    create(folder: Path, about: About, options: Mapping[str, Any]) -> Backend      an empty one, open for writing
    open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> Backend

A missing optional package is an ImportError that names the extra.
"""


@dataclass(frozen=True)
class Change:
    """What a write did.

    Attributes:
        added: number of new items.
        replaced: number of items that took the place of others.
    """

    added: int
    replaced: int


@runtime_checkable
class Backend(Protocol):
    """Where vectors are stored and searched.

    What a call writes is there whole when it returns, and not at all if it raises or the process is killed. Several
    processes may search while one writes: a search sees the items of before a write, or those of after it.

    Attributes:
        options: what `index.json` keeps and gives to `open_` again; without secrets.
    """

    options: dict[str, Any]

    @property
    def source(self) -> dict[str, Any] | None:
        """What the items were made of, as the last write said; None before one did."""
        ...

    @property
    def dial(self) -> tuple[str, int] | None:
        """The option that trades time for recall and its value, e.g. `("ef", 64)`; None for exact search."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        ...

    def __len__(self) -> int: ...

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part, all or none; an id that is there is an error, or with `replace` replaced."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items and return how many; unknown ids are ignored."""
        ...

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Filter] = ()
    ) -> list[Ranking]:
        """The k items nearest to each query by their vector of `target`, among those that have it and fit `where`."""
        ...

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order; a KeyError for an unknown id."""
        ...

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        ...

    def with_dial(self, value: int | None) -> "Backend":
        """The same store with its dial at another value, or searched exactly for None; shares its connections."""
        ...

    def refresh(self) -> bool:
        """See what another process has written since; whether there was something."""
        ...

    def compact(self) -> None:
        """Write what is left after many changes more tightly."""
        ...

    def verify(self) -> list[str]:
        """Read everything and report damage."""
        ...

    def close(self) -> None:
        """Close files and connections, and let another process write."""
        ...


def load_backend(kind: str) -> Any:
    """The module of a backend.

    Raises:
        ValueError: for an unknown name.
    """
    if kind in BACKENDS:
        return importlib.import_module(BACKENDS[kind])
    others = {entry.name: entry for entry in entry_points(group="confu.index_backends")}
    check_known("backend", kind, [*BACKENDS, *others])
    return others[kind].load()


def number_options(options: Mapping[str, Any], limits: Mapping[str, tuple[int, int, int]]) -> dict[str, int]:
    """The values of numeric options.

    Args:
        options: as given.
        limits: name -> default, minimum and maximum.

    Raises:
        ValueError: for a value out of bounds.
    """
    values = {name: options.get(name, default) for name, (default, _, _) in limits.items()}
    for name, (_, least, most) in limits.items():
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"option {name} must be a whole number from {least} to {most}; got {value!r}")
    return values


def storage_name(folder: Path) -> str:
    """The name of an index's table or collection on a server, by the address of its folder."""
    words = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower())[:40]
    return f"confu_{words}_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


class NewIds:
    """The ids of one write: checks that none is repeated, and counts those that are in the index already."""

    def __init__(self, replace: bool) -> None:
        self.ids: set[str] = set()
        self.replaced: list[str] = []
        self._replace = replace

    def check(self, ids: Sequence[str], existing: Sequence[str]) -> None:
        """Add the ids of a part.

        Args:
            ids: of the new items.
            existing: those of them that the index holds.
        """
        if repeated := self.ids.intersection(ids):
            raise ValueError(f"id {min(repeated)!r} stands twice among the new items; make each unique")
        if existing and not self._replace:
            raise ValueError(
                f"id {min(existing)!r} is in the index already, as are {len(existing)} of these {len(ids)} items; "
                "replace them with replace=True (--replace), or give the new items other ids"
            )
        self.ids.update(ids)
        self.replaced += existing

    @property
    def change(self) -> Change:
        """What the write did."""
        return Change(len(self.ids) - len(self.replaced), len(self.replaced))
