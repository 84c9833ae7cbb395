"""The same function of many items, in threads, with a bar: decoders and files release Python's lock while they work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 4  # items a thread that are begun before they are asked for; bounds the memory


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """The results in the order of the items. The first error, in that order, is raised and ends the rest.

    Args:
        function: of one item.
        items: taken as they are needed.
        workers: threads; 0 works in the caller's.

    >>> list(in_threads(lambda number: number**2, range(4), workers=2))
    [0, 1, 4, 9]
    """
    if workers < 0:
        raise ValueError(f"workers: expected a number of threads, 0 for none; got {workers}")
    if workers == 0:
        yield from map(function, items)
        return
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                begun.append(pool.submit(function, item))
                if len(begun) >= _AHEAD * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def tracked(items: Iterable[Item], what: str, total: Sized, progress: bool) -> Iterator[Item]:
    """The items, with a bar on stderr of what is done of `total`."""
    from rich.console import Console
    from rich.progress import track

    disable = not progress or not len(total)
    yield from track(items, what, len(total), console=Console(stderr=True), transient=True, disable=disable)
