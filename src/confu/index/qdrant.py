"""Qdrant: a point an item, a named vector a subset; for collections that one machine does not hold.

A point has a payload: `id`; `row`, a number that grows, for the order of items; `metadata`, with the columns c0, c1,
... (dates as days and times as microseconds since 1970, unknown values left out); `media`; `write`, the write that
brought it; and `pending` until that write is complete, so that searches leave it out. What Qdrant does not keep, the
names and types of columns, stands in `qdrant.json` in the folder.

Tested with the Python client's own store in memory only (`url=":memory:"`), which follows the server's interface. What
needs a server is not tested: HNSW, shards and replicas, a node that fails.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.files import write_json
from confu.index import columns
from confu.index.about import About
from confu.index.backend import Change, NewIds, Ranking, number_options
from confu.index.catalog import WriterLock
from confu.index.conditions import And, Condition, Filter, translate
from confu.index.items import Items, stack_vectors
from confu.index.qdrant_connection import Connection
from confu.plan import Subset

T = TypeVar("T")
_NAMES = uuid.UUID("6f1d6f0e-4b8e-5d2c-9a51-0c0f5a7e2b11")
_IDS, _POINTS, _QUERIES, _PAGE = 512, 256, 64, 1000  # of one request
_EXACT = 1 << 53  # whole numbers below are floats, too
_UNIT = 1e-3  # how far from 1 the length of a stored vector may be
_NUMBERS = {
    "m": (16, 2, 256),
    "ef_build": (100, 4, 4096),
    "ef": (128, 1, 1 << 16),
    "timeout": (30, 1, 86_400),
    "shards": (1, 1, 4096),
    "replicas": (1, 1, 64),
}


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "QdrantStore":
    """A new, empty collection, named after the folder unless the option `collection` gives a name.

    Options: `url` (else the environment variable CONFU_QDRANT; the key is in CONFU_QDRANT_API_KEY); `exact` to compare
    every vector; `m`, `ef_build` and `ef` of the graph; `timeout` seconds of a request; `shards` and `replicas`.

    Raises:
        ValueError: if there is such a collection, or an option is wrong.
        ConnectionError: if the server cannot be reached.
    """
    words = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower())[:40]
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    store = QdrantStore(folder, about, {"collection": f"confu_{words}_{own}", **options}, WriterLock(folder))
    try:
        store.create_collection()
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
    store = QdrantStore(folder, about, dict(options), WriterLock(folder) if writable else None)
    try:
        if not store.connection.ask(lambda client: client.collection_exists(store.collection)):
            raise ValueError(f"{store.connection.name} has no collection {store.collection!r}; is it the right server?")
        if writable:
            store.sweep()
    except BaseException:
        store.close()
        raise
    return store


class QdrantStore:
    """Points in one collection of a Qdrant server; one process writes at a time.

    New points are written hidden, and shown in one request with that which removes those that they replace. A writer
    that is killed leaves hidden points, which the next one removes.
    """

    def __init__(
        self, folder: Path, about: About, options: dict[str, Any], lock: WriterLock | None, shared: Any = None
    ) -> None:
        self.folder, self.about, self.options, self._lock = folder, about, options, lock
        try:
            for name in options:
                check_known("option of the qdrant store", name, ("url", "collection", "exact", *_NUMBERS))
            self.collection = options.get("collection", "")
            if not isinstance(self.collection, str) or not re.fullmatch(r"[\w.-]{1,255}", self.collection):
                raise ValueError(
                    f"option collection must be a name of letters, digits, '_', '-' and '.'; got {self.collection!r}"
                )
            self.settings = number_options(options, _NUMBERS)
            self.connection = shared or Connection(options.get("url"), folder, self.settings["timeout"])
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata; they are only ever added, so that one that no point has yet does no harm."""
        return columns.schema_from_json(self._notes()["columns"])

    @property
    def source(self) -> dict[str, Any] | None:
        """What the items were made of."""
        return self._notes().get("source")

    @property
    def dial(self) -> tuple[str, int] | None:
        """The option that trades time for recall; the store in memory compares every vector."""
        return None if self.connection.is_local or self.options.get("exact") else ("ef", self.settings["ef"])

    def with_dial(self, value: int | None) -> "QdrantStore":
        """The same collection, searched with another `ef`, or every vector compared."""
        options = {**self.options, **({"exact": True} if value is None else {"ef": value})}
        return QdrantStore(self.folder, self.about, options, None, self.connection)

    def __len__(self) -> int:
        return self.connection.ask(
            lambda client: client.count(self.collection, count_filter=_filter(), exact=True)
        ).count

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        points = sorted((point.payload["row"], point.payload["id"]) for point in self._scroll(_filter(), ["id", "row"]))
        return (id for _, id in points)

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part; they are shown when all are there."""
        self._check_writable()
        write, new = str(uuid.uuid4()), NewIds(replace)
        try:
            for items in parts:
                ids = items.table.ids
                new.check(ids, [point.payload["id"] for point in self._points(ids, ["id"])])
                self._put(items, write)
        except BaseException:
            self.sweep()
            raise
        self._publish(write, new.replaced)
        if source is not None:
            self._note({**self._notes(), "source": source})
        return new.change

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items."""
        self._check_writable()
        existing = [point.payload["id"] for point in self._points(ids, ["id"])]
        for some in _pieces(existing, _IDS):
            self.connection.ask(lambda client, some=some: client.delete(self.collection, _with_ids(some)))
        return len(existing)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Filter] = ()
    ) -> list[Ranking]:
        """The k nearest of each query among those that fit."""
        from qdrant_client import models

        chosen, parameters = _filter(where, self.schema), None
        if not self.connection.is_local:
            exact = bool(self.options.get("exact", False))
            parameters = models.SearchParams(hnsw_ef=max(self.settings["ef"], k), exact=exact)
        shared = {"using": str(target), "filter": chosen, "params": parameters, "limit": k, "with_payload": ["id"]}
        rankings = []
        for some in _pieces(queries.cpu().tolist(), _QUERIES):
            requests = [models.QueryRequest(query=query, **shared) for query in some]
            answers = self.connection.ask(
                lambda client, requests=requests: client.query_batch_points(self.collection, requests)
            )
            rankings += [[(point.payload["id"], point.score) for point in answer.points] for answer in answers]
        return rankings

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        points = {point.payload["id"]: point for point in self._points(list(dict.fromkeys(ids)), True, True)}
        if missing := [id for id in ids if id not in points]:
            raise KeyError(missing[0])
        ordered = [points[id] for id in ids]
        vectors = {
            subset: [
                None if (row := (point.vector or {}).get(str(subset))) is None else torch.tensor(row)
                for point in ordered
            ]
            for subset in self.about.subsets
        }
        payloads = [point.payload for point in ordered]
        metadata = {
            field.name: columns.from_numbers([one["metadata"].get(f"c{number}") for one in payloads], field.type)
            for number, field in enumerate(self.schema)
        }
        table = stack_vectors(ids, vectors, self.about.dim)
        return Items.from_media(table, pa.table(metadata), [one["media"] for one in payloads])

    def refresh(self) -> bool:
        """Nothing to do: every call reads the state of the server."""
        return False

    def compact(self) -> None:
        """Nothing to do: the server does it."""

    def verify(self) -> list[str]:
        """Read every point, and check ids and the lengths of vectors."""
        damage, ids = [], set[str]()
        try:
            for point in self._scroll(_filter(), True, True):
                id = point.payload["id"]
                if id in ids:
                    damage.append(f"item {id!r} stands twice; write it again with replace")
                ids.add(id)
                for name, vector in (point.vector or {}).items():
                    if abs(sum(x * x for x in vector) ** 0.5 - 1) > _UNIT:
                        damage.append(f"item {id!r}: the vector of {name} has no length of 1")
        except (ConnectionError, ValueError, KeyError) as error:
            return [f"{self.collection}: {error!r}"]
        return damage

    def sweep(self) -> None:
        """Remove what a killed writer left."""
        from qdrant_client import models

        pending = models.FieldCondition(key="pending", match=models.MatchValue(value=True))
        self.connection.ask(lambda client: client.delete(self.collection, models.Filter(must=[pending])))

    def close(self) -> None:
        """Close the connection, and let another process write."""
        self.connection.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def create_collection(self) -> None:
        """Make the empty collection."""
        from qdrant_client import models

        name, settings = self.collection, self.settings
        if self.connection.ask(lambda client: client.collection_exists(name)):
            raise ValueError(
                f"{self.connection.name} has a collection {name!r} already; give another name as the option collection"
            )
        graph = models.HnswConfigDiff(m=settings["m"], ef_construct=settings["ef_build"])
        # The vectors have length one: the inner product is the cosine, and leaves their bits as they are.
        kind = models.VectorParams(size=self.about.dim, distance=models.Distance.DOT, hnsw_config=graph)
        vectors = {str(subset): kind for subset in self.about.subsets}
        spread = {"shard_number": settings["shards"], "replication_factor": settings["replicas"]}
        self.connection.ask(lambda client: client.create_collection(name, vectors, **spread))
        if not self.connection.is_local:  # which has no indexes of payloads
            kinds = models.PayloadSchemaType
            for field, schema in {"id": kinds.KEYWORD, "write": kinds.KEYWORD, "pending": kinds.BOOL}.items():
                self.connection.ask(
                    lambda client, field=field, schema=schema: client.create_payload_index(name, field, schema)
                )
        self._note({"columns": [], "rows": 0})

    def _notes(self) -> dict[str, Any]:
        path = self.folder / "qdrant.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            columns.schema_from_json(content["columns"])
            return {**content, "rows": int(content["rows"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); index again") from error

    def _note(self, notes: dict[str, Any]) -> None:
        write_json(self.folder / "qdrant.json", notes)

    def _put(self, items: Items, write: str) -> None:
        """Write items that are not shown yet."""
        from qdrant_client import models

        table, metadata, notes = items.table, columns.plain_columns(items.metadata), self._notes()
        schema = columns.merged_schema(columns.schema_from_json(notes["columns"]), metadata.schema)
        first = notes["rows"]
        self._note({**notes, "columns": columns.schema_to_json(schema), "rows": first + len(items)})
        values = [columns.to_numbers(column) for column in columns.cast_columns(metadata, schema, len(items)).columns]
        vectors = [(str(subset), table[subset].tolist(), table.complete[subset].tolist()) for subset in table.subsets]
        points = [
            models.PointStruct(
                id=str(uuid.uuid5(_NAMES, f"{write} {id}")),
                vector={name: rows[row] for name, rows, mask in vectors if mask[row]},
                payload={
                    "id": id,
                    "row": first + row,
                    "metadata": {f"c{n}": column[row] for n, column in enumerate(values) if column[row] is not None},
                    "media": items.media_of(row),
                    "write": write,
                    "pending": True,
                },
            )
            for row, id in enumerate(table.ids)
        ]
        for some in _pieces(points, _POINTS):
            self.connection.ask(lambda client, some=some: client.upsert(self.collection, some))

    def _publish(self, write: str, replaced: Sequence[str]) -> None:
        """Show the items of a write and remove those that they replace, in one request.

        They are shown first: a server that dies in between has some items twice, but has lost none.
        """
        from qdrant_client import models

        written = models.FieldCondition(key="write", match=models.MatchValue(value=write))
        shown = models.DeletePayload(keys=["pending"], filter=models.Filter(must=[written]))
        steps: list = [models.DeletePayloadOperation(delete_payload=shown)]
        for some in _pieces(replaced, _IDS):
            gone = models.FilterSelector(filter=models.Filter(must=[*_with_ids(some).must], must_not=[written]))
            steps.append(models.DeleteOperation(delete=gone))
        self.connection.ask(lambda client: client.batch_update_points(self.collection, steps))

    def _points(self, ids: Sequence[str], payload: Any, vectors: bool = False) -> Iterator[Any]:
        from qdrant_client import models

        for some in _pieces(ids, _IDS):
            yield from self._scroll(models.Filter(must=[*_with_ids(some).must, *_filter().must]), payload, vectors)

    def _scroll(self, chosen: Any, payload: Any, vectors: bool = False) -> Iterator[Any]:
        request: dict[str, Any] = {"scroll_filter": chosen, "limit": _PAGE, "with_payload": payload, "offset": None}
        while True:
            points, request["offset"] = self.connection.ask(
                lambda client: client.scroll(self.collection, with_vectors=vectors, **request)
            )
            yield from points
            if request["offset"] is None:
                return

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")


def _pieces(values: Sequence[T], size: int) -> Iterator[list[T]]:
    """Parts of a list, so that no request grows without bound."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


def _with_ids(ids: Sequence[str]) -> Any:
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key="id", match=models.MatchAny(any=list(ids)))])


def _filter(where: Sequence[Filter] = (), schema: pa.Schema | None = None) -> Any:
    """A filter of the points of complete writes that fit, by filters that must have been `checked`.

    Raises:
        ValueError: for the order of texts or of large whole numbers, or parts of texts, which Qdrant does not know.
    """
    from qdrant_client import models

    def leaf(condition: Condition) -> Any:
        assert schema is not None
        kind, operator = schema.field(condition.column).type, condition.operator
        key = f"metadata.c{schema.get_field_index(condition.column)}"
        unknown: Any = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        if operator.endswith("null"):
            return models.Filter(must=[unknown]) if operator == "is null" else models.Filter(must_not=[unknown])
        inner = kind.value_type if pa.types.is_list(kind) else kind
        values = condition.value if isinstance(condition.value, tuple) else [condition.value]
        values, fits = columns.to_numbers(pa.array(values, inner)), list[Any]()
        if operator in ("<", "<=", ">", ">="):
            if pa.types.is_string(kind):
                raise ValueError(
                    f"{condition}: Qdrant knows no order of texts; ask with ==, != or in, or use another store"
                )
            if pa.types.is_integer(kind) and abs(values[0]) > _EXACT:
                raise ValueError(f"{condition}: Qdrant orders whole numbers up to {_EXACT} only; ask with ==, != or in")
            side = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[operator]
            fits = [models.FieldCondition(key=key, range=models.Range(**{side: float(values[0])}))]
        elif operator.endswith("contains") and inner == kind:
            raise ValueError(f"{condition}: Qdrant finds whole words only; ask with == or in, or use another store")
        elif pa.types.is_floating(kind):
            fits = [models.FieldCondition(key=key, range=models.Range(gte=one, lte=one)) for one in values]
        else:
            fits = [models.FieldCondition(key=key, match=models.MatchValue(value=one)) for one in values]
        if operator.startswith("not") or operator == "!=":
            return models.Filter(must_not=[*fits, unknown])
        return models.Filter(should=[*fits])

    def join(kind: type, parts: list[Any]) -> Any:
        return models.Filter(must=parts) if kind is And else models.Filter(should=parts)

    chosen = translate(where, leaf, join)
    pending = models.IsEmptyCondition(is_empty=models.PayloadField(key="pending"))
    return models.Filter(must=[pending, chosen] if where else [pending])
