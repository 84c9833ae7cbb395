"""One thread answers what waits, from a queue that does not grow."""

import asyncio
import threading

import pytest

from confu.serve.batching import Batcher, QueueFull, Stopped


class Work:
    """Doubles numbers; can be held, and notes what came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free, self.busy = threading.Event(), threading.Event()
        self.free.set()

    def __call__(self, jobs):
        self.batches.append(list(jobs))
        self.busy.set()
        self.free.wait(60)
        return [ValueError(f"not {job}") if job < 0 else 2 * job for job in jobs]


@pytest.fixture
def work():
    return Work()


def held(work: Work, batcher: Batcher):
    """Keep the thread busy, so that what follows waits."""
    work.free.clear()
    first = batcher.submit(0)
    assert work.busy.wait(60)
    return first


def test_what_waits_is_answered_together(work):
    batcher = Batcher(work, max_batch=4)
    first = held(work, batcher)
    futures = [batcher.submit(number) for number in range(1, 8)]
    assert len(batcher) == 7 and not first.done()
    work.free.set()
    assert [future.result(60) for future in futures] == [2 * number for number in range(1, 8)]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6, 7]] and len(batcher) == 0
    batcher.stop()


def test_a_failure_is_raised_to_who_asked_and_to_nobody_else(work):
    batcher = Batcher(work)
    held(work, batcher)
    futures = [batcher.submit(number) for number in (1, -2, 3)]
    work.free.set()
    assert futures[0].result(60) == 2 and futures[2].result(60) == 6
    with pytest.raises(ValueError, match="not -2"):
        futures[1].result(60)
    batcher.stop()


def test_a_failed_batch_fails_its_jobs_only():
    def crashing(jobs):
        if None in jobs:
            raise RuntimeError("broken")
        return jobs

    batcher = Batcher(crashing)
    with pytest.raises(RuntimeError, match="broken"):
        batcher.submit(None).result(60)
    assert batcher.submit(5).result(60) == 5 and batcher.alive
    batcher.stop()


def test_no_more_wait_than_may_and_who_leaves_makes_room(work):
    batcher = Batcher(work, capacity=2)
    held(work, batcher)
    first, second = batcher.submit(1), batcher.submit(2)
    with pytest.raises(QueueFull):
        batcher.submit(3)
    assert first.cancel()
    third = batcher.submit(3)
    work.free.set()
    assert (second.result(60), third.result(60)) == (4, 6) and work.batches[1:] == [[2, 3]]
    batcher.stop()


def test_a_task_that_is_cancelled_gives_its_place_back(work):
    batcher = Batcher(work, capacity=1)
    held(work, batcher)

    async def leave():
        task = asyncio.ensure_future(batcher.ask(1))
        while len(batcher) == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(batcher) == 0
        work.free.set()
        return await batcher.ask(2)

    assert asyncio.run(leave()) == 4 and [1] not in work.batches
    batcher.stop()


def test_stop_answers_what_waits_and_takes_no_more(work):
    batcher = Batcher(work, max_batch=1)
    held(work, batcher)
    futures = [batcher.submit(number) for number in (1, 2)]
    threading.Timer(0.05, work.free.set).start()
    batcher.stop()
    assert [future.result(0) for future in futures] == [2, 4] and not batcher.alive
    with pytest.raises(Stopped):
        batcher.submit(3)


def test_stop_can_leave_what_waits(work):
    batcher = Batcher(work, max_batch=1)
    first = held(work, batcher)
    waiting = batcher.submit(1)
    threading.Timer(0.05, work.free.set).start()
    batcher.stop(drain=False)
    assert waiting.cancelled() and first.result(0) == 0


def test_a_lone_job_does_not_wait_for_others(work):
    # An hour's wait would be noticed: nobody is announced, so it is not waited for.
    batcher = Batcher(work, max_wait_ms=3_600_000)
    assert batcher.submit(1).result(60) == 2
    batcher.stop()


def test_announced_jobs_are_waited_for(work):
    batcher = Batcher(work, max_wait_ms=3_600_000)
    with batcher.announced():
        first = batcher.submit(1)
        assert not first.done()
        second = batcher.submit(2)
    assert (first.result(60), second.result(60)) == (2, 4) and work.batches == [[1, 2]]
    batcher.stop()


def test_a_slow_announced_job_is_not_waited_for_long(work):
    batcher = Batcher(work, max_wait_ms=10)
    with batcher.announced():
        assert batcher.submit(1).result(60) == 2
    batcher.stop()


def test_each_batch_is_told_with_its_size(work):
    told = []
    batcher = Batcher(work, observe=lambda size, seconds: told.append((size, seconds >= 0)))
    batcher.submit(1).result(60)
    batcher.stop()
    assert told == [(1, True)]


def test_many_threads_each_get_their_own_answer(work):
    batcher = Batcher(work, max_batch=7)
    found: dict[int, int] = {}

    def ask(start: int) -> None:
        for number in range(start, start + 50):
            found[number] = batcher.submit(number).result(60)

    threads = [threading.Thread(target=ask, args=(50 * number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    batcher.stop()
    assert found == {number: 2 * number for number in range(400)}
    assert max(map(len, work.batches)) <= 7
