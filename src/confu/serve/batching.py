"""Requests that wait are answered together, by one thread, from a queue that does not grow."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueFull(Exception):
    """As many wait as may."""


class Stopped(Exception):
    """No more are answered."""


class Batcher(Generic[Job, Result]):
    """One thread that takes what waits and answers it at once.

    While the thread is at work, jobs gather; so the busier it is, the more it answers at once. It waits for more only
    while some are announced, so that a lone request is answered without delay.

    Args:
        handle: answers some jobs; an exception in the place of a result is raised to who asked.
        max_batch: jobs at once.
        max_wait_ms: how long it waits for jobs that are announced.
        capacity: jobs that may wait.
        observe: is told of each batch its size and its time in seconds.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Job]], Sequence[Result | Exception]],
        max_batch: int = 32,
        max_wait_ms: float = 4.0,
        capacity: int = 256,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._handle, self._observe = handle, observe
        self._max_batch, self._max_wait, self._capacity = max_batch, max_wait_ms / 1000, capacity
        self._waiting: OrderedDict[Future[Result], Job] = OrderedDict()
        self._announced = 0
        self._stopping = False
        self._change = Condition()
        self._thread = Thread(target=self._work, name="confu-batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still answered."""
        return self._thread.is_alive() and not self._stopping

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """While a job is being made ready: those that are ready wait for it, up to `max_wait_ms`."""
        with self._change:
            self._announced += 1
        try:
            yield
        finally:
            with self._change:
                self._announced -= 1
                self._change.notify_all()

    def submit(self, job: Job) -> "Future[Result]":
        """Let a job wait for its turn; a future that is cancelled gives its place back.

        Raises:
            QueueFull: if as many wait as may.
            Stopped: after `stop`.
        """
        future: Future[Result] = Future()
        with self._change:
            if self._stopping:
                raise Stopped
            if len(self._waiting) >= self._capacity:
                raise QueueFull
            self._waiting[future] = job
            self._change.notify_all()
        future.add_done_callback(self._forget)
        return future

    async def ask(self, job: Job) -> Result:
        """Wait for a job's result; who is cancelled while it waits gives its place back."""
        return await asyncio.wrap_future(self.submit(job))

    def stop(self, drain: bool = True) -> None:
        """Take no more jobs, answer those that wait unless `drain` is False, and end the thread."""
        with self._change:
            self._stopping = True
            left = [] if drain else list(self._waiting)
            self._change.notify_all()
        for future in left:
            future.cancel()
        self._thread.join()

    def _forget(self, future: "Future[Result]") -> None:
        with self._change:
            self._waiting.pop(future, None)

    def _work(self) -> None:
        while batch := self._next():
            begun = time.perf_counter()
            try:
                results = self._handle([job for _, job in batch])
            except Exception as error:  # of whatever sort, it is those who asked that must know
                results = [error] * len(batch)
            self._observe(len(batch), time.perf_counter() - begun)
            for (future, _), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next(self) -> list[tuple["Future[Result]", Job]]:
        """Some jobs that nobody has cancelled; none when there is nothing left to do."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._stopping)
                self._change.wait_for(self._is_enough, timeout=self._max_wait)
                if not self._waiting and self._stopping:
                    return []
                taken = [self._waiting.popitem(last=False) for _ in range(min(self._max_batch, len(self._waiting)))]
            if batch := [(future, job) for future, job in taken if future.set_running_or_notify_cancel()]:
                return batch

    def _is_enough(self) -> bool:
        return not self._announced or self._stopping or len(self._waiting) >= self._max_batch
