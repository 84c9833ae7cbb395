"""One try of one request: in its turn, with redirects, the status told apart, the body counted as it comes."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from confu.nn.encoders.registry import import_extra
from confu_paper.collecting.pacing import Pacer
from confu_paper.collecting.received import Again, HostCounts, Refused, Unavailable

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = 5
Result = TypeVar("Result")
Receive = Callable[[Any, Iterator[bytes]], Result]


class Wire:
    """Connections to any number of hosts, through the proxies that the environment names.

    Args:
        agent: see `user_agent`.
        pacer: lets the requests through.
        timeout: seconds without a byte, after which a try has failed.
        deadline: seconds after which it has failed however steadily it drips.
        clock: seconds, only their differences count.

    Attributes:
        counts: `HostCounts` by host.
    """

    def __init__(self, agent: str, pacer: Pacer, timeout: float, deadline: float, clock: Callable[[], float]) -> None:
        self.urllib3 = import_extra("urllib3", "collecting from the web", "collect")
        self.agent, self.pacer, self.clock, self.deadline = agent, pacer, clock, deadline
        self.counts: dict[str, HostCounts] = {}
        settings = {"timeout": self.urllib3.Timeout(connect=timeout, read=timeout), "retries": False, "maxsize": 4}
        self._direct = self.urllib3.PoolManager(**settings)
        self._pools = {
            scheme: self.urllib3.ProxyManager(proxy, **settings) if proxy else self._direct
            for scheme in ("http", "https")
            for proxy in (getproxies().get(scheme),)
        }

    def ask(self, url: str, shown: str, receive: Receive[Result], headers: Mapping[str, str]) -> Result:
        """What `receive` makes of the answer and its body.

        Args:
            url: with its query, and the secrets in it.
            shown: the same without them, for messages.
            receive: gets the answer and the pieces of its body.
            headers: besides the user agent.

        Raises:
            Again, Refused, Unavailable: by status; or an error of urllib3's.
        """
        for _ in range(_REDIRECTS):
            host, pool = self._way(url, shown)
            counts = self.counts_of(host)
            counts.waited += self.pacer.wait(host)
            counts.requests += 1
            agent = {"User-Agent": self.agent, **headers}
            response = pool.request("GET", url, headers=agent, preload_content=False, redirect=False)
            try:
                target = response.get_redirect_location()
                if not target:
                    self._check_status(response, shown)
                    return receive(response, self._chunks(response, counts))
            finally:
                response.close()
            url = urljoin(url, target)
        raise Refused(f"more than {_REDIRECTS} redirects", shown)

    def after(self, response: Any) -> float | None:
        """How many seconds the server asks us to wait; None if it does not say, or not so that it can be read."""
        header = response.headers.get("retry-after")
        try:
            return None if header is None else float(self.urllib3.Retry().parse_retry_after(header))
        except self.urllib3.exceptions.InvalidHeader:
            return None  # the back-off decides

    def counts_of(self, host: str) -> HostCounts:
        """The counts of one host, from zero on."""
        return self.counts.setdefault(host, HostCounts())

    def _way(self, url: str, shown: str) -> tuple[str, Any]:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise Refused("not an address of the web", shown) from None
        if parts.scheme not in self._pools or not parts.hostname:
            raise Refused("not an address of the web", shown)
        return parts.hostname, self._direct if proxy_bypass(parts.hostname) else self._pools[parts.scheme]

    def _check_status(self, response: Any, shown: str) -> None:
        status = response.status
        if status == 200:
            return
        if status in _PASSING:
            raise Again(f"HTTP {status}", self.after(response))
        said = _message(response.read(2000, decode_content=True))
        if status == 403:  # a block, more often than a property of this one file: not asked again at once
            raise Unavailable(f"HTTP 403{said}", shown)
        raise Refused(f"HTTP {status}{said}", shown)

    def _chunks(self, response: Any, counts: HostCounts) -> Iterator[bytes]:
        began = self.clock()
        for chunk in response.stream(1 << 16, decode_content=True):
            counts.bytes += len(chunk)
            yield chunk
            if self.clock() - began > self.deadline:
                raise Again(f"still not whole after {self.deadline:.0f} seconds")


def _message(body: bytes) -> str:
    """What a service says of its refusal in JSON: `message` with xeno-canto, `error` with iNaturalist."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    said = said.get("message") or said.get("error") if isinstance(said, dict) else None
    return f" ({said})" if isinstance(said, str) else ""
