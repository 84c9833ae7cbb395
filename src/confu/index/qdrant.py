"""Qdrant: a point an item, a named vector a subset; for collections that one machine does not hold.

A point has a payload: `id`; `row`, a number that grows, for the order of items; `metadata`, with the columns c0, c1,
... (dates as days and times as microseconds since 1970, unknown values left out); `media`; `write`, the write that
brought it; and `pending` until that write is complete, so that searches leave it out. What Qdrant does not keep, the
names and types of columns, stands in `qdrant.json` in the folder.

Tested with the Python client's own store in memory only (`url=":memory:"`), which follows the server's interface. What
needs a server is not tested: HNSW, shards and replicas, a node that fails. The client could also keep its own store in
a folder. It is not offered: it reads pickles, which may run anything, and an index is what people hand to one another.
"""

import json
import os
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
from confu.index.backend import Change, NewIds, Ranking, number_options, storage_name
from confu.index.catalog import About, WriterLock
from confu.index.conditions import And, Condition, Filter, translate
from confu.index.items import UNIT, Items, stack_vectors
from confu.plan import Subset

T = TypeVar("T")
KEY, VARIABLE, MEMORY = "CONFU_QDRANT_API_KEY", "CONFU_QDRANT", ":memory:"
_IN_MEMORY: dict[Path, Any] = {}  # kept until the process ends, so that what was closed can be opened again
_NAMES = uuid.UUID("6f1d6f0e-4b8e-5d2c-9a51-0c0f5a7e2b11")
_IDS, _POINTS, _QUERIES, _PAGE = 512, 256, 64, 1000  # of one request
_EXACT = 1 << 53  # whole numbers below are floats, too
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

    Options: `url`, or ":memory:" for a store in the memory of this process (else the environment variable CONFU_QDRANT;
    the key is in CONFU_QDRANT_API_KEY); `exact` to compare every vector; `m`, `ef_build` and `ef` of the graph;
    `timeout` seconds of a request; `shards` and `replicas`.

    Raises:
        ImportError: if the client is not installed.
        ValueError: if there is such a collection, or an option is wrong.
        ConnectionError: if the server cannot be reached.
    """
    return _opened(folder, about, {"collection": storage_name(folder), **options}, True, "_create")


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "QdrantStore":
    """The collection of an index; a writer first removes what a killed one left.

    Raises:
        ValueError: if the collection is not there.
        ConnectionError: if the server cannot be reached.
    """
    return _opened(folder, about, dict(options), writable, "_check")


def _opened(folder: Path, about: About, options: dict[str, Any], writable: bool, first: str) -> "QdrantStore":
    lock = WriterLock(folder) if writable else None
    try:
        store = QdrantStore(folder, about, options, lock)
        getattr(store, first)()
        return store
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _models() -> Any:
    try:
        from qdrant_client import models
    except ImportError as error:
        install = 'pip install "contrastive-fusion[qdrant]"'
        raise ImportError(f"an index in Qdrant needs qdrant-client, which is not installed: {install}") from error
    return models


class QdrantStore:
    """Points in one collection of a Qdrant server; one process writes at a time.

    New points are written hidden, and shown in one request with that which removes those that they replace. A writer
    that is killed leaves hidden points, which the next one removes.
    """

    def __init__(
        self, folder: Path, about: About, options: dict[str, Any], lock: WriterLock | None, client: Any = None
    ) -> None:
        self.folder, self.about, self.options, self._lock = folder, about, options, lock
        for name in options:
            check_known("option of the qdrant store", name, ("url", "collection", "exact", *_NUMBERS))
        self.collection = options.get("collection", "")
        if not isinstance(self.collection, str) or not re.fullmatch(r"[\w.-]{1,255}", self.collection):
            raise ValueError(
                f"option collection must be a name of letters, digits, '_', '-' and '.'; got {self.collection!r}"
            )
        self.settings = number_options(options, _NUMBERS)
        url = options.get("url") or os.environ.get(VARIABLE)
        if not url:
            raise ValueError(
                f"which Qdrant server? Set the environment variable {VARIABLE}, or give the option url, e.g. "
                f"http://localhost:6333; {MEMORY} is a store in the memory of this process, to try it out"
            )
        if "@" in url:
            raise ValueError(f"option url may hold no password; set the environment variable {KEY}")
        self.is_local, self.server = url == MEMORY, f"Qdrant at {url}"
        self.client = client or self._connected(url)

    def _connected(self, url: str) -> Any:
        _models()
        from qdrant_client import QdrantClient

        if self.is_local:
            return _IN_MEMORY.setdefault(self.folder.resolve(), QdrantClient(MEMORY))
        key, seconds = os.environ.get(KEY), self.settings["timeout"]
        try:
            return QdrantClient(url=url, api_key=key, timeout=seconds, check_compatibility=False)
        except ValueError as error:
            raise ValueError(
                f"option url must be the address of a Qdrant server, e.g. http://localhost:6333; got {url!r} ({error})"
            ) from error

    def ask(self, request: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the client answers about the collection; asked twice if there is no answer at once.

        Raises:
            ConnectionError: naming the server, if it is away or refuses.
        """
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        for again in (True, False):
            try:
                return getattr(self.client, request)(self.collection, *arguments, **options)
            except ResponseHandlingException as error:
                if not again:
                    raise ConnectionError(f"{self.server} does not answer ({error}); look whether it runs") from error
            except UnexpectedResponse as error:
                raise ConnectionError(
                    f"{self.server} refuses ({' '.join(str(error).split())[:300]}); look at its address, and at the "
                    f"key in the environment variable {KEY}"
                ) from error

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
        return None if self.is_local or self.options.get("exact") else ("ef", self.settings["ef"])

    def with_dial(self, value: int | None) -> "QdrantStore":
        """The same collection, searched with another `ef`, or every vector compared."""
        options = {**self.options, **({"exact": True} if value is None else {"ef": value})}
        return QdrantStore(self.folder, self.about, options, None, self.client)

    def __len__(self) -> int:
        return self.ask("count", count_filter=_filter(), exact=True).count

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
            self._sweep()
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
            self.ask("delete", _models().Filter(must=[_with_ids(some)]))
        return len(existing)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Filter] = ()
    ) -> list[Ranking]:
        """The k nearest of each query among those that fit."""
        models, chosen, parameters = _models(), _filter(where, self.schema), None
        if not self.is_local:
            exact = bool(self.options.get("exact", False))
            parameters = models.SearchParams(hnsw_ef=max(self.settings["ef"], k), exact=exact)
        shared = {"using": str(target), "filter": chosen, "params": parameters, "limit": k, "with_payload": ["id"]}
        rankings = []
        for some in _pieces(queries.cpu().tolist(), _QUERIES):
            answers = self.ask("query_batch_points", [models.QueryRequest(query=query, **shared) for query in some])
            rankings += [[(point.payload["id"], point.score) for point in answer.points] for answer in answers]
        return rankings

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        points = {point.payload["id"]: point for point in self._points(list(dict.fromkeys(ids)), True, True)}
        if missing := [id for id in ids if id not in points]:
            raise KeyError(missing[0])
        held = [points[id].vector or {} for id in ids]
        vectors = {
            subset: [None if (row := one.get(str(subset))) is None else torch.tensor(row) for one in held]
            for subset in self.about.subsets
        }
        payloads = [points[id].payload for id in ids]
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
                    if abs(sum(x * x for x in vector) ** 0.5 - 1) > UNIT:
                        damage.append(f"item {id!r}: the vector of {name} has no length of 1")
        except (ConnectionError, ValueError, KeyError) as error:
            return [f"{self.collection}: {error!r}"]
        return damage

    def close(self) -> None:
        """Close the connection, and let another process write."""
        if not self.is_local:
            self.client.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check(self) -> None:
        if not self.ask("collection_exists"):
            raise ValueError(f"{self.server} has no collection {self.collection!r}; is it the right server?")
        if self._lock is not None:
            self._sweep()

    def _create(self) -> None:
        models, settings = _models(), self.settings
        if self.ask("collection_exists"):
            raise ValueError(
                f"{self.server} has a collection {self.collection!r} already; give another name as the option "
                "collection"
            )
        graph = models.HnswConfigDiff(m=settings["m"], ef_construct=settings["ef_build"])
        # The vectors have length one: the inner product is the cosine, and leaves their bits as they are.
        kind = models.VectorParams(size=self.about.dim, distance=models.Distance.DOT, hnsw_config=graph)
        vectors = {str(subset): kind for subset in self.about.subsets}
        spread = {"shard_number": settings["shards"], "replication_factor": settings["replicas"]}
        self.ask("create_collection", vectors, **spread)
        if not self.is_local:  # which has no indexes of payloads
            kinds = models.PayloadSchemaType
            for field, schema in {"id": kinds.KEYWORD, "write": kinds.KEYWORD, "pending": kinds.BOOL}.items():
                self.ask("create_payload_index", field, schema)
        self._note({"columns": [], "rows": 0})

    def _sweep(self) -> None:
        """Remove what a killed writer left."""
        self.ask("delete", _models().Filter(must=[_equal("pending", True)]))

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
        models = _models()
        table, metadata, notes = items.table, columns.plain_columns(items.metadata), self._notes()
        schema = columns.merged_schema(columns.schema_from_json(notes["columns"]), metadata.schema)
        first = notes["rows"]
        self._note({**notes, "columns": columns.schema_to_json(schema), "rows": first + len(items)})
        values = [columns.to_numbers(column) for column in columns.cast_columns(metadata, schema, len(items)).columns]
        vectors = [(str(subset), table[subset].tolist(), table.complete[subset].tolist()) for subset in table.subsets]
        points = []
        for row, id in enumerate(table.ids):
            known = {f"c{number}": column[row] for number, column in enumerate(values) if column[row] is not None}
            payload = {"id": id, "row": first + row, "metadata": known, "media": items.media_of(row)}
            points.append(
                models.PointStruct(
                    id=str(uuid.uuid5(_NAMES, f"{write} {id}")),
                    vector={name: rows[row] for name, rows, mask in vectors if mask[row]},
                    payload={**payload, "write": write, "pending": True},
                )
            )
        for some in _pieces(points, _POINTS):
            self.ask("upsert", some)

    def _publish(self, write: str, replaced: Sequence[str]) -> None:
        """Show the items of a write and remove those that they replace, in one request.

        They are shown first: a server that dies in between has some items twice, but has lost none.
        """
        models, written = _models(), _equal("write", write)
        shown = models.DeletePayload(keys=["pending"], filter=models.Filter(must=[written]))
        steps: list = [models.DeletePayloadOperation(delete_payload=shown)]
        for some in _pieces(replaced, _IDS):
            gone = models.FilterSelector(filter=models.Filter(must=[_with_ids(some)], must_not=[written]))
            steps.append(models.DeleteOperation(delete=gone))
        self.ask("batch_update_points", steps)

    def _points(self, ids: Sequence[str], payload: Any, vectors: bool = False) -> Iterator[Any]:
        for some in _pieces(ids, _IDS):
            yield from self._scroll(_models().Filter(must=[_with_ids(some), _filter()]), payload, vectors)

    def _scroll(self, chosen: Any, payload: Any, vectors: bool = False) -> Iterator[Any]:
        request: dict[str, Any] = {"scroll_filter": chosen, "limit": _PAGE, "with_payload": payload, "offset": None}
        while True:
            points, request["offset"] = self.ask("scroll", with_vectors=vectors, **request)
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
    models = _models()
    return models.FieldCondition(key="id", match=models.MatchAny(any=list(ids)))


def _equal(key: str, value: Any) -> Any:
    models = _models()
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _filter(where: Sequence[Filter] = (), schema: pa.Schema | None = None) -> Any:
    """A filter of the points of complete writes that fit, by filters that must have been `checked`.

    Raises:
        ValueError: for the order of texts or of large whole numbers, or parts of texts, which Qdrant does not know.
    """
    models = _models()

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
            fits = [_equal(key, one) for one in values]
        if operator.startswith("not") or operator == "!=":
            return models.Filter(must_not=[*fits, unknown])
        return models.Filter(should=[*fits])

    def join(kind: type, parts: list[Any]) -> Any:
        return models.Filter(must=parts) if kind is And else models.Filter(should=parts)

    shown = models.IsEmptyCondition(is_empty=models.PayloadField(key="pending"))
    return models.Filter(must=[shown, translate(where, leaf, join)] if where else [shown])
