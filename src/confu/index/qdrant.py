"""An index in Qdrant: a point an item, a named vector a subset; for collections that one machine does not hold.

Tested with the Python client's own store in memory only (`url=":memory:"`), which follows the server's interface. What
needs a server is not tested: HNSW, shards and replicas, a node that fails.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.about import About
from confu.index.backend import Change, Found
from confu.index.catalog import WriterLock, read_catalog
from confu.index.conditions import Condition
from confu.index.items import Items
from confu.index.qdrant_points import items_of, pieces, seen, settings_of, with_ids
from confu.index.qdrant_state import Link, State, address
from confu.index.qdrant_writing import make_collection, publish, put
from confu.plan import Subset

_IDS, _QUERIES, _PAGE = 512, 64, 1000  # of one request
_UNIT = 1e-3  # how far from 1 the length of a vector may be
_OPTIONS = ("url", "collection", "exact", "m", "ef_build", "ef", "timeout", "shards", "replicas")


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "QdrantStore":
    """A new, empty collection; it is named after the folder unless the option `collection` gives a name.

    Raises:
        ValueError: if there is such a collection, or an option is wrong.
        ConnectionError: if the server cannot be reached.
    """
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower())[:40]
    options = {"collection": f"confu_{words}_{own}", **options}
    store = _store(folder, about, options, writable=True)
    try:
        make_collection(store.link, options["collection"], about, store.settings)
        State().write(folder)
    except BaseException:
        store.close()
        raise
    return store


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "QdrantStore":
    """The collection of an index; a writer first removes what a killed one left.

    Raises:
        ValueError: if the collection is not there.
        ConnectionError: if the server cannot be reached.
    """
    store = _store(folder, about, options, writable)
    try:
        if not store.link.ask(lambda client: client.collection_exists(store.collection)):
            raise ValueError(f"{store.link.name} has no collection {store.collection!r}; is it the right server?")
        if writable:
            store.sweep()
    except BaseException:
        store.close()
        raise
    return store


def _store(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "QdrantStore":
    for name in options:
        check_known("option of the qdrant store", name, _OPTIONS)
    if not isinstance(options.get("collection"), str) or not re.fullmatch(r"[\w.-]{1,255}", options["collection"]):
        raise ValueError(
            f"option collection must be a name of letters, digits, '_', '-' and '.'; got {options.get('collection')!r}"
        )
    settings = settings_of(options)
    lock = WriterLock(folder) if writable else None
    try:
        link = Link(address(options.get("url")), folder, settings["timeout"])
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return QdrantStore(folder, about, link, dict(options), settings, lock)


class QdrantStore:
    """Points in one collection of a Qdrant server.

    New points are written hidden, and shown in one request with that which removes those that they replace. A writer
    that is killed leaves hidden points, which the next one removes. One process writes at a time.
    """

    def __init__(
        self, folder: Path, about: About, link: Link, options: dict[str, Any], settings: dict[str, int],
        lock: WriterLock | None,
    ) -> None:  # fmt: skip
        self.folder, self.about, self.link, self.options, self.settings = folder, about, link, options, settings
        self.collection: str = options["collection"]
        self._lock = lock

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata that conditions may name."""
        return State.read(self.folder).schema

    def __len__(self) -> int:
        return self.link.ask(lambda client: client.count(self.collection, count_filter=seen(), exact=True)).count

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items."""
        return self.add_all([items], replace)

    def add_all(self, parts: Iterable[Items], replace: bool = False, about: About | None = None) -> Change:
        """Store items part after part, all of them or none; what the index says of itself is written after that."""
        self._check_writable()
        write, new, there = str(uuid.uuid4()), set[str](), list[str]()
        try:
            for items in parts:
                if twice := new.intersection(items.table.ids):
                    raise ValueError(f"id {min(twice)!r} stands twice among the new items; make each unique")
                new.update(items.table.ids)
                found = [point.payload["id"] for point in self._points(items.table.ids, payload=["id"])]
                if found and not replace:
                    raise ValueError(
                        f"id {min(found)!r} is in the index already, as are {len(found)} of these {len(items)} items; "
                        "replace them with replace=True (--replace), or give the new items other ids"
                    )
                there += found
                put(self.link, self.collection, self.folder, items, write)
        except BaseException:
            self.sweep()
            raise
        publish(self.link, self.collection, write, there)
        if about is not None and (catalog := read_catalog(self.folder)).about != about:
            changed(catalog, about=about).write(self.folder)
        return Change(len(new) - len(there), len(there))

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items."""
        self._check_writable()
        there = [point.payload["id"] for point in self._points(ids, payload=["id"])]
        for some in pieces(there, _IDS):
            self.link.ask(lambda client, some=some: client.delete(self.collection, with_ids(some)))
        return len(there)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Condition] = ()
    ) -> list[Found]:
        """The k nearest of each query among those that fit."""
        from qdrant_client import models

        chosen = seen(where, self.schema)
        how = None  # the store in memory compares every vector
        if not self.link.is_local:
            how = models.SearchParams(hnsw_ef=max(self.settings["ef"], k), exact=bool(self.options.get("exact", False)))
        found = []
        for some in pieces(queries.cpu().tolist(), _QUERIES):
            asked = [
                models.QueryRequest(
                    query=query, using=str(target), filter=chosen, params=how, limit=k, with_payload=["id"]
                )
                for query in some
            ]  # fmt: skip
            answers = self.link.ask(lambda client, asked=asked: client.query_batch_points(self.collection, asked))
            found += [
                Found([point.payload["id"] for point in one.points], [point.score for point in one.points])
                for one in answers
            ]
        return found

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        held = {point.payload["id"]: point for point in self._points(list(dict.fromkeys(ids)), vectors=True)}
        if missing := [id for id in ids if id not in held]:
            raise KeyError(missing[0])
        return items_of([held[id] for id in ids], self.about.subsets, self.about.dim, self.schema)

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        points = sorted((point.payload["row"], point.payload["id"]) for point in self._all(["id", "row"], False))
        return (id for _, id in points)

    @property
    def dial(self) -> str:
        """The option that trades time for recall; the store in memory compares every vector."""
        return "" if self.link.is_local or self.options.get("exact") else "ef"

    @property
    def dial_value(self) -> int:
        """What it is set to."""
        return self.settings["ef"]

    def dialled(self, value: int) -> "QdrantStore":
        """The same collection, searched with another `ef`."""
        return QdrantStore(self.folder, self.about, self.link, self.options, {**self.settings, "ef": value}, None)

    def exactly(self) -> "QdrantStore":
        """The same collection, every vector compared."""
        return QdrantStore(self.folder, self.about, self.link, {**self.options, "exact": True}, self.settings, None)

    def verify(self) -> list[str]:
        """Read every point, and look at ids and at the lengths of vectors."""
        wrong, counts = [], dict[str, int]()
        try:
            for point in self._all(True, True):
                counts[point.payload["id"]] = counts.get(point.payload["id"], 0) + 1
                lengths = {name: sum(x * x for x in vector) ** 0.5 for name, vector in (point.vector or {}).items()}
                off = [name for name, length in lengths.items() if abs(length - 1) > _UNIT]
                wrong += [f"item {point.payload['id']!r}: the vector of {name} has no length of 1" for name in off]
        except (ConnectionError, ValueError, KeyError) as error:
            return [f"{self.collection}: {error!r}"]
        twice = [id for id, count in counts.items() if count > 1]
        return [*wrong, *(f"item {id!r} stands twice; write it again with replace" for id in twice)]

    def sweep(self) -> None:
        """Remove what a killed writer left."""
        from qdrant_client import models

        hidden = models.FieldCondition(key="pending", match=models.MatchValue(value=True))
        self.link.ask(lambda client: client.delete(self.collection, models.Filter(must=[hidden])))

    def drop(self) -> None:
        """Remove the collection with all that it holds; the folder stays."""
        self._check_writable()
        self.link.ask(lambda client: client.delete_collection(self.collection))

    def close(self) -> None:
        """Let go of the connection, and let another one write."""
        self.link.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _points(self, ids: Sequence[str], payload: Any = True, vectors: bool = False) -> Iterator[Any]:
        for some in pieces(list(ids), _IDS):
            chosen = with_ids(some)
            chosen.must = [*chosen.must, *seen().must]
            yield from self._scroll(chosen, payload, vectors)

    def _all(self, payload: Any, vectors: bool) -> Iterator[Any]:
        return self._scroll(seen(), payload, vectors)

    def _scroll(self, chosen: Any, payload: Any, vectors: bool) -> Iterator[Any]:
        offset: Any = None
        while True:
            points, offset = self.link.ask(
                lambda client, offset=offset: client.scroll(
                    self.collection, scroll_filter=chosen, limit=_PAGE, offset=offset, with_payload=payload,
                    with_vectors=vectors,
                )
            )  # fmt: skip
            yield from points
            if offset is None:
                return

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")
