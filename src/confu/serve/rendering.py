"""Items as JSON: addresses of this server in the place of those of its files."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from pydantic import BaseModel
from starlette.responses import Response

from confu.index.items import Hit
from confu.serve.schemas import HitOut
from confu.serve.service import Service


def hits_out(hits: Sequence[Hit], service: Service, places: Mapping[str | None, tuple[float, float]]) -> list[HitOut]:
    """Hits, each with its place in the map if that is known."""
    return [
        HitOut(
            id=hit.id,
            score=hit.score,
            metadata=hit.metadata,
            media=media_out(hit.id, hit.media, service),
            point=places.get(hit.id),
        )
        for hit in hits
    ]


def media_out(id: str, media: Mapping[str, str], service: Service) -> dict[str, str]:
    """Modality -> where this server gives its file; the text itself of a text."""
    kinds = service.collection.index.about.kinds
    return {
        name: value if kinds.get(name) == "text" else f"/v1/items/{quote(id, safe='')}/media?modality={quote(name)}"
        for name, value in media.items()
    }


def json_of(answer: BaseModel) -> Response:
    """An answer as JSON, without checking it a second time."""
    return Response(answer.model_dump_json(), media_type="application/json")
