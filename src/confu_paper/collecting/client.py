"""An HTTP client that says who it is, keeps to each host's rate, waits when told to, and checks what comes.

Needs the extra `collect`. Tries are counted here and not by the library: a pause has to hold back every other request
to the host too, and a body that is cut short or turns out to be an error page is requested again.
"""

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from confu.data.media import HEAD, format_of
from confu.files import written_whole
from confu.nn.encoders.registry import import_extra

requests: Any = import_extra("requests", "collecting from the web", "collect")

# Requests a second. iNaturalist: "keep it to 60 requests per minute or lower" (API v1, terms of use). xeno-canto: one a
# second (its page on the API), and other clients report a limit by the hour. Wikipedia: one after another
# (API:Etiquette). The photos lie in a public bucket that is meant for bulk use.
RATES = {
    "api.inaturalist.org": 1.0,
    "xeno-canto.org": 0.25,
    "en.wikipedia.org": 1.0,
    "inaturalist-open-data.s3.amazonaws.com": 5.0,
}
MAX_WAIT = 1800.0  # seconds; a host that asks for a longer pause is given up for now
MAX_JSON = 64 << 20  # bytes
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_REDIRECTS = 5
_CHUNK = 1 << 16
# Content types of any kind (S3 uses them for objects that nobody described), and further ones of sounds.
_UNSPECIFIC = ("", "application/octet-stream", "binary/octet-stream")
_AUDIO_TYPES = ("application/ogg", "video/ogg", "video/mp4", "application/x-flac")
_BAD_ADDRESS = (
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    UnicodeError,
)

Kind = Literal["image", "audio"]
Result = TypeVar("Result")


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


