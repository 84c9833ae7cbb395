"""A polite HTTP client: it says who it is, asks slowly, waits when it is told to, and trusts nothing that comes.

Needs the extra `collect`: how often a failed request is repeated and after how long is `urllib3.Retry`'s work; the
waiting is done by a `Pacer`, so that it holds back every other request to that host too.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from confu_paper.collecting.content import Kind, media_type
from confu_paper.collecting.etiquette import RATES, user_agent
from confu_paper.collecting.hidden import hide, without
from confu_paper.collecting.pacing import Pacer
from confu_paper.collecting.received import Again, Download, HostCounts, Refused, Unavailable, announced, read_all, save
from confu_paper.collecting.wire import Receive, Wire

Result = TypeVar("Result")


class Client:
    """Asks several hosts, each at its own rate, and counts what it asked. Threads may share one.

    Args:
        contact: an e-mail address or a web page by which the person who runs this can be reached.
        rates: requests a second, by host; others are asked once a second.
        tries: of one request, the first among them.
        timeout: seconds without a byte, after which a try has failed.
        deadline: seconds after which a try has failed however steadily it drips.
        patience: the longest wait in seconds; a host that asks for a longer one is given up for now.
        clock: seconds, only their differences count.
        sleep: waits for so many seconds.

    Raises:
        ValueError: a contact that is neither; a rate or a number of tries that is not above 0.
        ImportError: urllib3 is not installed, with the command that installs it.
    """

    def __init__(
        self,
        contact: str,
        rates: Mapping[str, float] = RATES,
        tries: int = 6,
        timeout: float = 30.0,
        deadline: float = 900.0,
        patience: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if tries < 1:
            raise ValueError(f"tries: expected at least 1; got {tries}")
        self._wire = Wire(user_agent(contact), Pacer(rates, clock=clock, sleep=sleep), timeout, deadline, clock)
        self._tries, self._patience = tries, patience

    @property
    def counts(self) -> dict[str, HostCounts]:
        """What was asked and received, by host."""
        return self._wire.counts

    def json(
        self,
        url: str,
        params: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        again: Callable[[Any], str | None] | None = None,
        most: int = 64 << 20,
    ) -> Any:
        """An answer in JSON.

        Args:
            url: without a query.
            params: the query.
            secrets: more of the query, which no message and no log shows.
            again: says of an answer why it is none yet ("the database lags"), None if it is one.
            most: bytes; more are refused.

        Raises:
            Refused: 404 and the like, too large.
            Unavailable: no answer, no JSON, or not yet one, after every try; 403.
        """

        def receive(response: Any, chunks: Iterator[bytes]) -> Any:
            body = read_all(chunks, announced(response), most, url)
            try:
                answer = json.loads(body)
            except ValueError:
                called = media_type(response.headers.get("content-type")) or "bytes"
                raise Again(f"no JSON came but {called} ({len(body)} bytes)") from None
            reason = again(answer) if again is not None else None
            if reason is not None:
                raise Again(reason, self._wire.after(response))
            return answer

        return self._asked(url, params or {}, secrets or {}, receive, {"Accept-Encoding": "gzip"})

    def download(
        self, url: str, stem: Path, kind: Kind, most: int, check: Callable[[Path], None] | None = None
    ) -> Download:
        """Fetch a file; it is written whole or not at all.

        Args:
            url: of the file.
            stem: where it shall lie, without the suffix, which its bytes tell.
            kind: what it must be.
            most: bytes; more are refused.
            check: raises a `ValueError` on a file that is not readable after all.

        Raises:
            Refused: not there, not of this kind, too large, or what `check` says.
            Unavailable: no answer, or only error pages and cut connections, after every try; 403.
        """

        def receive(response: Any, chunks: Iterator[bytes]) -> Download:
            return save(response, chunks, stem, kind, most, check, url)

        return self._asked(url, {}, {}, receive, {})

    def _asked(
        self,
        url: str,
        params: Mapping[str, Any],
        secrets: Mapping[str, str],
        receive: Receive[Result],
        headers: Mapping[str, str],
    ) -> Result:
        """Ask until there is an answer; a failure that passes is waited out, as often as there are tries."""
        if secrets:
            hide(secrets)
        errors = self._wire.urllib3.exceptions
        shown = f"{url}?{urlencode(params)}" if params else url
        query = urlencode({**params, **secrets})
        full = f"{url}?{query}" if query else url
        retry = self._wire.urllib3.Retry(
            self._tries - 1, backoff_factor=2, backoff_jitter=1.0, backoff_max=self._patience
        )
        while True:
            try:
                return self._wire.ask(full, shown, receive, headers)
            except Again as failed:
                reason, after = without(failed.reason, secrets), failed.after
            except (Refused, Unavailable) as final:
                raise type(final)(without(final.reason, secrets), shown) from None
            except errors.LocationValueError:
                raise Refused("not an address of the web", shown) from None
            except errors.HTTPError as error:
                reason, after = f"{type(error).__name__}: {without(str(error), secrets)}", None
            if after is not None and after > self._patience:
                raise Unavailable(f"{reason}, and it asks us to come back in {after:.0f} seconds", shown)
            try:
                retry = retry.increment("GET", shown, error=errors.ProtocolError(reason))
            except errors.MaxRetryError:
                raise Unavailable(f"{self._tries} tries failed, the last by {reason}", shown) from None
            # urllib3 asks again at once after a first failure; a server in trouble deserves a pause.
            pause = max(retry.get_backoff_time(), 2.0) if after is None else after
            host = urlsplit(url).hostname or ""
            self._wire.pacer.hold(host, pause)
            self._wire.counts_of(host).retries += 1
