"""Read a multipart form while it arrives; stop as soon as a part is too long or there are too many.

Starlette's own parser decodes broken UTF-8 as Latin-1 and drops the last part of a body that was cut off, in silence.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from confu.serve.errors import RequestError

_MAX_PARTS = 200
_MAX_HEADER_BYTES = 4096


@dataclass
class Part:
    """One part of a form: the name of its field, and its bytes."""

    name: str = ""
    data: bytearray = field(default_factory=bytearray)


async def read_parts(stream: AsyncIterator[bytes], content_type: str, max_bytes: float) -> list[Part]:
    """The parts of a `multipart/form-data` body.

    Args:
        stream: of the body.
        content_type: the header, with the boundary.
        max_bytes: of one part.

    Raises:
        RequestError: 400 for a body that is no such form, 413 for too much of anything.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 200:
        raise _malformed("its Content-Type names no boundary")
    form = _Form(max_bytes)
    parser = MultipartParser(boundary, form.callbacks())
    try:
        async for chunk in stream:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not form.complete:
        raise _malformed("it ends in the middle")
    return form.parts


class _Form:
    """Collects parts from the parser's callbacks."""

    def __init__(self, max_bytes: float) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._max_bytes = max_bytes
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._header_bytes = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header_data(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_data(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise RequestError(413, "too_many_parts", f"the form has more than {_MAX_PARTS} parts")
        self.parts.append(Part())
        self._disposition, self._header_bytes = b"", 0

    def _header_data(self, which: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise RequestError(413, "too_large", f"the headers of a part have more than {_MAX_HEADER_BYTES} bytes")
        self._header[which].extend(data)

    def _header_end(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise _malformed("a part has no name in its Content-Disposition")
        self.parts[-1].name = options[b"name"].decode("utf-8", "replace")[:200]

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if len(part.data) + end - start > self._max_bytes:
            most = f"{self._max_bytes / 2**20:g} MiB"
            raise RequestError(413, "too_large", f"{part.name}: more than {most}; send less", part.name)
        part.data += data[start:end]

    def _end(self) -> None:
        self.complete = True


def _malformed(why: str) -> RequestError:
    return RequestError(400, "bad_form", f"the body is not readable as multipart/form-data: {why}")
