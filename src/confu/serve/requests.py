"""The body of a request: inputs by modality and fields, the same from a form or from JSON."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError
from starlette.requests import Request

from confu.data.readers import Reader
from confu.serve.errors import RequestError
from confu.serve.limits import Reservation
from confu.serve.multipart import read_parts
from confu.serve.settings import ServeSettings

_MIB = 2**20
_FIELD_BYTES = 200_000
_REPEATED = ("where", "exclude")


def _parse_json(value: Any) -> Any:
    """A field of a form is text: JSON."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.strip() else None


def _parse_labels(value: Any) -> Any:
    """Labels in a form: JSON, or one a line."""
    if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return _parse_json(value)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isascii()):
        raise ValueError("not a number")
    return value


def _no_boolean_values(value: Any) -> Any:
    if isinstance(value, dict) and not all(type(weight) in (int, float) for weight in value.values()):
        raise ValueError("not numbers")
    return value


Text = Annotated[str, StringConstraints(strict=True, max_length=1000)]
OptionalText = Annotated[Text | None, BeforeValidator(lambda value: None if value == "" else value)]
Weights = Annotated[
    dict[str, Annotated[float, Field(gt=-1e30, lt=1e30)]] | None,
    Field(max_length=100, description='subset -> its share of the query, e.g. {"image": 0.3}; in a form as JSON'),
    BeforeValidator(_no_boolean_values),
    BeforeValidator(_parse_json),
]


class SearchFields(BaseModel):
    """Fields of `/v1/search`."""

    target: Annotated[OptionalText, Field(description="the subset to search, e.g. text")] = None
    k: Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, description="number of hits")] = 10
    where: Annotated[
        list[Text], Field(description='filters on metadata, e.g. "year >= 2020 and site in (north, west)"')
    ] = []
    weights: Weights = None
    singles: Annotated[
        bool,
        BeforeValidator(lambda value: value or False),
        Field(description="search by each single input and by their mean too"),
    ] = False
    exclude: Annotated[list[Text], Field(description="ids to leave out")] = []
    fold_equal: Annotated[
        bool,
        BeforeValidator(lambda value: value or False),
        Field(description="make one hit of items with equal content; `equal` is their number"),
    ] = False
    id: Annotated[OptionalText, Field(description="query by an item of the index instead of inputs")] = None
    subset: Annotated[OptionalText, Field(description="which modalities of the item make the query")] = None


class EmbedFields(BaseModel):
    """Fields of `/v1/embed`."""

    subset: Annotated[OptionalText, Field(description="which of the modalities to embed")] = None


class ClassifyFields(BaseModel):
    """Fields of `/v1/classify`."""

    labels: Annotated[
        Sequence[Annotated[str, Field(strict=True)]] | dict[str, list[Annotated[str, Field(strict=True)]]],
        BeforeValidator(_parse_labels),
        Field(min_length=1, description="names, or name -> prompts; in a form as JSON or one a line"),
    ]
    template: Annotated[OptionalText, Field(description="of a prompt; {} stands for the label")] = None
    weights: Weights = None


_EXPECTED = {
    "k": "a whole number from 1 to {max_k}",
    "singles": "true or false",
    "fold_equal": "true or false",
    "weights": 'an object or its JSON, such as {{"image": 0.3, "image+audio": 0.7}}',
    "where": "texts of at most 1000 characters",
    "exclude": "texts of at most 1000 characters",
    "labels": 'names as JSON, ["dog", "cat"], or {{"dog": ["a photo of a dog"], ...}}',
}


Fields = TypeVar("Fields", bound=BaseModel)


async def read_body(
    request: Request,
    reservation: Reservation,
    readers: Mapping[str, Reader],
    model: type[Fields],
    settings: ServeSettings,
) -> tuple[dict[str, Any], Fields]:
    """Read a request while it arrives.

    Args:
        request: `multipart/form-data`, or `application/json`.
        reservation: counts its bytes.
        readers: by modality.
        model: of its fields.
        settings: with the limits.

    Returns:
        modality -> bytes of a file, a text or numbers, not checked yet; and the fields.

    Raises:
        RequestError: for another type, too much of it, an unknown name or one that comes twice, a wrong field.
    """
    header = request.headers.get("content-type", "")
    kind = header.partition(";")[0].strip().lower()
    stream = reservation.body(request, settings.max_request_mb)
    if kind == "multipart/form-data":
        values = {}
        for part in await read_parts(stream, header, settings.max_upload_mb * _MIB):
            _check_name(part.name, readers, model)
            value = bytes(part.data) if part.name in readers else _field_text(part.name, part.data)
            if part.name in _REPEATED or _takes_lists(readers, part.name):
                values.setdefault(part.name, []).append(value)
            elif part.name in values:
                raise RequestError(422, "twice", f"{part.name} is there twice; send one of it", part.name)
            else:
                values[part.name] = value
            part.data.clear()
    elif kind == "application/json":
        values = _read_json(b"".join([chunk async for chunk in stream]))
        for name, value in values.items():
            _check_name(name, readers, model)
            if name in readers and isinstance(value, dict) and readers[name].modality_kind != "table":
                values[name] = _read_base64(name, value, settings)
            elif _takes_lists(readers, name) and isinstance(value, list):
                values[name] = [_read_base64(name, one, settings) if isinstance(one, dict) else one for one in value]
            elif name in _REPEATED and isinstance(value, str):
                values[name] = [value]
    else:
        message = f"send multipart/form-data or application/json; got {kind[:80]!r} as Content-Type"
        raise RequestError(415, "wrong_type", message)
    inputs = {name: values.pop(name) for name in list(values) if name in readers}
    return inputs, _parse_fields(model, values, settings)