class RateLimiter(requests.adapters.HTTPAdapter):
    """Lets requests to a host through one by one, at least `1 / rate` seconds apart, redirects among them.

    Args:
        rates: requests a second, by host name; other hosts get one a second.
        clock: seconds, only their differences count.
        sleep: waits for so many seconds.

    Raises:
        ValueError: a rate that is not above 0.

    >>> naps = []
    >>> limiter = RateLimiter({"example.org": 4.0}, clock=lambda: sum(naps, 0.0), sleep=naps.append)
    >>> limiter.wait("example.org"), limiter.wait("example.org")
    (0.0, 0.25)
    >>> limiter.hold("example.org", 5.0)
    >>> limiter.wait("example.org"), naps
    (5.0, [0.25, 5.0])
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        for host, rate in rates.items():
            if not rate > 0:
                raise ValueError(f"rates: expected more than 0 requests a second for {host}; got {rate}")
        self._rates, self._clock, self._sleep = dict(rates), clock, sleep
        self._free: dict[str, float] = {}  # when the next request to a host may begin
        self._lock = threading.Lock()

    def wait(self, host: str) -> float:
        """Wait until a request to this host may begin, take its turn, and return the seconds waited."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._free.get(host, now))
            self._free[host] = begin + 1 / self._rates.get(host, 1.0)
        if begin > now:
            self._sleep(begin - now)
        return begin - now

    def hold(self, host: str, seconds: float) -> None:
        """Let nothing through to this host for so many seconds from now."""
        with self._lock:
            now = self._clock()
            self._free[host] = max(self._free.get(host, now), now + seconds)

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request, or one to which another was redirected, when it is its turn."""
        self.wait(urlsplit(request.url).hostname or "")
        return super().send(request, **options)


class Client:
    """Sends requests to several hosts, each at its own rate.

    Args:
        contact: an e-mail address or a web page by which the person who runs this can be reached.
        rates: requests a second, by host; others get one a second.
        tries: of one request, the first among them.
        timeout: seconds without a byte, after which a try has failed.
        deadline: seconds after which a try has failed however steadily it drips.
        clock: seconds, only their differences count.
        sleep: waits for so many seconds.

    Raises:
        ValueError: a contact that is neither; a rate or a number of tries that is not above 0.
    """

    def __init__(
        self,
        contact: str,
        rates: Mapping[str, float] = RATES,
        tries: int = 6,
        timeout: float = 30.0,
        deadline: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if tries < 1:
            raise ValueError(f"tries: expected at least 1; got {tries}")
        self._tries, self._timeout, self._deadline, self._clock = tries, timeout, deadline, clock
        self._limiter = RateLimiter(rates, clock, sleep)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent(contact)
        self._session.max_redirects = _MAX_REDIRECTS
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._limiter)

    def json(
        self,
        url: str,
        params: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        again: Callable[[Any], str | None] | None = None,
    ) -> Any:
        """An answer in JSON.

        Args:
            url: without a query.
            params: the query.
            secrets: more of the query, which no message and no log shows.
            again: says of an answer why it is none yet ("the database lags"), None if it is one.

        Raises:
            Refused: 404 and the like, too large.
            Unavailable: no answer, no JSON, or not yet one, after every try; 403.
        """

        def receive(response: Any) -> Any:
            body = b"".join(self._chunks(response, MAX_JSON))
            try:
                answer = json.loads(body)
            except ValueError:
                raise TryAgain(f"no JSON came but {_media_type(response) or 'bytes'} ({len(body)} bytes)") from None
            if again is not None and (reason := again(answer)) is not None:
                raise TryAgain(reason, _retry_after(response))
            return answer

        hide(*(secrets or {}).values())
        query = urlencode({**(params or {}), **(secrets or {})})
        return self._get(f"{url}?{query}", f"{url}?{urlencode(params or {})}", receive)

    def download(self, url: str, stem: Path, limits: FileLimits) -> Path:
        """Fetch a file to `stem` with the suffix that its bytes tell; it is written whole or not at all.

        Raises:
            Refused: not there, not of this kind, too large, or what the check says.
            Unavailable: no answer, or only error pages and cut connections, after every try; 403.
        """
        return self._get(url, url, lambda response: self._save(response, stem, limits))

    def _get(self, url: str, shown: str, receive: Callable[[Any], Result]) -> Result:
        """Try until there is an answer; `url` may hold secrets, `shown` is for messages."""
        reason = ""
        for attempt in range(self._tries):
            try:
                with self._session.get(url, stream=True, timeout=self._timeout) as response:
                    _check_status(response)
                    return receive(response)
            except TryAgain as failure:
                reason, wait = redacted(failure.reason), failure.wait
            except (Refused, Unavailable) as final:
                raise type(final)(redacted(final.reason), shown) from None
            except _BAD_ADDRESS:
                raise Refused("not an address of the web", shown) from None
            except requests.TooManyRedirects:
                raise Refused(f"more than {_MAX_REDIRECTS} redirects", shown) from None
            except requests.RequestException as error:
                reason, wait = f"{type(error).__name__}: {redacted(str(error))}", None
            if wait is not None and wait > MAX_WAIT:
                raise Unavailable(f"{reason}, and it asks us to come back in {wait:.0f} seconds", shown)
            back_off = min(MAX_WAIT, 2.0 ** (attempt + 1) + (random.random() if attempt else 0.0))
            if attempt + 1 < self._tries:
                self._limiter.hold(urlsplit(url).hostname or "", back_off if wait is None else wait)
        raise Unavailable(f"{self._tries} tries failed, the last by {reason}", shown)

    def _chunks(self, response: Any, max_bytes: int) -> Iterator[bytes]:
        """The body; `Refused` for more than `max_bytes`, announced or received, `TryAgain` at the deadline."""
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > max_bytes:
            raise Refused(f"too large: {announced} bytes announced, {max_bytes} allowed", "")
        began, size = self._clock(), 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise Refused(f"too large: more than {max_bytes} bytes", "")
            yield chunk
            if self._clock() - began > self._deadline:
                raise TryAgain(f"still not whole after {self._deadline:.0f} seconds")

    def _save(self, response: Any, stem: Path, limits: FileLimits) -> Path:
        """Write a body with the suffix that its bytes tell; nothing stays of one that is refused or cut."""
        named, kind = _media_type(response), limits.kind
        body, head = self._chunks(response, limits.max_bytes), b""
        while len(head) < HEAD and (chunk := next(body, None)) is not None:
            head += chunk
        # An error page comes with any status, and often passes.
        if named.startswith("text/") or named.endswith(("json", "xml", "html")) or head.lstrip()[:1] == b"<":
            raise TryAgain(f"{named or 'a page'} where {kind} was asked for")
        if not (named in _UNSPECIFIC or named.startswith(f"{kind}/") or (kind == "audio" and named in _AUDIO_TYPES)):
            raise Refused(f"content type {named}, not {kind}", "")
        suffix = file_suffix(head[:HEAD], kind)
        if suffix is None:
            raise Refused(f"its bytes are no {kind}", "")
        file = stem.with_name(stem.name + suffix)
        with written_whole(file) as temporary:
            with temporary.open("wb") as opened:
                opened.write(head)
                opened.writelines(body)
            if limits.check is not None:
                try:
                    limits.check(temporary)
                except ValueError as error:
                    raise Refused(f"not readable: {error}", "") from error
        return file


def file_suffix(head: bytes, kind: Kind) -> str | None:
    """The suffix of the file that begins with these bytes; None if it is not of this kind.

    >>> file_suffix(b"RIFF....WAVEfmt ", "audio"), file_suffix(b"<!DOCTYPE html><", "audio")
    ('.wav', None)
    """
    known = format_of(head)
    if known is not None and kind == "audio" and known.suffix == ".mp4":
        return ".m4a"  # of a sound: many programs write the mark of films into it
    return known.suffix if known is not None and known.kind == kind else None


def file_facts(file: Path, folder: Path) -> dict[str, Any]:
    """Of a downloaded file, for a record: its path relative to a folder, its size and its hash."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"file": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": digest}


