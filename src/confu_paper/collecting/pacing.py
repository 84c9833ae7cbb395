"""How fast one host is asked: never more often than its rate, and not at all while it asked for a pause."""

import threading
import time
from collections.abc import Callable, Mapping


class Pacer:
    """Lets requests to a host through one by one, at least `1 / rate` seconds apart. Threads may share it.

    Args:
        rates: requests a second, by host name.
        default: for hosts that are not named.
        clock: seconds, only their differences count.
        sleep: waits for so many seconds.

    Raises:
        ValueError: a rate that is not above 0.

    >>> naps = []
    >>> pacer = Pacer({"example.org": 4.0}, clock=lambda: sum(naps, 0.0), sleep=naps.append)
    >>> pacer.wait("example.org"), pacer.wait("example.org")
    (0.0, 0.25)
    >>> pacer.hold("example.org", 5.0)
    >>> pacer.wait("example.org"), naps
    (5.0, [0.25, 5.0])
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        default: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for host, rate in {**rates, "other hosts": default}.items():
            if not rate > 0:
                raise ValueError(f"rates: expected more than 0 requests a second for {host}; got {rate}")
        self._rates, self._default = dict(rates), default
        self._clock, self._sleep = clock, sleep
        self._free: dict[str, float] = {}  # when the next request to a host may begin
        self._lock = threading.Lock()

    def wait(self, host: str) -> float:
        """Wait until a request to this host may begin, and take its turn.

        Returns:
            How long it waited, in seconds.
        """
        with self._lock:
            now = self._clock()
            begin = max(now, self._free.get(host, now))
            self._free[host] = begin + 1 / self._rates.get(host, self._default)
        if begin > now:
            self._sleep(begin - now)
        return begin - now

    def hold(self, host: str, seconds: float) -> None:
        """Let nothing through to this host for so many seconds from now."""
        with self._lock:
            now = self._clock()
            self._free[host] = max(self._free.get(host, now), now + seconds)
