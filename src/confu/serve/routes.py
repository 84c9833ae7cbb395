"""The routes under `/v1`, and those of a monitor: health, readiness, metrics."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from confu.index import Hit, Item
from confu.search import Query as SearchQuery
from confu.search import QueryError
from confu.search.plane import Plane
from confu.search.query import SearchOptions, label_prompts
from confu.serve.errors import RequestError, busy
from confu.serve.media import SIZES, file_response, local_file, numbers_response, thumbnail
from confu.serve.metrics import TYPE
from confu.serve.requests import ClassifyFields, EmbedFields, SearchFields, openapi_body
from confu.serve.schemas import (
    AboutOut,
    ClassifyOut,
    EmbedOut,
    ErrorOut,
    HitOut,
    InputOut,
    ItemOut,
    LabelOut,
    MapOut,
    SearchOut,
    StateOut,
)
from confu.serve.service import Located, Service

LIMITS = (
    "max_upload_mb",
    "max_request_mb",
    "max_pixels",
    "max_seconds_audio",
    "max_seconds_video",
    "max_text",
    "max_numbers",
    "max_k",
    "timeout_s",
)


def _errors(*statuses: int) -> dict[int | str, Any]:
    return {status: {"model": ErrorOut} for status in statuses}


def _json(answer: BaseModel) -> Response:
    """As JSON, without validating it a second time."""
    return Response(answer.model_dump_json(), media_type="application/json")


def query_routes(service: Service) -> APIRouter:
    """`/v1/search`, `/v1/embed`, `/v1/classify`."""
    routes = APIRouter(responses=_errors(400, 408, 413, 415, 422, 503, 504), tags=["query"])
    collection = service.collection

    @routes.post("/v1/search", response_model=SearchOut, openapi_extra=openapi_body(service.readers, SearchFields))
    async def search(request: Request) -> Response:
        """The items whose embeddings of `target` are nearest to any combination of inputs."""
        start = time.perf_counter()

        async def work(inputs: dict[str, Any], fields: SearchFields) -> Response:
            if fields.id is not None and inputs:
                raise RequestError(422, "bad_id", "id: query by an item or by inputs, not by both", "id")
            options = SearchOptions(
                fields.target, fields.k, fields.where, fields.weights, fields.singles, fields.exclude, fields.fold_equal
            )

            def make_query(items: dict[str, Any]) -> SearchQuery:
                if fields.id is None:
                    return collection.query(items, options)
                return collection.query_of_item(fields.id, fields.subset or "", options)

            answer = _search_out(service, await service.search(inputs, make_query), start)
            return _json(answer.model_copy(update={"cut": list(collection.cut(inputs))}))

        return await service.respond(request, SearchFields, work)

    @routes.post("/v1/embed", response_model=EmbedOut, openapi_extra=openapi_body(service.readers, EmbedFields))
    async def embed(request: Request) -> Response:
        """The unit vector of any combination of inputs that the model embeds."""

        async def work(inputs: dict[str, Any], fields: EmbedFields) -> Response:
            located = await service.search(inputs, lambda items: collection.vector_query(items, fields.subset))
            vector = located.result.vector.tolist()
            subset, cut = str(located.result.query), list(collection.cut(inputs))
            return _json(EmbedOut(subset=subset, dim=len(vector), vector=vector, cut=cut))

        return await service.respond(request, EmbedFields, work)

    classify_body = openapi_body(service.readers, ClassifyFields)

    @routes.post("/v1/classify", response_model=ClassifyOut, openapi_extra=classify_body)
    async def classify(request: Request) -> Response:
        """Labels of the client's own, ranked by how well their prompts fit the inputs."""

        async def work(inputs: dict[str, Any], fields: ClassifyFields) -> Response:
            prompts = label_prompts(fields.labels, fields.template or "{}")
            if any(len(prompt) > service.settings.max_text for texts in prompts.values() for prompt in texts):
                raise QueryError("labels: a prompt is too long", "labels", "text_too_long")
            located = await service.search(inputs, lambda items: collection.vector_query(items, None, fields.weights))
            ranked = await service.in_thread(collection.rank_labels, located.result.vector, prompts)
            labels = [LabelOut(label=label, score=score, probability=share) for label, score, share in ranked]
            cut = list(collection.cut(inputs))
            return _json(ClassifyOut(query=str(located.result.query), labels=labels, cut=cut))

        return await service.respond(request, ClassifyFields, work)

    return routes