def user_agent(contact: str) -> str:
    """Who asks, in the form of Wikimedia's user agent policy: name/version (contact) library/version.

    Raises:
        ValueError: a contact that is neither an e-mail address nor a web page.

    >>> user_agent("ada@example.org")
    'contrastive-fusion/... (ada@example.org) requests/...'
    """
    if not ("@" in contact.strip("@") or contact.startswith(("http://", "https://"))) or not contact.isprintable():
        raise ValueError(
            f"contact: expected an e-mail address or a web page by which the sources can reach you; got {contact!r}"
        )
    try:
        own = version("contrastive-fusion")
    except PackageNotFoundError:
        own = "unreleased"
    return f"contrastive-fusion/{own} ({contact}) requests/{requests.__version__}"


_hidden: set[str] = set()


def hide(*secrets: str) -> None:
    """Replace these from now on in what `redacted` gives, and in urllib3's log of addresses."""
    for secret in filter(None, secrets):
        _hidden.update((secret, quote(secret), quote(secret, safe=""), quote_plus(secret)))
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.connection"):
        logging.getLogger(name).addFilter(_redact)


def redacted(text: str) -> str:
    """A text with every hidden secret in it replaced, as it stands and as it stands in an address.

    >>> hide("a/b-secret")
    >>> redacted("GET /recordings?key=a%2Fb-secret&page=2")
    'GET /recordings?key=***&page=2'
    """
    for secret in _hidden:
        text = text.replace(secret, "***")
    return text


def _redact(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


def _check_status(response: Any) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in _PASSING_STATUSES:
        raise TryAgain(f"HTTP {status}", _retry_after(response))
    try:  # services say why in JSON: `message` with xeno-canto, `error` with iNaturalist
        content = json.loads(next(response.iter_content(2000), b""))
    except ValueError:
        content = None
    message = (content.get("message") or content.get("error")) if isinstance(content, dict) else None
    reason = f"HTTP {status} ({message})" if isinstance(message, str) else f"HTTP {status}"
    # 403 is a block more often than a property of this one file: not final, but not repeated at once.
    raise (Unavailable if status == 403 else Refused)(reason, "")


def _media_type(response: Any) -> str:
    return response.headers.get("content-type", "").split(";")[0].strip().lower()


def _retry_after(response: Any) -> float | None:
    """Seconds that the server asks to wait; None if it does not say, or not readably."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    header = response.headers.get("retry-after")
    try:
        return None if header is None else float(Retry().parse_retry_after(header))
    except InvalidHeader:
        return None
