"""Read the parts of a multipart request as they come, and stop as soon as they are too many or too long."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from confu.serve.problems import Problem

_MOST_HEADERS = 4096  # bytes of a part's own headers
_MIB = 2**20


@dataclass
class Part:
    """One part of a form.

    Attributes:
        name: of the field.
        filename: as the client calls it, if it is a file; only its ending is looked at.
        data: its bytes.
    """

    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)


async def read_parts(stream: AsyncIterator[bytes], content_type: str, most_parts: int, most_bytes: float) -> list[Part]:
    """The parts of a `multipart/form-data` body.

    Args:
        stream: of the body.
        content_type: the header, with the boundary.
        most_parts: parts.
        most_bytes: of one part.

    Raises:
        Problem: for a body that is not of this form, or too much of anything.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 200:
        raise _malformed("its Content-Type names no boundary")
    reading = _Reading(most_parts, most_bytes)
    parser = MultipartParser(boundary, reading.callbacks())
    try:
        async for chunk in stream:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not reading.ended:
        raise _malformed("it ends in the middle")
    return reading.parts


class _Reading:
    """What the parser has found so far."""

    def __init__(self, most_parts: int, most_bytes: float) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most_parts, self._most_bytes = most_parts, most_bytes
        self._headers: dict[bytes, bytes] = {}
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._header_bytes = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_part(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_part(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._most_parts:
            raise Problem(413, "too_many_parts", f"the form has more than {self._most_parts} parts")
        self.parts.append(Part())
        self._headers, self._header_bytes = {}, 0

    def _header_part(self, which: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _MOST_HEADERS:
            raise Problem(413, "too_large", f"the headers of a part have more than {_MOST_HEADERS} bytes")
        self._header[which].extend(data)

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if b"name" not in options:
            raise _malformed("a part has no name in its Content-Disposition")
        self.parts[-1].name = options[b"name"].decode("utf-8", "replace")[:200]
        if b"filename" in options:
            self.parts[-1].filename = options[b"filename"].decode("utf-8", "replace")[:200]

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if len(part.data) + end - start > self._most_bytes:
            raise Problem(
                413, "too_large", f"{part.name}: more than {self._most_bytes / _MIB:g} MiB; send less", part.name
            )
        part.data += data[start:end]

    def _end(self) -> None:
        self.ended = True


def _malformed(why: str) -> Problem:
    return Problem(400, "bad_form", f"the body is not readable as multipart/form-data: {why}")
