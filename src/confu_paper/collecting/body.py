"""The body of an HTTP answer: read up to a limit, told from an error page, and written whole or not at all."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from confu.data.media import HEAD, format_of
from confu.files import written_whole

Kind = Literal["image", "audio"]
# Content types of any kind (S3 uses them for objects that nobody described), and further ones of sounds.
_UNSPECIFIC = ("", "application/octet-stream", "binary/octet-stream")
_AUDIO_TYPES = ("application/ogg", "video/ogg", "video/mp4", "application/x-flac")


class Refused(ValueError):
    """The final answer for one item: not there, not what was requested, or too large; repeating it is no use.

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


class TryAgain(Exception):
    """A failure that passes; `wait` is how many seconds the server asks to wait, None if it does not say."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


@dataclass(frozen=True)
class Download:
    """A file that was fetched whole."""

    file: Path
    bytes: int
    sha256: str

    def facts(self, folder: Path) -> dict[str, Any]:
        """For a record, with the path relative to a folder."""
        return {"file": self.file.relative_to(folder).as_posix(), "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class FileLimits:
    """What a downloaded file has to be.

    Attributes:
        kind: "image" or "audio".
        max_bytes: larger files are refused.
        check: raises a `ValueError` for a file that cannot be read after all.
    """

    kind: Kind
    max_bytes: int
    check: Callable[[Path], None] | None = None


def suffix_of(head: bytes, kind: Kind) -> str | None:
    """The suffix of the file that begins with these bytes; None if it is not of this kind.

    >>> suffix_of(b"RIFF....WAVEfmt ", "audio"), suffix_of(b"<!DOCTYPE html><", "audio")
    ('.wav', None)
    """
    known = format_of(head)
    if known is not None and kind == "audio" and known.suffix == ".mp4":
        return ".m4a"  # of a sound: many programs write the mark of films into it
    return known.suffix if known is not None and known.kind == kind else None


def media_type(response: Any) -> str:
    """The content type of an answer in small letters, without its parameters."""
    return (response.headers.get("content-type") or "").split(";")[0].strip().lower()


def limited(response: Any, chunks: Iterator[bytes], max_bytes: int, where: str) -> Iterator[bytes]:
    """The chunks of a body.

    Raises:
        Refused: more than `max_bytes`, announced or received.
    """
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise Refused(f"too large: {announced} bytes announced, {max_bytes} allowed", where)
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise Refused(f"too large: more than {max_bytes} bytes", where)
        yield chunk


def save_body(response: Any, chunks: Iterator[bytes], stem: Path, limits: FileLimits, where: str) -> Download:
    """Write a body to `stem` with the suffix that its bytes tell; nothing stays of one that is refused or cut.

    Raises:
        Refused: another content type, other bytes, too large, or what the check says.
        TryAgain: a page where a file was requested.
    """
    body = limited(response, chunks, limits.max_bytes, where)
    head = b""
    for chunk in body:
        head += chunk
        if len(head) >= HEAD:
            break
    named, kind = media_type(response), limits.kind
    # An error page comes with any status, and often passes.
    if named.startswith("text/") or named.endswith(("json", "xml", "html")) or head.lstrip()[:1] == b"<":
        raise TryAgain(f"{named or 'a page'} where {kind} was asked for")
    if not (named in _UNSPECIFIC or named.startswith(f"{kind}/") or (kind == "audio" and named in _AUDIO_TYPES)):
        raise Refused(f"content type {named}, not {kind}", where)
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
        if limits.check is not None:
            try:
                limits.check(temporary)
            except ValueError as error:
                raise Refused(f"not readable: {error}", where) from error
    return Download(file, size, digest.hexdigest())


def find_download(stem: Path) -> Download | None:
    """The file with this stem that a killed run wrote whole but had not noted yet, if there is one."""
    for file in sorted(stem.parent.glob(f"{stem.name}.*")) if stem.parent.is_dir() else ():
        content = file.read_bytes()
        return Download(file, len(content), hashlib.sha256(content).hexdigest())
    return None