def _takes_lists(readers: Mapping[str, Reader], name: str) -> bool:
    """Whether an item of this modality may be several files."""
    return name in readers and "list" in readers[name].settings


def _field_text(name: str, data: bytearray) -> str:
    if len(data) > _FIELD_BYTES:
        raise RequestError(413, "too_large", f"{name}: more than {_FIELD_BYTES} bytes", name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestError(422, "not_a_text", f"{name}: the bytes are not UTF-8", name) from error


def _read_json(content: bytes) -> dict[str, Any]:
    def refuse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        values = json.loads(content.decode(), parse_constant=refuse_constant)
        if b"\\ud" in content.lower():
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored or searched
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", "the body is not JSON in UTF-8") from error
    if not isinstance(values, dict):
        message = 'the body must be an object, e.g. {"text": "a red bird", "target": "image"}'
        raise RequestError(422, "bad_json", message)
    return {name: value for name, value in values.items() if value is not None}


def _read_base64(name: str, value: dict[str, Any], settings: ServeSettings) -> bytes:
    text = value.get("base64")
    if set(value) != {"base64"} or not isinstance(text, str):
        raise RequestError(422, "bad_base64", f'{name}: an object must be {{"base64": "..."}}', name)
    if len(text) * 3 / 4 > settings.max_upload_mb * _MIB + 3:
        raise RequestError(413, "too_large", f"{name}: more than {settings.max_upload_mb:g} MiB; send less", name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(422, "bad_base64", f"{name}: not readable as base64", name) from error


def _check_name(name: str, readers: Mapping[str, Reader], model: type[BaseModel]) -> None:
    known = [*readers, *model.model_fields]
    if name not in known:
        close = get_close_matches(name, known, n=1)
        advice = f"did you mean {close[0]!r}" if close else f"there are {', '.join(known)}"
        message = f"there is no modality or field {name[:80]!r}; {advice}"
        raise RequestError(422, "unknown_field", message, name[:80])


def _parse_fields(model: type[Fields], values: dict[str, Any], settings: ServeSettings) -> Fields:
    try:
        fields = model.model_validate(values)
        if getattr(fields, "k", 1) > settings.max_k:
            raise RequestError(422, "bad_k", _expected("k", values["k"], settings), "k")
    except (ValidationError, RecursionError) as error:
        deep = "labels" if "labels" in values else "weights"  # JSON nested too deeply to be read
        name = str(error.errors()[0]["loc"][0]) if isinstance(error, ValidationError) else deep
        raise RequestError(422, f"bad_{name}", _expected(name, values.get(name), settings), name) from error
    return fields


def _expected(name: str, value: Any, settings: ServeSettings) -> str:
    expected = _EXPECTED.get(name, "a text of at most 1000 characters").format(max_k=settings.max_k)
    return f"{name}: expected {expected}; got {str(value)[:80]!r}"


_JSON_INPUTS: dict[str, dict[str, Any]] = {
    "file": {
        "type": "object",
        "properties": {"base64": {"type": "string", "format": "byte"}},
        "required": ["base64"],
        "additionalProperties": False,
    },
    "text": {"type": "string"},
    "vector": {"type": "array", "items": {"type": "number"}},
    "sequence": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "number": {"type": "number"},
    "table": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
}


def openapi_body(readers: Mapping[str, Reader], model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body with the modalities of a collection, as a form and as JSON."""
    kinds = {name: reader.modality_kind for name, reader in readers.items()}
    as_json = {name: _JSON_INPUTS.get(kind, _JSON_INPUTS["file"]) for name, kind in kinds.items()}
    for name in kinds:
        if _takes_lists(readers, name):
            as_json[name] = {"anyOf": [as_json[name], {"type": "array", "items": as_json[name], "minItems": 1}]}
    as_form = {
        name: {"type": "string"} if kind in ("text", "number", "table") else {"type": "string", "format": "binary"}
        for name, kind in kinds.items()
    }
    schema = {**model.model_json_schema(), "additionalProperties": False}
    content = {
        kind: {"schema": {**schema, "properties": {**inputs, **schema["properties"]}}}
        for kind, inputs in (("multipart/form-data", as_form), ("application/json", as_json))
    }
    return {"requestBody": {"required": True, "content": content}}
