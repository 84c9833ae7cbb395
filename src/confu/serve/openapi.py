"""What OpenAPI says of the bodies, which depend on the modalities of the collection."""

from collections.abc import Mapping
from typing import Any

from confu.data.readers import Reader
from confu.serve.schemas import ErrorOut

_TEXT, _FILE = {"type": "string"}, {"type": "string", "format": "binary"}
_BASE64 = {
    "type": "object",
    "properties": {"base64": {"type": "string", "format": "byte"}},
    "required": ["base64"],
    "additionalProperties": False,
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_JSON = {
    "image": _BASE64, "audio": _BASE64, "video": _BASE64, "text": _TEXT, "vector": _NUMBERS,
    "sequence": {"type": "array", "items": _NUMBERS}, "number": {"type": "number"},
}  # fmt: skip
_FIELDS: dict[str, dict[str, Any]] = {
    "target": {"type": "string", "description": "the subset that is sought, e.g. text"},
    "k": {"type": "integer", "minimum": 1, "default": 10},
    "where": {"type": "array", "items": _TEXT, "description": 'conditions on metadata, e.g. "year >= 2020"'},
    "weights": {
        "type": "object", "additionalProperties": {"type": "number"},
        "description": 'subset -> its share of the query, e.g. {"image": 0.3, "image+audio": 0.7}; in a form as JSON',
    },
    "singles": {"type": "boolean", "default": False, "description": "search by each single input and their mean too"},
    "exclude": {"type": "array", "items": _TEXT, "description": "ids to leave out"},
    "id": {"type": "string", "description": "ask by an item of the index instead of inputs"},
    "subset": {"type": "string", "description": "which of the modalities ask"},
    "labels": {
        "anyOf": [
            {"type": "array", "items": _TEXT},
            {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}},
        ],
        "description": "names, or name -> prompts; in a form as JSON or one a line",
    },
    "template": {"type": "string", "default": "{}", "description": "of a prompt; {} stands for the label"},
}  # fmt: skip
_REQUIRED = {"labels"}


def body_of(readers: Mapping[str, Reader], fields: tuple[str, ...]) -> dict[str, Any]:
    """The body of an address, as a form and as JSON.

    Args:
        readers: modality -> its reader.
        fields: their names.
    """
    own = {name: _FIELDS[name] for name in fields}
    kinds = {name: reader.modality_kind for name, reader in readers.items()}
    form = {name: _TEXT if kind in ("text", "number") else _FILE for name, kind in kinds.items()}
    plain = {name: _JSON[kind] for name, kind in kinds.items()}
    required = {"required": sorted(_REQUIRED & set(fields))} if _REQUIRED & set(fields) else {}
    return {
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "object", "properties": {**inputs, **own}, **required,
                                  "additionalProperties": False}}
                for kind, inputs in (("multipart/form-data", form), ("application/json", plain))
            },
        }
    }  # fmt: skip


def errors_of(*statuses: int) -> dict[int | str, Any]:
    """Every error in one form."""
    return {status: {"model": ErrorOut} for status in statuses}


DOCS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>API</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
pre{overflow:auto;padding:1rem;border:1px solid}</style>
<h1>API</h1>
<p>Every address with its inputs and answers stands in <a href="openapi.json">openapi.json</a>, which any OpenAPI
viewer shows. In short:</p>
<pre>
POST /v1/search     one part a modality, and target, k, where, weights, singles, exclude; or id and subset
POST /v1/embed      one part a modality; subset
POST /v1/classify   one part a modality, and labels, template, weights
GET  /v1/about      what can be asked with, what can be sought, the limits
GET  /v1/items/ID   an item; /v1/items/ID/media?modality=M its file
GET  /v1/map        where the items lie in a plane
GET  /healthz /readyz /metrics
</pre>
<pre>
curl SERVER/v1/search -F image=@bird.jpg -F audio=@song.wav -F target=text -F k=5
curl SERVER/v1/search -H 'Content-Type: application/json' -d '{"text": "a red bird", "target": "image"}'
</pre>
<p>An error is {"error": {"code", "message", "field"}}.</p>
</html>
"""
