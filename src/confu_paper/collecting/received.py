"""An answer's body: read up to a limit, told from an error page, and written whole or not at all."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.files import written_whole
from confu_paper.collecting.content import HEAD, Kind, is_called, is_page, media_type, suffix_of

_CHUNK = 1 << 16


class Refused(ValueError):
    """The final answer for one item: it is not there, not what was asked for, or too large. Asking again is no use.

    Attributes:
        reason: in a few words, for a record's `outcome`.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


class Unavailable(OSError):
    """No answer for now, after every try: the server is down, overloaded, or asks to come back much later.

    Attributes:
        reason: in a few words.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{where}: {reason}; what was finished is kept, run the same again later")
        self.reason = reason


class Again(Exception):
    """This try failed in a way that passes."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


@dataclass
class HostCounts:
    """What one host was asked and gave.

    Attributes:
        requests: sent, retries and redirects among them.
        retries: requests that were sent because one before them failed.
        bytes: of bodies, as they were received, also of those that were then refused.
        waited: seconds between requests, for politeness.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    waited: float = 0.0


@dataclass(frozen=True)
class Download:
    """A file that was fetched and is whole."""

    file: Path
    bytes: int
    sha256: str


def read_all(chunks: Iterator[bytes], announced: int | None, most: int, where: str) -> bytes:
    """All of a body.

    Raises:
        Refused: more than `most` bytes, announced or not.
    """
    return b"".join(_limited(chunks, announced, most, where))


def save(
    response: Any,
    chunks: Iterator[bytes],
    stem: Path,
    kind: Kind,
    most: int,
    check: Callable[[Path], None] | None,
    where: str,
) -> Download:
    """Write a body to `stem` with the suffix that its bytes tell. Nothing stays of one that is refused or cut.

    Args:
        response: with `headers`.
        chunks: its body.
        stem: the file without its suffix.
        kind: what it must be.
        most: bytes; more are refused.
        check: raises a `ValueError` on a file that is not readable after all.
        where: for messages.

    Raises:
        Refused: another content type, other bytes, too large, or what `check` says.
        Again: a page where a file was asked for.
    """
    called = response.headers.get("content-type")
    body = _limited(chunks, announced(response), most, where)
    head = b""
    for chunk in body:
        head += chunk
        if len(head) >= HEAD:
            break
    if is_page(called, head):
        raise Again(f"{media_type(called) or 'a page'} where {kind} was asked for")
    if not is_called(called, kind):
        raise Refused(f"content type {media_type(called)}, not {kind}", where)
    suffix = suffix_of(head[:HEAD], kind)
    if suffix is None:
        raise Refused(f"its bytes are no {kind}", where)
    file, digest, size = stem.with_name(stem.name + suffix), hashlib.sha256(head), len(head)
    with written_whole(file) as temporary:
        with temporary.open("wb") as opened:
            opened.write(head)
            for chunk in body:
                opened.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if check is not None:
            try:
                check(temporary)
            except ValueError as error:
                raise Refused(f"not readable: {error}", where) from error
    return Download(file, size, digest.hexdigest())


def found(stem: Path) -> Download | None:
    """The file with this stem that a killed run had written whole but not yet noted, if there is one."""
    if not stem.parent.is_dir():
        return None
    for file in sorted(stem.parent.glob(f"{stem.name}.*")):
        content = file.read_bytes()
        return Download(file, len(content), hashlib.sha256(content).hexdigest())
    return None


def announced(response: Any) -> int | None:
    """The size that the server says its answer has, as it travels."""
    length = response.headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def _limited(chunks: Iterator[bytes], announced: int | None, most: int, where: str) -> Iterator[bytes]:
    if announced is not None and announced > most:
        raise Refused(f"too large: {announced} bytes announced, {most} allowed", where)
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise Refused(f"too large: more than {most} bytes", where)
        yield chunk
