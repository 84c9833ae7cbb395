"""An index: items by id, searched by the vectors of any subset, in whichever store."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.abilities import AddsParts, Compacts, Refreshes
from confu.index.about import About
from confu.index.backend import Backend, Change
from confu.index.backends import create_backend, open_backend
from confu.index.catalog import FILE, Catalog, read_catalog, stamp
from confu.index.conditions import Condition, checked, parse_condition
from confu.index.item import Item, items_by_id
from confu.index.items import Hit, Items
from confu.index.vectors import unit_items, unit_queries
from confu.plan import Subset


class Index:
    """Items that are found by any subset of their modalities, and by their metadata.

    Several processes may read while one writes. Use it as a context manager, or `close` it.

    Attributes:
        folder: with `index.json` in it.
        about: the model and the data behind it.

    Example:
        >>> import tempfile, torch
        >>> from confu.embeddings import EmbeddingTable
        >>> about = About("by hand", "", 2, (Subset("text"),), {"text": "text"})
        >>> with tempfile.TemporaryDirectory() as folder, Index.create(folder, about) as index:
        ...     _ = index.add(Items(EmbeddingTable(("a", "b"), {Subset("text"): torch.eye(2)})))
        ...     [hit.id for hit in index.search(torch.tensor([0.6, 0.8]), "text", k=2)[0]]
        ['b', 'a']
    """

    def __init__(self, folder: Path, about: About, backend: Backend) -> None:
        self.folder, self.about = folder, about
        self._backend: Backend | None = backend
        self._stamp: tuple[int, int, int] | None = None  # the first `refresh` reads what may have come since

    @classmethod
    def create(cls, folder: Path | str, about: About, backend: str = "exact", **options: Any) -> "Index":
        """An empty index, open for writing.

        Args:
            folder: new or empty.
            about: the model and the data behind it.
            backend: exact, faiss, postgres or qdrant.
            options: of the backend.

        Raises:
            ValueError: if the folder holds something, or the backend or an option is not known.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(not one.name.startswith(".") for one in folder.iterdir())):
            raise ValueError(f"{folder} must be new or empty to make an index there; it holds something already")
        folder.mkdir(parents=True, exist_ok=True)
        store = create_backend(backend, folder, about, options)
        if (folder / FILE).exists():
            store.close()
            raise ValueError(f"{folder} has become an index in this very moment, by another process; open that one")
        Catalog(about, backend, getattr(store, "options", {})).write(folder)
        return cls(folder, about, store)

    @classmethod
    def open(cls, folder: Path | str, writable: bool = False, **options: Any) -> "Index":
        """An index that is there.

        Args:
            folder: that `create` or `confu index` wrote.
            writable: to change it; one process at a time can.
            options: of the backend, in place of those that it was made with, e.g. the `url` of a server.

        Raises:
            ValueError: if there is none, it is damaged, or another process is writing.
        """
        folder = Path(folder)
        catalog = read_catalog(folder)
        store = open_backend(catalog.kind, folder, catalog.about, {**catalog.options, **options}, writable)
        return cls(folder, catalog.about, store)

    @property
    def backend(self) -> Backend:
        """The store.

        Raises:
            ValueError: if the index was closed.
        """
        if self._backend is None:
            raise ValueError(f"the index {self.folder} was closed; open it again")
        return self._backend

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """What is stored, and may be a target."""
        return self.about.subsets

    @property
    def dim(self) -> int:
        """The size of a vector."""
        return self.about.dim

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata that conditions may name."""
        return self.backend.schema

    def __len__(self) -> int:
        return len(self.backend)

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        return self.backend.ids()

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items: all of them when this returns, none if it raises or the process is killed.

        Args:
            items: vectors of any length but zero are stored as unit vectors; of subsets that the index stores.
            replace: an item whose id is there takes its place, else it is an error.

        Raises:
            ValueError: for an id that is there, a subset that is not stored, a wrong dim, a zero or non-finite vector.
        """
        return self.backend.add(unit_items(items, self.about), replace)

    def add_parts(
        self, parts: Iterable[Items], replace: bool = False, source: Mapping[str, Any] | None = None
    ) -> Change:
        """Store items that come part after part, in one write where the store can (the exact one does).

        Args:
            parts: with the same columns of metadata.
            replace: as in `add`.
            source: what `about.source` shall be from then on.
        """
        about = self.about if source is None else dataclasses.replace(self.about, source=dict(source))
        checked_parts = (unit_items(items, self.about) for items in parts)
        if isinstance(self.backend, AddsParts):
            change = self.backend.add_all(checked_parts, replace, about)
        else:
            changes = [self.backend.add(items, replace) for items in checked_parts]
            change = Change(sum(one.added for one in changes), sum(one.replaced for one in changes))
            if about != self.about:
                dataclasses.replace(read_catalog(self.folder), about=about).write(self.folder)
        self.about = about
        return change

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items and return how many; ids that are not there are left out of the count."""
        return self.backend.delete(_texts("ids", ids))

    def search(
        self, queries: Any, target: Subset | str, k: int = 10, where: Sequence[Condition | str] = ()
    ) -> list[list[Hit]]:
        """The k items nearest to each query by their vector of `target`, among those that fit.

        Args:
            queries: (n, dim) or (dim,) vectors, or what `Embedder.encode` gives.
            target: one of the subsets that are stored.
            k: at most so many.
            where: conditions such as `"year >= 2020"`, all of which must hold.

        Returns:
            for each query its hits, best first; fewer than k where fewer items fit.

        Raises:
            ValueError: for queries of another dim, zero or not finite; an unknown target or column; k below 1.
        """
        target = self._stored("target", target)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1; got {k!r}")
        vectors = unit_queries(queries, self.dim)
        conditions = [parse_condition(one) if isinstance(one, str) else one for one in where]
        found = self.backend.search(vectors, target, k, checked(conditions, self.schema))
        items = self._items([id for one in found for id in one.ids])
        return [
            [
                Hit(id, score, items[id].metadata, items[id].media)
                for id, score in zip(one.ids, one.scores)
                if id in items  # one that was deleted in between is no hit
            ]
            for one in found
        ]

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order.

        Raises:
            KeyError: for an id that is not there.
        """
        return self.backend.fetch(_texts("ids", ids))

    def get(self, id: str) -> Item:
        """What is known of one item.

        Raises:
            KeyError: if it is not there.
        """
        return items_by_id(self.fetch([id]))[id]

    def vector(self, id: str, subset: Subset | str) -> Float[Tensor, " dim"]:
        """The vector of an item.

        Raises:
            KeyError: if the item is not there.
            ValueError: if the subset is not stored, or the item does not have it.
        """
        subset = self._stored("subset", subset)
        table = self.fetch([id]).table
        if subset not in table or not bool(table.complete[subset][0]):
            raise ValueError(
                f"item {id!r} has no {subset}; it has {', '.join(map(str, self.get(id).subsets)) or 'none'}"
            )
        return table[subset][0]

    def refresh(self) -> bool:
        """See what a writer has published since; whether there was something. Costs little where there was not."""
        changed = isinstance(self.backend, Refreshes) and self.backend.refresh()
        if (mark := stamp(self.folder)) != self._stamp:
            about = read_catalog(self.folder).about
            changed = changed or about != self.about
            self.about, self._stamp = about, mark
        return changed

    def verify(self) -> list[str]:
        """Read everything and say what is wrong with it; nothing if all is well."""
        return self.backend.verify()

    def compact(self) -> None:
        """Put the store in order after many changes; what is in it stays the same."""
        if isinstance(self.backend, Compacts):
            self.backend.compact()

    def close(self) -> None:
        """Let go of files and connections, and let another one write."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _stored(self, name: str, given: Subset | str) -> Subset:
        """The subset as the index prints it."""
        found = next((subset for subset in self.subsets if subset == Subset.parse(given)), None)
        if found is None:
            check_known(name, str(given), map(str, self.subsets))
            raise AssertionError
        return found

    def _items(self, ids: Sequence[str]) -> dict[str, Item]:
        wanted = list(dict.fromkeys(ids))
        try:
            return items_by_id(self.backend.fetch(wanted))
        except KeyError:
            found = {}
            for id in wanted:
                try:
                    found |= items_by_id(self.backend.fetch([id]))
                except KeyError:
                    continue
            return found


def _texts(name: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{name} must be a list of texts; got {values!r}")
    return list(values)
