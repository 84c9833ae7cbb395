"""A run that is killed again and again ends with the files of one that was not, and repeats no finished request."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import connection, forkserver

import pytest

from paper.collecting.faulty_server import FaultyServer
from paper.collecting.killing import run


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def processes():
    """Starts processes from one that has imported everything, so that a start takes no seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["paper.collecting.killing"])
    with pytest.MonkeyPatch.context() as environment:  # what is imported ahead is looked for before the path is told
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    return context


# The number of the request, and whether the kill comes while it is on its way or once the answer has left: while a
# species is looked up, pages are read, photos, recordings and articles are fetched.
FEW = (("before", 2), ("after", 12), ("before", 17))
MANY = (("before", 2), ("after", 5), ("before", 8), ("after", 12), ("before", 17), ("after", 22), ("after", 25))


@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.heavy)], ids=["few", "many"])
def test_a_run_that_is_killed_goes_on(tmp_path, processes, kills):
    with FaultyServer() as server:
        run(tmp_path / "whole", server.addresses)
        needed = len(server.asked)
        assert set(server.times().values()) == {1}
        server.asked.clear()
        in_flight: list[str] = []

        def killed_at(moment: str, count: int) -> None:
            """Kill the run while its request of this number is on its way, or once the answer has left."""
            process = processes.Process(target=run, args=(tmp_path / "killed", server.addresses))

            def kill(path: str) -> None:
                if len(server.asked) == count:
                    in_flight.append(path)
                    process.kill()
                    connection.wait([process.sentinel])  # not join: the main thread does, and one may read the code

            server.before = kill if moment == "before" else _nothing
            server.after = kill if moment == "after" else _nothing
            process.start()
            process.join(60)
            server.before = server.after = _nothing
            assert process.exitcode == -9

        for moment, count in kills:
            killed_at(moment, count)
            assert len(server.asked) == count

        for lines in (2, 4)[: len(kills) - 2]:  # while clips are cut
            process = processes.Process(target=run, args=(tmp_path / "killed", server.addresses))
            process.start()
            wait_for(lambda lines=lines: _lines(tmp_path / "killed" / "clips.jsonl") >= lines)
            process.kill()
            process.join()
        run(tmp_path / "killed", server.addresses)

        assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
        repeated = {path: times for path, times in server.times().items() if times > 1}
        assert set(repeated) <= set(in_flight) and max(repeated.values()) == 2, "only what was on its way"
        assert needed + len(FEW) // 2 <= len(server.asked) <= needed + len(kills)


def test_nothing_half_written_stays(tmp_path, processes):
    with FaultyServer() as server:
        process = processes.Process(target=run, args=(tmp_path, server.addresses))
        server.fail("/download", "endless")
        process.start()
        wait_for(lambda: any((tmp_path / "recordings").rglob(".*.partial")))
        process.kill()
        process.join()
        assert any(tmp_path.rglob(".*.partial")), "the kill came while it was written"
        run(tmp_path, server.addresses)
        assert not any(tmp_path.rglob(".*.partial"))
        assert len(list((tmp_path / "recordings").rglob("*.mp3"))) == 4


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def _lines(file) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _nothing(path: str) -> None:
    pass
