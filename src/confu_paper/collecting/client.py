"""A polite HTTP client: it says who asks, keeps to each host's rate, waits when told to, and checks what comes.

Needs the extra `collect`. `urllib3.Retry` counts the tries and computes the back-off. Waiting, redirects and bodies are
handled here: a pause has to hold back every other request to the host too, and urllib3 repeats no request whose body is
cut short or turns out to be an error page.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from confu.nn.encoders.registry import import_extra
from confu_paper.collecting.body import (
    Download,
    FileLimits,
    Refused,
    TryAgain,
    Unavailable,
    limited,
    media_type,
    save_body,
)

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
_MIN_PAUSE = 2.0  # seconds after a first failure, where urllib3 would repeat at once

Result = TypeVar("Result")
Receive = Callable[[Any, Iterator[bytes]], Result]


@dataclass
class HostCounts:
    """What one host was sent and gave.

    Attributes:
        requests: sent, retries and redirects among them.
        retries: requests that were sent because one before them failed.
        bytes: of bodies as received, also of those that were refused.
        waited: seconds between requests.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    waited: float = 0.0


class RateLimiter:
    """Lets requests to a host through one by one, at least `1 / rate` seconds apart. Threads may share it.

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


class Client:
    """Sends requests to several hosts, each at its own rate, and counts them. Threads may share one.

    Args:
        contact: an e-mail address or a web page by which the person who runs this can be reached.
        rates: requests a second, by host; others get one a second.
        tries: of one request, the first among them.
        timeout: seconds without a byte, after which a try has failed.
        deadline: seconds after which a try has failed however steadily it drips.
        clock: seconds, only their differences count.
        sleep: waits for so many seconds.

    Attributes:
        counts: `HostCounts` by host.

    Raises:
        ValueError: a contact that is neither; a rate or a number of tries that is not above 0.
        ImportError: urllib3 is not installed.
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
        self._agent = user_agent(contact)
        self._urllib3 = import_extra("urllib3", "collecting from the web", "collect")
        self._limiter = RateLimiter(rates, clock, sleep)
        self._tries, self._deadline, self._clock = tries, deadline, clock
        self.counts: dict[str, HostCounts] = {}
        settings = {"timeout": self._urllib3.Timeout(connect=timeout, read=timeout), "retries": False, "maxsize": 4}
        self._direct = self._urllib3.PoolManager(**settings)
        self._pools = {
            scheme: self._urllib3.ProxyManager(proxy, **settings) if proxy else self._direct
            for scheme in ("http", "https")
            for proxy in (getproxies().get(scheme),)
        }

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

        def receive(response: Any, chunks: Iterator[bytes]) -> Any:
            body = b"".join(limited(response, chunks, MAX_JSON, url))
            try:
                answer = json.loads(body)
            except ValueError:
                raise TryAgain(f"no JSON came but {media_type(response) or 'bytes'} ({len(body)} bytes)") from None
            if again is not None and (reason := again(answer)) is not None:
                raise TryAgain(reason, self._retry_after(response))
            return answer

        return self._get(url, params or {}, secrets or {}, receive, {"Accept-Encoding": "gzip"})

    def download(self, url: str, stem: Path, limits: FileLimits) -> Download:
        """Fetch a file to `stem` with the suffix that its bytes tell; it is written whole or not at all.

        Raises:
            Refused: not there, not of this kind, too large, or what the check says.
            Unavailable: no answer, or only error pages and cut connections, after every try; 403.
        """

        def receive(response: Any, chunks: Iterator[bytes]) -> Download:
            return save_body(response, chunks, stem, limits, url)

        return self._get(url, {}, {}, receive, {})

    def _get(
        self,
        url: str,
        params: Mapping[str, Any],
        secrets: Mapping[str, str],
        receive: Receive[Result],
        headers: Mapping[str, str],
    ) -> Result:
        """Try until there is an answer; a failure that passes is waited out, as often as there are tries."""
        if secrets:
            _hide_in_logs(secrets)
        errors = self._urllib3.exceptions
        shown = f"{url}?{urlencode(params)}" if params else url
        query = urlencode({**params, **secrets})
        full = f"{url}?{query}" if query else url
        retry = self._urllib3.Retry(self._tries - 1, backoff_factor=2, backoff_jitter=1.0, backoff_max=MAX_WAIT)
        while True:
            try:
                return self._try_once(full, shown, receive, headers)
            except TryAgain as failure:
                reason, wait = redacted(failure.reason, secrets), failure.wait
            except (Refused, Unavailable) as final:
                raise type(final)(redacted(final.reason, secrets), shown) from None
            except errors.LocationValueError:
                raise Refused("not an address of the web", shown) from None
            except errors.HTTPError as error:
                reason, wait = f"{type(error).__name__}: {redacted(str(error), secrets)}", None
            if wait is not None and wait > MAX_WAIT:
                raise Unavailable(f"{reason}, and it asks us to come back in {wait:.0f} seconds", shown)
            try:
                retry = retry.increment("GET", shown, error=errors.ProtocolError(reason))
            except errors.MaxRetryError:
                raise Unavailable(f"{self._tries} tries failed, the last by {reason}", shown) from None
            host = urlsplit(url).hostname or ""
            self._limiter.hold(host, max(retry.get_backoff_time(), _MIN_PAUSE) if wait is None else wait)
            self.counts.setdefault(host, HostCounts()).retries += 1

    def _try_once(self, url: str, shown: str, receive: Receive[Result], headers: Mapping[str, str]) -> Result:
        """One try with its redirects; `url` holds the secrets, `shown` is for messages."""
        for _ in range(_MAX_REDIRECTS):
            try:
                parts = urlsplit(url)
            except ValueError:
                raise Refused("not an address of the web", shown) from None
            if parts.scheme not in self._pools or not parts.hostname:
                raise Refused("not an address of the web", shown)
            pool = self._direct if proxy_bypass(parts.hostname) else self._pools[parts.scheme]
            counts = self.counts.setdefault(parts.hostname, HostCounts())
            counts.waited += self._limiter.wait(parts.hostname)
            counts.requests += 1
            headers = {"User-Agent": self._agent, **headers}
            response = pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
            try:
                target = response.get_redirect_location()
                if not target:
                    self._check_status(response, shown)
                    return receive(response, self._chunks(response, counts))
            finally:
                response.close()
            url = urljoin(url, target)
        raise Refused(f"more than {_MAX_REDIRECTS} redirects", shown)

    def _check_status(self, response: Any, shown: str) -> None:
        status = response.status
        if status == 200:
            return
        if status in _PASSING_STATUSES:
            raise TryAgain(f"HTTP {status}", self._retry_after(response))
        try:  # services say why in JSON: `message` with xeno-canto, `error` with iNaturalist
            content = json.loads(response.read(2000, decode_content=True))
        except ValueError:
            content = None
        message = (content.get("message") or content.get("error")) if isinstance(content, dict) else None
        reason = f"HTTP {status} ({message})" if isinstance(message, str) else f"HTTP {status}"
        # 403 is a block more often than a property of this one file: not final, but not repeated at once.
        raise (Unavailable if status == 403 else Refused)(reason, shown)

    def _retry_after(self, response: Any) -> float | None:
        """Seconds that the server asks to wait; None if it does not say, or not readably."""
        header = response.headers.get("retry-after")
        try:
            return None if header is None else float(self._urllib3.Retry().parse_retry_after(header))
        except self._urllib3.exceptions.InvalidHeader:
            return None

    def _chunks(self, response: Any, counts: HostCounts) -> Iterator[bytes]:
        began = self._clock()
        for chunk in response.stream(1 << 16, decode_content=True):
            counts.bytes += len(chunk)
            yield chunk
            if self._clock() - began > self._deadline:
                raise TryAgain(f"still not whole after {self._deadline:.0f} seconds")


