"""What the routes of a server share: the collection, its batches, and how a request goes through both."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import anyio
import torch
from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel
from starlette.requests import Request

from confu.search import Collection, Query, QueryError, SearchResult
from confu.serve.batching import Batcher, QueueFull, Stopped
from confu.serve.errors import RequestError, busy, query_error
from confu.serve.limits import Admission
from confu.serve.metrics import Metrics
from confu.serve.requests import Fields, read_body
from confu.serve.settings import ServeSettings
from confu.serve.uploads import check_upload

LOG = logging.getLogger("confu.serve")
Result = TypeVar("Result")


class Located(NamedTuple):
    """A search result, and where in the map its hits and, under None, its query lie."""

    result: SearchResult
    places: dict[str | None, tuple[float, float]]


class Service:
    """A collection that is being served.

    Args:
        collection: what is searched.
        settings: with the limits.
    """

    def __init__(self, collection: Collection, settings: ServeSettings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.collection, self.settings = collection, settings
        self.readers = collection.embedder.readers
        self.metrics = Metrics()
        self.admission = Admission(settings.queue, settings.max_memory_mb)
        self.batcher = self._make_batcher()
        self._decoders = CapacityLimiter(settings.readers)
        self._others = CapacityLimiter(8)
        self.metrics.gauge("confu_items", "Items of the index", lambda: len(collection.index))
        self.metrics.gauge("confu_waiting", "Requests that wait for the model", lambda: len(self.batcher))
        self.metrics.gauge("confu_in_flight", "Requests that are being answered", lambda: self.admission.requests)
        self.metrics.gauge("confu_in_flight_bytes", "Bytes of their bodies", lambda: self.admission.bytes)

    async def respond(
        self,
        request: Request,
        model: type[Fields],
        work: Callable[[dict[str, Any], Fields], Coroutine[Any, Any, Result]],
    ) -> Result:
        """Read a request and do the work within its time; a client that has gone away is not worked for.

        Args:
            request: with a body.
            model: of its fields.
            work: on the inputs and the fields.

        Raises:
            RequestError: whatever is wrong with it; 503 if there is no place, 408 or 504 if it takes too long.
        """
        seconds, most = self.settings.timeout_s, self.settings.max_request_mb
        with self.admission.reserve() as reservation:
            try:
                with anyio.fail_after(seconds):
                    try:
                        inputs, fields = await read_body(request, reservation, self.readers, model, self.settings)
                    except RequestError as error:
                        if error.code != "gone" and not await reservation.drain(request, most):
                            error.headers["Connection"] = "close"
                        raise
            except TimeoutError as error:
                raise RequestError(408, "too_slow", f"the request did not arrive in {seconds:g} s") from error
            try:
                with anyio.fail_after(seconds):
                    return await _until_gone(request, work(inputs, fields))
            except TimeoutError as error:
                message = f"there was no answer in {seconds:g} s; ask for less, or later"
                raise RequestError(504, "timeout", message) from error

    async def search(self, inputs: dict[str, Any], make_query: Callable[[dict[str, Any]], Query]) -> Located:
        """Decode the inputs, make a query of them, and wait for its result.

        Args:
            inputs: modality -> what was sent.
            make_query: from what the readers made of the inputs.
        """

        def prepare() -> Query:
            sources = {
                name: check_upload(name, value, self.readers[name], self.settings) for name, value in inputs.items()
            }
            return make_query(self.collection.read(sources) if sources else {})

        try:
            with self.batcher.announced():
                query = await self.in_thread(prepare, limiter=self._decoders)
                future = self.batcher.submit(query)
            return await asyncio.wrap_future(future)
        except QueueFull as error:
            raise busy(f"{len(self.batcher)} requests wait already") from error
        except Stopped as error:
            raise busy("the server is stopping", 5) from error
        except QueryError as error:
            raise query_error(error) from error
        except (ValueError, OverflowError) as error:  # of a source that a reader or the model refuses
            raise RequestError(422, "bad_question", str(error)) from error

    async def in_thread(
        self, work: Callable[..., Result], *arguments: Any, limiter: CapacityLimiter | None = None
    ) -> Result:
        """Run a blocking function beside the event loop."""
        return await to_thread.run_sync(
            partial(work, *arguments), abandon_on_cancel=True, limiter=limiter or self._others
        )

    def start(self) -> None:
        """Take requests, also again after `stop`."""
        if not self.batcher.alive:
            self.batcher = self._make_batcher()
        self.admission.closed = False

    def stop(self) -> None:
        """Answer the requests that wait, and take no more."""
        self.admission.closed = True
        self.batcher.stop()

    def _make_batcher(self) -> Batcher[Query, Located]:
        settings = self.settings
        return Batcher(self._answer, settings.max_batch, settings.max_wait_ms, settings.queue, self.metrics.batch)

    def _answer(self, queries: Sequence[Query]) -> Sequence[Located | Exception]:
        try:
            self.collection.refresh()
        except (OSError, ValueError):  # the index is being moved or is damaged: what is open goes on being served
            LOG.exception("the index could not be looked at again")
        results = self.collection.search(queries)
        return [
            result if isinstance(result, Exception) else Located(result, self.collection.places(result))
            for result in results
        ]


async def _until_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work unless the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise RequestError(499, "gone", "the client has gone")
        return tasks[0].result()
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def check_field_names(modalities: Sequence[str], models: Sequence[type[BaseModel]]) -> None:
    """Check that no modality has the name of a field of the requests.

    Raises:
        ValueError: naming it.
    """
    fields = sorted({name for model in models for name in model.model_fields})
    if clash := [name for name in modalities if name in fields]:
        raise ValueError(
            f"the modality {clash[0]!r} has the name of a field of the requests ({', '.join(fields)}); "
            "rename it in the run file and train again"
        )
