"""`/v1/about`, `/v1/items`, `/v1/map`, and what watches over a server asks: health, readiness, metrics."""

from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Query
from starlette.responses import Response

from confu.data.readers import Reader
from confu.index import Item
from confu.plan import Subset
from confu.search import QueryError
from confu.search.plane import Plane
from confu.serve.limits import busy
from confu.serve.media import SIZES, file_response, local_file, numbers_response, thumbnail
from confu.serve.metrics import TYPE
from confu.serve.problems import Problem
from confu.serve.rendering import json_of, media_out
from confu.serve.schemas import AboutOut, InputOut, ItemOut, MapOut, StateOut
from confu.serve.service import Service

_LIMITS = (
    "max_upload_mb", "max_request_mb", "max_pixels", "max_seconds_audio", "max_seconds_video", "max_text",
    "max_numbers", "max_k", "timeout_s",
)  # fmt: skip


def telling_routes(service: Service, errors: dict[int | str, Any]) -> APIRouter:
    """The addresses that only tell.

    Args:
        service: with the collection.
        errors: what OpenAPI says of errors.
    """
    routes, collection = APIRouter(), service.collection

    @routes.get("/v1/about", tags=["tell"])
    async def about() -> AboutOut:
        """What can be asked with, what can be sought, and the limits."""
        return await service.in_thread(_about, service)

    @routes.head("/v1/items/{id:path}/media", include_in_schema=False)
    @routes.get("/v1/items/{id:path}/media", tags=["tell"], responses=errors, response_class=Response)
    async def media(
        id: str,
        modality: str,
        size: int | None = Query(None, ge=SIZES[0], le=SIZES[1], description="of a picture: make it fit a square"),
    ) -> Response:
        """The file of an item: a picture, a sound, a video as it is; vectors and sequences as JSON numbers."""
        return await service.in_thread(_media, service, id, modality, size)

    @routes.get("/v1/items/{id:path}", tags=["tell"], responses=errors)
    async def item(id: str) -> ItemOut:
        """What the index knows of an item."""
        found = await service.in_thread(_item, service, id)
        return ItemOut(
            id=id, metadata=found.metadata, media=media_out(id, found.media, service),
            subsets=[str(one) for one in found.subsets],
        )  # fmt: skip

    @routes.get("/v1/map", response_model=MapOut, tags=["tell"], responses=errors)
    async def map(subset: str | None = Query(None, description="one that is stored; the first by default")) -> Response:
        """Where the items lie in the plane in which they vary most."""
        plane = await service.in_thread(_plane, service, subset)
        shown = MapOut(
            subset=str(plane.subset), method="pca", shares=plane.projection.shares, items=plane.items
        )  # fmt: skip
        return json_of(shown)

    @routes.get("/healthz", tags=["watch"])
    async def healthz() -> StateOut:
        """Whether the process answers."""
        return StateOut(status="ok")

    @routes.get("/readyz", tags=["watch"], responses=errors)
    async def readyz() -> StateOut:
        """Whether questions are answered."""
        if service.admission.closed or not service.batcher.alive:
            raise busy("the server is stopping", 5)
        await service.in_thread(len, collection.index)
        return StateOut(status="ready")

    @routes.get("/metrics", tags=["watch"], response_class=Response)
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(await service.in_thread(service.metrics.text), media_type=TYPE)

    return routes


def _about(service: Service) -> AboutOut:
    collection = service.collection
    index, embedder = collection.index, collection.embedder
    return AboutOut(
        name=index.folder.resolve().name,
        modalities={name: reader.modality_kind for name, reader in embedder.readers.items()},
        subsets=[str(one) for one in embedder.subsets],
        stored=[str(one) for one in index.about.subsets],
        items=len(index),
        columns={field.name: _kind(field.type) for field in index.schema},
        labels=None if embedder.parts.class_names is None else list(embedder.parts.class_names),
        limits={name: getattr(service.settings, name) for name in _LIMITS},
        read_only=True,
        inputs={name: _input(reader) for name, reader in embedder.readers.items()},
    )


def _input(reader: Reader) -> InputOut:
    kind, dim = reader.modality_kind, reader.settings.get("dim")
    shape = {"vector": [dim], "sequence": [None, dim], "number": []}.get(kind)
    return InputOut(kind=kind, shape=shape, dim=dim if kind in ("vector", "sequence") else None)


def _kind(kind: pa.DataType) -> str:
    types = pa.types
    for name, fits in (("boolean", types.is_boolean), ("integer", types.is_integer), ("number", types.is_floating),
                       ("date", types.is_date), ("time", types.is_timestamp)):  # fmt: skip
        if fits(kind):
            return name
    return "text"


def _item(service: Service, id: str) -> Item:
    try:
        return service.collection.index.get(id)
    except KeyError as error:
        raise Problem(404, "unknown_item", "the index has no item of this id", "id") from error


def _media(service: Service, id: str, modality: str, size: int | None) -> Response:
    item, index = _item(service, id), service.collection.index
    address = item.media.get(modality)
    if address is None:
        has = ", ".join(item.media) or "none"
        raise Problem(404, "no_media", f"modality: this item has no file of it; it has {has}", "modality")
    kind = index.about.kinds.get(modality)
    if kind == "text":
        return Response(address, media_type="text/plain; charset=utf-8")
    if kind in ("vector", "sequence", "number"):
        return numbers_response(address, index.folder)
    path = local_file(address, index.folder)
    if size is not None and kind == "image":
        return thumbnail(path, size, service.settings.max_pixels)
    return file_response(path)


def _plane(service: Service, subset: str | None) -> Plane:
    collection = service.collection
    chosen: Subset | str = collection.index.about.subsets[0] if subset is None else subset
    try:
        return collection.plane(chosen)
    except QueryError:
        raise
    except ValueError as error:
        raise Problem(404, "no_map", str(error), "subset") from error