def user_agent(contact: str) -> str:
    """Who asks, in the form of Wikimedia's user agent policy: name/version (contact) library/version.

    Raises:
        ValueError: a contact that is neither an e-mail address nor a web page.

    >>> user_agent("ada@example.org")
    'contrastive-fusion/... (ada@example.org) urllib3/...'
    """
    if not ("@" in contact.strip("@") or contact.startswith(("http://", "https://"))) or not contact.isprintable():
        raise ValueError(
            f"contact: expected an e-mail address or a web page by which the sources can reach you; got {contact!r}"
        )
    versions = {}
    for package in ("contrastive-fusion", "urllib3"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unreleased"
    own, library = (f"{name}/{number}" for name, number in versions.items())
    return f"{own} ({contact}) {library}"


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """A text with every secret in it replaced, as it stands and as it stands in an address.

    >>> redacted("GET /recordings?key=a%2Fb&page=2", {"key": "a/b"})
    'GET /recordings?key=***&page=2'
    """
    for value in secrets.values():
        for form in (value, quote(value), quote(value, safe=""), quote_plus(value)):
            text = text.replace(form, "***") if form else text
    return text


class _SecretsFilter(logging.Filter):
    """Replaces secrets in log records: urllib3 logs the addresses that it requests."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if self.secrets:
            record.msg, record.args = redacted(record.getMessage(), self.secrets), ()
        return True


_filter = _SecretsFilter()


def _hide_in_logs(secrets: Mapping[str, str]) -> None:
    _filter.secrets.update(secrets)
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.connection"):
        logging.getLogger(name).addFilter(_filter)
