"""Changes of an index in Qdrant."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from confu.index.about import About
from confu.index.columns import merged_schema, plain_columns
from confu.index.items import Items
from confu.index.qdrant_points import of_write, pieces, points_of, with_ids
from confu.index.qdrant_state import Link, State

_POINTS, _IDS = 256, 512  # of one request


def make_collection(link: Link, name: str, about: About, settings: Mapping[str, int]) -> None:
    """Make an empty collection.

    Raises:
        ValueError: if there is one of that name.
    """
    from qdrant_client import models

    if link.ask(lambda client: client.collection_exists(name)):
        raise ValueError(f"{link.name} has a collection {name!r} already; give another name as the option collection")
    graph = models.HnswConfigDiff(m=settings["m"], ef_construct=settings["ef_build"])
    # The vectors have length one: the inner product is the cosine, and leaves their bits as they are.
    kind = models.VectorParams(size=about.dim, distance=models.Distance.DOT, hnsw_config=graph)
    link.ask(
        lambda client: client.create_collection(
            name, {str(subset): kind for subset in about.subsets}, shard_number=settings["shards"],
            replication_factor=settings["replicas"],
        )
    )  # fmt: skip
    if not link.is_local:  # the local mode has none
        kinds = {"id": models.PayloadSchemaType.KEYWORD, "write": models.PayloadSchemaType.KEYWORD,
                 "pending": models.PayloadSchemaType.BOOL}  # fmt: skip
        for field, schema in kinds.items():
            link.ask(lambda client, field=field, schema=schema: client.create_payload_index(name, field, schema))


def put(link: Link, collection: str, folder: Path, items: Items, write: str) -> None:
    """Write items that nobody sees yet."""
    items = Items(items.table, plain_columns(items.metadata), items.media)
    before = State.read(folder)
    state = State(merged_schema(before.schema, items.metadata.schema), before.rows + len(items))
    state.write(folder)
    points = list(points_of(items, state.schema, write, before.rows))
    for some in pieces(points, _POINTS):
        link.ask(lambda client, some=some: client.upsert(collection, some))


def publish(link: Link, collection: str, write: str, replaced: Sequence[str]) -> None:
    """Show the items of a write and remove those that they replace, in one request.

    They are shown first: a server that dies in between has some items twice, but has lost none.
    """
    from qdrant_client import models

    shown = models.DeletePayload(keys=["pending"], filter=models.Filter(must=[of_write(write)]))
    steps: list = [models.DeletePayloadOperation(delete_payload=shown)]
    for some in pieces(replaced, _IDS):
        gone = models.FilterSelector(filter=with_ids(some, without_write=write))
        steps.append(models.DeleteOperation(delete=gone))
    link.ask(lambda client: client.batch_update_points(collection, steps))
