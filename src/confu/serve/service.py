"""What the addresses of a server share: the collection, its queue, and how a request goes through both."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import torch
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from confu.search import Collection, Query, QueryError, SearchResult
from confu.serve.batching import Batcher, QueueFull, Stopped
from confu.serve.forms import Form, check_inputs, read_form
from confu.serve.limits import Admission, Place, busy
from confu.serve.metrics import Metrics
from confu.serve.problems import Problem, of_question
from confu.serve.settings import ServeSettings

LOG = logging.getLogger("confu.serve")
Result = TypeVar("Result")


Places = dict[str | None, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Found:
    """An answer, and where in the map its hits and, under None, its query lie."""

    answer: SearchResult
    places: Places


class Service:
    """A collection that is being served.

    Args:
        collection: what is asked.
        settings: with the limits.
    """

    def __init__(self, collection: Collection, settings: ServeSettings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.collection, self.settings = collection, settings
        self.readers = collection.embedder.readers
        self.metrics = Metrics()
        self.admission = Admission(settings.queue, settings.max_memory_mb)
        self.batcher = self._batcher()
        self._decoders = CapacityLimiter(settings.readers)
        self._others = CapacityLimiter(8)
        self.metrics.gauge("confu_items", "Items of the index", lambda: len(collection.index))
        self.metrics.gauge("confu_waiting", "Requests that wait for the model", lambda: len(self.batcher))
        self.metrics.gauge("confu_in_flight", "Requests that are being answered", lambda: self.admission.requests)
        self.metrics.gauge("confu_in_flight_bytes", "Bytes of their bodies", lambda: self.admission.bytes)

    async def answered(
        self, request: Request, known: tuple[str, ...], work: Callable[[Form], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Read a request, and do the work within the time that it has; who has gone away is not worked for.

        Args:
            request: with a body.
            known: names of its fields.
            work: on what the request holds.

        Raises:
            Problem: whatever is wrong with it, 503 if there is no place, 408 or 504 if it takes too long.
        """
        settings = self.settings
        with self.admission.place() as place:
            try:
                with anyio.fail_after(settings.timeout_s):
                    form = await self._read(request, place, known)
            except TimeoutError as error:
                raise Problem(408, "too_slow", f"the request did not arrive in {settings.timeout_s:g} s") from error
            try:
                with anyio.fail_after(settings.timeout_s):
                    return await _until_gone(request, work(form))
            except TimeoutError as error:
                raise Problem(
                    504, "timeout", f"there was no answer in {settings.timeout_s:g} s; ask for less, or later"
                ) from error

    async def ask(self, form: Form, question: Callable[[dict[str, Any]], Query]) -> Found:
        """Decode the inputs, make a question of them, and wait for its answer.

        Args:
            form: with the inputs.
            question: of what the readers made of the inputs.
        """
        try:
            with self.batcher.announced():
                job = await self.in_thread(self._prepared, form, question, limiter=self._decoders)
                waiting = self.batcher.submit(job)
            return await asyncio.wrap_future(waiting)
        except QueueFull as error:
            raise busy(f"{len(self.batcher)} requests wait already") from error
        except Stopped as error:
            raise busy("the server is stopping", 5) from error
        except QueryError as error:
            raise of_question(error) from error
        except (ValueError, OverflowError) as error:  # of a source that a reader or the model refuses
            raise Problem(422, "bad_question", str(error)) from error

    async def in_thread(
        self, work: Callable[..., Result], *arguments: Any, limiter: CapacityLimiter | None = None
    ) -> Result:
        """Do something that takes its time beside the event loop."""
        return await to_thread.run_sync(
            partial(work, *arguments), abandon_on_cancel=True, limiter=limiter or self._others
        )

    def start(self) -> None:
        """Take requests again after `stop`."""
        if not self.batcher.alive:
            self.batcher = self._batcher()
        self.admission.closed = False

    def stop(self) -> None:
        """Answer what waits, and take no more."""
        self.admission.closed = True
        self.batcher.stop()

    def _batcher(self) -> Batcher[Query, Found]:
        settings = self.settings
        return Batcher(self._answer, settings.max_batch, settings.max_wait_ms, settings.queue, self.metrics.batch)

    async def _read(self, request: Request, place: Place, known: tuple[str, ...]) -> Form:
        try:
            return await read_form(request, place, self.readers, known, self.settings)
        except Problem as problem:
            if problem.code != "gone" and not await place.skip(request, self.settings.max_request_mb):
                problem.headers["Connection"] = "close"
            raise

    def _prepared(self, form: Form, question: Callable[[dict[str, Any]], Query]) -> Query:
        sources = check_inputs(form, self.readers, self.settings)
        return question(self.collection.read(sources) if sources else {})

    def _answer(self, questions: Sequence[Query]) -> Sequence[Found | Exception]:
        try:
            self.collection.refresh()
        except (OSError, ValueError):  # the index is being moved or damaged: what is open goes on being served
            LOG.exception("the index could not be looked at again")
        answers = self.collection.search(questions)
        return [one if isinstance(one, Exception) else Found(one, self.collection.places(one)) for one in answers]


async def _until_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work unless the client goes away."""
    job, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise Problem(499, "gone", "the client has gone")
        return job.result()
    finally:
        for task in (job, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
