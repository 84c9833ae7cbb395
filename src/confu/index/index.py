"""An index: items by id, searched by the vectors of any subset, in whichever backend."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index import exact, migrate
from confu.index.backend import Backend, Change, load_backend
from confu.index.catalog import FILE, About, Catalog, read_catalog
from confu.index.conditions import Where, checked
from confu.index.items import Hit, Item, Items, items_by_id, unit_items, unit_queries
from confu.plan import Subset


class Index:
    """Items that are found by any subset of their modalities, and by their metadata.

    Several processes may read while one writes. Use it as a context manager, or `close` it.

    Attributes:
        folder: with `index.json` in it.

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
        self.folder, self._about = folder, about
        self._backend: Backend | None = backend

    @classmethod
    def create(cls, folder: Path | str, about: About, backend: str = "exact", **options: Any) -> "Index":
        """An empty index, open for writing.

        Args:
            folder: new or empty.
            about: the model and the data behind it.
            backend: exact, faiss, postgres or qdrant, or the name of an entry point.
            options: of the backend.

        Raises:
            ValueError: if the folder holds something, or the backend or an option is not known.
        """
        folder, module = Path(folder), load_backend(backend)
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if (folder.exists() and not folder.is_dir()) or any(
            not name.startswith(".") and not exact.FILES.fullmatch(name) for name in names
        ):
            raise ValueError(f"{folder} must be new or empty to make an index there; it holds something already")
        folder.mkdir(parents=True, exist_ok=True)
        store = module.create(folder, about, options)
        if (folder / FILE).exists():
            store.close()
            raise ValueError(f"{folder} has become an index in this very moment, by another process; open that one")
        Catalog(about, backend, store.options).write(folder)
        return cls(folder, about, store)

    @classmethod
    def open(cls, folder: Path | str, writable: bool = False, **options: Any) -> "Index":
        """An index that is there.

        An exact or FAISS index of confu's first format is converted when it is opened for writing.

        Args:
            folder: that `create` or `confu index` wrote.
            writable: to change it; one process at a time can.
            options: of the backend, in place of those that it was made with, e.g. the `url` of a server.

        Raises:
            ValueError: if there is none, it is damaged or of the first format, or another process is writing.
        """
        folder = Path(folder)
        catalog = read_catalog(folder)
        options = {**catalog.options, **options}
        if catalog.segments is not None:
            store = migrate.migrated(folder, catalog, options, writable)
        else:
            store = load_backend(catalog.kind).open_(folder, catalog.about, options, writable)
        if writable:
            migrate.remove_segments(folder)
        return cls(folder, catalog.about, store)

    @property
    def about(self) -> About:
        """The model and the data behind it."""
        source = self.backend.source
        return self._about if source is None else replaced(self._about, source=source)

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
        return self._about.subsets

    @property
    def dim(self) -> int:
        """The size of a vector."""
        return self._about.dim

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
        return self.add_parts([items], replace)

    def add_parts(
        self, parts: Iterable[Items], replace: bool = False, source: Mapping[str, Any] | None = None
    ) -> Change:
        """Store items that come part after part, in one write.

        Args:
            parts: of the items.
            replace: as in `add`.
            source: becomes `about.source`.
        """
        checked_parts = (unit_items(items, self._about) for items in parts)
        return self.backend.add(checked_parts, replace, None if source is None else dict(source))

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items and return how many; ids that are not there are left out of the count."""
        return self.backend.delete(_texts("ids", ids))

    def search(self, queries: Any, target: Subset | str, k: int = 10, where: Where = ()) -> list[list[Hit]]:
        """The k items nearest to each query by their vector of `target`, among those that fit.

        Args:
            queries: (n, dim) or (dim,) vectors, or what `Embedder.encode` gives.
            target: one of the subsets that are stored.
            k: at most so many.
            where: a filter such as `"year >= 2020 and species in (robin, wren)"`, or several that must all hold; see
                `confu.index.conditions`.

        Returns:
            for each query its hits, best first; fewer than k where fewer items fit.

        Raises:
            ValueError: for queries of another dim, zero or not finite; an unknown target or column; k below 1.
        """
        target = self._stored("target", target)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1; got {k!r}")
        vectors = unit_queries(queries, self.dim)
        rankings = self.backend.search(vectors, target, k, checked(where, self.schema))
        items = self._items(list({id: None for ranking in rankings for id, _ in ranking}))
        return [
            # An item that was deleted after the search is no hit.
            [Hit(id, score, items[id].metadata, items[id].media) for id, score in ranking if id in items]
            for ranking in rankings
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
        """See what a writer has committed since; whether there was something."""
        return self.backend.refresh()

    def verify(self) -> list[str]:
        """Read everything and report damage; empty if all is well."""
        return self.backend.verify()

    def compact(self) -> None:
        """Write what is left after many changes more tightly; the content stays the same."""
        self.backend.compact()

    def close(self) -> None:
        """Let go of files and connections, and let another one write."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _stored(self, name: str, subset: Subset | str) -> Subset:
        """The subset as the index prints it."""
        requested = Subset.parse(subset)
        for stored in self.subsets:
            if stored == requested:
                return stored
        check_known(name, str(subset), map(str, self.subsets))
        raise AssertionError

    def _items(self, ids: Sequence[str]) -> dict[str, Item]:
        try:
            return items_by_id(self.backend.fetch(ids))
        except KeyError as error:
            missing = error.args[0]
            return self._items([id for id in ids if id != missing])


def _texts(name: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{name} must be a list of texts; got {values!r}")
    return list(values)
