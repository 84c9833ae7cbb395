"""Items as points of Qdrant, and back; conditions as its filters.

A point holds a named vector a subset, and a payload:

    id         of the item
    row        a number that grows, for the order in which items came
    metadata   c0, c1, ...: the columns by number; dates as days and times as microseconds since 1970; unknown: left out
    media      modality -> address or text
    write      which write brought it
    pending    true until that write is complete; nobody sees it before
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from confu.embeddings import EmbeddingTable
from confu.index.columns import cast_columns
from confu.index.conditions import Condition
from confu.index.items import Items
from confu.plan import Subset

_NAMES = uuid.UUID("6f1d6f0e-4b8e-5d2c-9a51-0c0f5a7e2b11")
_EXACT = 1 << 53  # whole numbers below are floats, too


def points_of(items: Items, schema: pa.Schema, write: str, first_row: int) -> Iterator[Any]:
    """The points of items, not yet to be seen."""
    from qdrant_client import models

    columns = [_plain(column).to_pylist() for column in cast_columns(items.metadata, schema, len(items)).columns]
    table = items.table
    vectors = [(str(subset), table[subset].tolist(), table.complete[subset].tolist()) for subset in table.subsets]
    for row, id in enumerate(table.ids):
        known = {f"c{number}": column[row] for number, column in enumerate(columns) if column[row] is not None}
        media = {name: column[row] for name, column in items.media.items() if column[row] is not None}
        yield models.PointStruct(
            id=str(uuid.uuid5(_NAMES, f"{write} {id}")),
            vector={name: values[row] for name, values, there in vectors if there[row]},
            payload={
                "id": id, "row": first_row + row, "metadata": known, "media": media, "write": write, "pending": True,
            },
        )  # fmt: skip


def items_of(points: Sequence[Any], subsets: Sequence[Subset], dim: int, schema: pa.Schema) -> Items:
    """The items of points that came with their vectors."""
    vectors, complete = {}, {}
    for subset in subsets:
        held = [(point.vector or {}).get(str(subset)) for point in points]
        complete[subset] = torch.tensor([one is not None for one in held], dtype=torch.bool)
        vectors[subset] = torch.zeros(len(points), dim)
        if there := [one for one in held if one is not None]:
            vectors[subset][complete[subset]] = torch.tensor(there)
    metadata = {
        field.name: _typed([point.payload["metadata"].get(f"c{number}") for point in points], field.type)
        for number, field in enumerate(schema)
    }
    names = dict.fromkeys(name for point in points for name in point.payload["media"])
    media = {name: [point.payload["media"].get(name) for point in points] for name in names}
    return Items(
        EmbeddingTable(tuple(point.payload["id"] for point in points), vectors, complete), pa.table(metadata), media
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_date(column.type):
        return column.cast(pa.int32())
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_date(kind):
        return pa.array(values, pa.int32()).cast(kind)
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)


def seen(conditions: Sequence[Condition] = (), schema: pa.Schema | None = None) -> Any:
    """A filter of the points of complete writes that fit all conditions, which must have been `checked`.

    Raises:
        ValueError: for the order of texts or of truth values, which Qdrant does not know.
    """
    from qdrant_client import models

    must: list[Any] = [models.IsEmptyCondition(is_empty=models.PayloadField(key="pending"))]
    must_not: list[Any] = []
    for condition in conditions:
        assert schema is not None
        key = f"metadata.c{schema.get_field_index(condition.column)}"
        kind = schema.field(condition.column).type
        _check_order(condition, kind)
        values = condition.value if condition.operator == "in" else (condition.value,)
        plain = [one.as_py() for one in _plain(pa.chunked_array([pa.array(values)]))] if _is_time(kind) else values
        if condition.operator in ("==", "in", "!="):
            equal = models.Filter(should=[_equal(key, one) for one in plain])
            (must_not if condition.operator == "!=" else must).append(equal)
        else:
            side = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[condition.operator]
            must.append(models.FieldCondition(key=key, range=models.Range(**{side: float(plain[0])})))
        must_not.append(models.IsEmptyCondition(is_empty=models.PayloadField(key=key)))
    return models.Filter(must=must, must_not=must_not)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def _equal(key: str, value: Any) -> Any:
    from qdrant_client import models

    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 1 << 63):
        return models.FieldCondition(key=key, range=models.Range(gte=float(value), lte=float(value)))
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _check_order(condition: Condition, kind: pa.DataType) -> None:
    ordered = condition.operator in ("<", "<=", ">", ">=")
    if ordered and (pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        what = "texts" if pa.types.is_string(kind) else "truth values"
        raise ValueError(f"{condition}: Qdrant knows no order of {what}; ask with ==, != or in, or use another store")
    if ordered and isinstance(condition.value, int) and abs(condition.value) > _EXACT and pa.types.is_integer(kind):
        raise ValueError(f"{condition}: Qdrant orders whole numbers up to {_EXACT} only; ask with ==, != or in")


def with_ids(ids: Sequence[str], without_write: str | None = None) -> Any:
    """A filter of the points of these ids, but for those of one write."""
    from qdrant_client import models

    must_not = None if without_write is None else [of_write(without_write)]
    chosen = models.FieldCondition(key="id", match=models.MatchAny(any=list(ids)))
    return models.Filter(must=[chosen], must_not=must_not)


def of_write(write: str) -> Any:
    """A condition that holds for the points of one write."""
    from qdrant_client import models

    return models.FieldCondition(key="write", match=models.MatchValue(value=write))


def pieces(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Parts of a list, of at most this size, so that no request grows without bound."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


def settings_of(options: Mapping[str, Any]) -> dict[str, int]:
    """The options that are numbers, checked.

    Raises:
        ValueError: for one that is out of bounds.
    """
    limits = {"m": (16, 2, 256), "ef_build": (100, 4, 4096), "ef": (128, 1, 1 << 16), "timeout": (30, 1, 86_400),
              "shards": (1, 1, 4096), "replicas": (1, 1, 64)}  # fmt: skip
    settings = {}
    for name, (usual, least, most) in limits.items():
        value = options.get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"option {name} must be a whole number from {least} to {most}; got {value!r}")
        settings[name] = value
    return settings