def read_routes(service: Service) -> APIRouter:
    """`/v1/about`, `/v1/items`, `/v1/map`, health, readiness and metrics."""
    routes, collection = APIRouter(), service.collection

    @routes.get("/v1/about", tags=["read"])
    async def about() -> AboutOut:
        """Which inputs and targets there are, and the limits."""
        return await service.in_thread(_about, service)

    @routes.head("/v1/items/{id:path}/media", include_in_schema=False)
    @routes.get("/v1/items/{id:path}/media", tags=["read"], responses=_errors(404, 422), response_class=Response)
    async def media(
        id: str,
        modality: str,
        size: int | None = Query(None, ge=SIZES[0], le=SIZES[1], description="of a picture: make it fit a square"),
    ) -> Response:
        """The file of an item: a picture, a sound, a video as it is; vectors and sequences as JSON numbers."""
        return await service.in_thread(_media, service, id, modality, size)

    @routes.get("/v1/items/{id:path}", tags=["read"], responses=_errors(404, 422))
    async def item(id: str) -> ItemOut:
        """What the index holds of an item."""
        stored = await service.in_thread(_item, service, id)
        subsets = [str(subset) for subset in stored.subsets]
        return ItemOut(id=id, metadata=stored.metadata, media=_media_links(id, stored.media, service), subsets=subsets)

    @routes.get("/v1/map", response_model=MapOut, tags=["read"], responses=_errors(404, 422))
    async def map(subset: str | None = Query(None, description="one that is stored; the first by default")) -> Response:
        """The items in the plane of their first two principal components."""
        plane = await service.in_thread(_plane, service, subset)
        shares = plane.projection.shares
        return _json(MapOut(subset=str(plane.subset), method="pca", shares=shares, items=plane.items))

    @routes.get("/healthz", tags=["monitor"])
    async def healthz() -> StateOut:
        """Whether the process answers."""
        return StateOut(status="ok")

    @routes.get("/readyz", tags=["monitor"], responses=_errors(503))
    async def readyz() -> StateOut:
        """Whether queries are answered."""
        if service.admission.closed or not service.batcher.alive:
            raise busy("the server is stopping", 5)
        await service.in_thread(len, collection.index)
        return StateOut(status="ready")

    @routes.get("/metrics", tags=["monitor"], response_class=Response)
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(await service.in_thread(service.metrics.text), media_type=TYPE)

    return routes


def _search_out(service: Service, located: Located, start: float) -> SearchOut:
    result, places = located

    def hits(found: Sequence[Hit]) -> list[HitOut]:
        return [
            HitOut(
                id=hit.id,
                score=hit.score,
                metadata=hit.metadata,
                media=_media_links(hit.id, hit.media, service),
                point=places.get(hit.id),
                equal=hit.equal,
            )
            for hit in found
        ]

    return SearchOut(
        query=str(result.query),
        target=str(result.target),
        hits=hits(result.hits),
        singles={name: hits(single) for name, single in result.singles.items()},
        mean=hits(result.mean),
        point=places.get(None),
        took_ms=round(1000 * (time.perf_counter() - start), 2),
    )


def _media_links(id: str, media: Mapping[str, str], service: Service) -> dict[str, str]:
    """Modality -> the address of its file on this server; of a text, the text itself."""
    kinds, item = service.collection.index.about.kinds, f"{service.settings.root_path}/v1/items/{quote(id, safe='')}"
    return {
        name: value if kinds.get(name) == "text" else f"{item}/media?modality={quote(name)}"
        for name, value in media.items()
    }


def _about(service: Service) -> AboutOut:
    index, embedder = service.collection.index, service.collection.embedder
    inputs = {}
    for name, reader in embedder.readers.items():
        kind, dim = reader.modality_kind, reader.settings.get("dim")
        shape = {"vector": [dim], "sequence": [None, dim], "number": []}.get(kind)
        inputs[name] = InputOut(kind=kind, shape=shape, dim=dim if kind in ("vector", "sequence") else None)
    return AboutOut(
        name=index.folder.resolve().name,
        modalities={name: reader.modality_kind for name, reader in embedder.readers.items()},
        subsets=[str(subset) for subset in embedder.subsets],
        stored=[str(subset) for subset in index.about.subsets],
        items=len(index),
        columns={field.name: _column_kind(field.type) for field in index.schema},
        labels=None if embedder.parts.class_names is None else list(embedder.parts.class_names),
        limits={name: getattr(service.settings, name) for name in LIMITS},
        read_only=True,
        inputs=inputs,
    )


def _column_kind(kind: pa.DataType) -> str:
    types = pa.types
    for name, fits in (
        ("boolean", types.is_boolean),
        ("integer", types.is_integer),
        ("number", types.is_floating),
        ("date", types.is_date),
        ("time", types.is_timestamp),
        ("time of day", types.is_time),
        ("list", types.is_list),
    ):
        if fits(kind):
            return name
    return "text"


def _item(service: Service, id: str) -> Item:
    try:
        return service.collection.index.get(id)
    except KeyError as error:
        raise RequestError(404, "unknown_item", "the index has no item of this id", "id") from error


def _media(service: Service, id: str, modality: str, size: int | None) -> Response:
    item, index = _item(service, id), service.collection.index
    address = item.media.get(modality)
    if address is None:
        present = ", ".join(item.media) or "none"
        raise RequestError(404, "no_media", f"modality: this item has no file of it; it has {present}", "modality")
    kind = index.about.kinds.get(modality)
    if kind == "text":
        return Response(address, media_type="text/plain; charset=utf-8")
    if kind == "table":
        return Response(address, media_type="application/json")
    if kind in ("vector", "sequence", "number"):
        return numbers_response(address, index.folder)
    path = local_file(address, index.folder)
    if size is not None and kind == "image":
        return thumbnail(path, size, service.settings.max_pixels)
    return file_response(path)


def _plane(service: Service, subset: str | None) -> Plane:
    collection = service.collection
    try:
        return collection.plane(collection.index.about.subsets[0] if subset is None else subset)
    except QueryError:
        raise
    except ValueError as error:
        raise RequestError(404, "no_map", str(error), "subset") from error
