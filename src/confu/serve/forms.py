"""A request's inputs and fields, the same whether they came as a form or as JSON."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from starlette.requests import Request

from confu.data.readers import Reader
from confu.serve.contents import checked_content
from confu.serve.limits import Place
from confu.serve.parts import Part, read_parts
from confu.serve.problems import Problem
from confu.serve.settings import ServeSettings

_MIB = 2**20
_FIELD_BYTES = 200_000
_REPEATED = ("where", "exclude")
_MOST_PARTS = 200


@dataclass
class Form:
    """What a request holds.

    Attributes:
        inputs: modality -> bytes of a file, a text, or numbers, not checked yet.
        fields: all else, as JSON values; `where` and `exclude` are lists.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


async def read_form(request: Request, place: Place, readers: Mapping[str, Reader], known: tuple[str, ...],
                    settings: ServeSettings) -> Form:  # fmt: skip
    """Read a request while it comes.

    Args:
        request: `multipart/form-data`, or `application/json`.
        place: counts its bytes.
        readers: by modality.
        known: names of fields.
        settings: with the limits.

    Raises:
        Problem: for another type, too much of it, a name that is not known, or one that comes twice.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    body = place.body(request, settings.max_request_mb)
    if kind == "multipart/form-data":
        return _of_parts(
            await read_parts(body, content_type, _MOST_PARTS, settings.max_upload_mb * _MIB), readers, known
        )
    if kind == "application/json":
        content = bytearray()
        async for chunk in body:
            content += chunk
        return _of_json(bytes(content), readers, known, settings)
    raise Problem(415, "wrong_type", f"send multipart/form-data or application/json; got {kind[:80]!r} as Content-Type")


def check_inputs(form: Form, readers: Mapping[str, Reader], settings: ServeSettings) -> dict[str, Any]:
    """The inputs, each within the limits of its kind."""
    return {name: checked_content(name, value, readers[name], settings) for name, value in form.inputs.items()}


def _of_parts(parts: list[Part], readers: Mapping[str, Reader], known: tuple[str, ...]) -> Form:
    form = Form()
    for part in parts:
        _check_name(part.name, readers, known)
        if part.name in readers:
            if part.name in form.inputs:
                raise Problem(422, "twice", f"{part.name} is there twice; send one of it", part.name)
            form.inputs[part.name] = bytes(part.data)
            part.data.clear()
            continue
        if len(part.data) > _FIELD_BYTES:
            raise Problem(413, "too_large", f"{part.name}: more than {_FIELD_BYTES} bytes", part.name)
        try:
            value = part.data.decode()
        except UnicodeDecodeError as error:
            raise Problem(422, "not_a_text", f"{part.name}: the bytes are not UTF-8", part.name) from error
        if part.name in _REPEATED:
            form.fields.setdefault(part.name, []).append(value)
        elif part.name in form.fields:
            raise Problem(422, "twice", f"{part.name} is there twice; send one of it", part.name)
        else:
            form.fields[part.name] = value
    return form


def _of_json(content: bytes, readers: Mapping[str, Reader], known: tuple[str, ...], settings: ServeSettings) -> Form:
    try:
        found = json.loads(content.decode(), parse_constant=_no_constant)
        if b"\\ud" in content.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored or searched
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_json", "the body is not JSON in UTF-8") from error
    if not isinstance(found, dict):
        raise Problem(422, "bad_json", 'the body must be an object, e.g. {"text": "a red bird", "target": "image"}')
    form = Form()
    for name, value in found.items():
        _check_name(name, readers, known)
        if value is None:
            continue
        if name in readers:
            form.inputs[name] = _decoded(name, value, settings) if isinstance(value, dict) else value
        else:
            form.fields[name] = [value] if name in _REPEATED and isinstance(value, str) else value
    return form


def _decoded(name: str, value: dict[str, Any], settings: ServeSettings) -> bytes:
    text = value.get("base64")
    if set(value) != {"base64"} or not isinstance(text, str):
        raise Problem(422, "bad_base64", f'{name}: an object must be {{"base64": "..."}}', name)
    if len(text) * 3 / 4 > settings.max_upload_mb * _MIB + 3:
        raise Problem(413, "too_large", f"{name}: more than {settings.max_upload_mb:g} MiB; send less", name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "bad_base64", f"{name}: not readable as base64", name) from error


def _check_name(name: str, readers: Mapping[str, Reader], known: tuple[str, ...]) -> None:
    if name in readers or name in known:
        return
    close = get_close_matches(name, [*readers, *known], n=1)
    advice = f"did you mean {close[0]!r}" if close else f"there are {', '.join([*readers, *known])}"
    raise Problem(422, "unknown_field", f"there is no modality or field {name[:80]!r}; {advice}", name[:80])


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
