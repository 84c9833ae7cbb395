"""An index in a real PostgreSQL server: what becomes of it when the server goes away, and what is refused."""

import json
import os
import signal
import threading

import pyarrow as pa
import pytest
import torch

from confu.index import About, Index, Items
from confu.index.postgres_connection import Connection, without_password
from confu.plan import Subset
from index.conftest import ABOUT, SUBSETS
from index.test_contract import as_dict, assert_holds, make_items, names

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def make(server, tmp_path):
    made = []

    def create(name="index", about=ABOUT, **options):
        made.append(Index.create(tmp_path / name, about, "postgres", **{"url": server.url, **options}))
        return made[-1]

    yield create
    for index in made:
        index.close()


def plans(index, query):
    """How the server finds the rows, by the text of the statement."""
    with psycopg.connect(index.backend.connection.url) as connection:
        connection.execute("SET enable_seqscan = off")
        text = f'SELECT id FROM "{index.backend.table}" ORDER BY image <#> %s::vector LIMIT 3'
        return str(connection.execute(f"EXPLAIN {text}", [str(query.tolist())]).fetchall())


def test_the_graph_is_used(make):
    index, items = make(), make_items(names(2000))
    index.add(items)
    query = items.table["image"][:1]
    assert "Index Scan using confu_" in plans(index, query[0])
    assert index.search(query, "image", 1)[0][0].id == names(1)[0]
    flat = make("flat", kind="flat")
    flat.add(items)
    assert "confu_" not in plans(flat, query[0]).replace("confu_flat", "")


def test_more_than_the_graph_can_give(make):
    index, items = make(), make_items(names(1100))
    index.add(items)
    assert len(index.search(items.table["image"][0], "image", 1050)[0]) == 1050


def test_long_vectors_have_no_graph(make):
    index = make(about=About("by hand", "", 2100, SUBSETS[:1], {"image": "image"}))
    vectors = torch.nn.functional.normalize(torch.randn(5, 2100), dim=1)
    items = make_items(names(5))
    index.add(Items(type(items.table)(items.table.ids, {SUBSETS[0]: vectors})))
    assert index.search(vectors[3], "image", 1)[0][0].id == names(1, 3)[0]


def test_a_password_is_never_written(make, server, tmp_path, monkeypatch):
    monkeypatch.setenv("CONFU_POSTGRES", server.url)
    make(url=f"postgresql://confu:s3cret@/postgres?host={server.folder}").close()
    assert "s3cret" not in (tmp_path / "index" / "index.json").read_text()
    make("from environment", url=None).close()
    assert "url" not in json.loads((tmp_path / "from environment" / "index.json").read_text())["backend"]["options"]
    with Index.open(tmp_path / "from environment") as opened:
        assert len(opened) == 0
    assert "s3cret" not in without_password("host=a user=b password=s3cret sslpassword=s3cret")
    with pytest.raises(ValueError, match=r"cannot be read") as caught:
        Connection("postgresql://confu:s3cret@[")
    assert "s3cret" not in str(caught.value)


def test_without_an_address_the_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CONFU_POSTGRES", raising=False)
    with pytest.raises(ValueError, match=r"Set the environment variable CONFU_POSTGRES, or give the option url"):
        Index.create(tmp_path / "index", ABOUT, "postgres")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"ef": 1001}, "option ef must be a whole number from 1 to 1000; got 1001"),
        ({"m": 1}, "option m must be"),
        ({"kind": "ivf"}, "option kind 'ivf' is not known"),
        ({"table": ""}, "option table must be"),
        ({"table": "a%s"}, "without %"),
        ({"timeout": -1}, "timeout must be a number of seconds"),
        ({"efs": 3}, "did you mean 'ef'"),
    ],
)
def test_options_that_are_wrong_are_named(tmp_path, option, says):
    with pytest.raises(ValueError, match=says):
        Index.create(tmp_path / "index", ABOUT, "postgres", url="host=nowhere.invalid", **option)


def test_a_table_that_is_there_is_not_touched(make, server):
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS birds (name text)")
    with pytest.raises(ValueError, match=r"has a table 'birds' already; give another name"):
        make(table="birds")


def test_a_table_that_is_another_is_refused(make, server, tmp_path):
    make()
    with pytest.raises(ValueError, match=r"has no table 'gone'"):
        Index.open(tmp_path / "index", table="gone")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS stranger (name text)")
    with pytest.raises(ValueError, match=r"'stranger' of the database is no index of confu"):
        Index.open(tmp_path / "index", table="stranger")
    other = make("other", About("by hand", "", 3, (Subset("text"),), {"text": "text"}))
    with pytest.raises(ValueError, match=r"holds text with 3; is it the right database"):
        Index.open(tmp_path / "index", table=other.backend.table)


def test_a_dropped_table_leaves_the_name_free(as_users_run, make):
    index = make(table="for a while")
    index.backend.drop()
    assert index.verify()[0].endswith("make the index again")
    make("again", table="for a while")


def test_what_the_database_cannot_hold_is_named(make):
    index = make()
    items = make_items(names(3), note=pa.array(["a", "b\0", "c"]))
    with pytest.raises(ValueError, match=r"item 'item/1 ä' has a text with a zero byte"):
        index.add(items)
    assert len(index) == 0
    index.add(make_items(names(3)))


def test_verify_sees_what_was_changed_by_hand(make, server):
    index = make()
    index.add(make_items(names(5)))
    with psycopg.connect(server.url, autocommit=True) as connection:
        zeros = str([0.0] * 12)
        connection.execute(f'UPDATE "{index.backend.table}" SET image = %s::vector WHERE row < 3', [zeros])
        assert "2 vectors of image have no length of 1" in index.verify()[0]
        connection.execute(f'ALTER TABLE "{index.backend.table}" DROP COLUMN audio')
    assert "has no column audio" in index.verify()[0]


def test_a_server_that_is_away_is_named(tmp_path):
    with pytest.raises(ConnectionError, match=rf"PostgreSQL at {tmp_path}:5432, database 'db'.*Does it run.*"):
        Index.create(tmp_path / "index", ABOUT, "postgres", url=f"postgresql://a:b@/db?host={tmp_path}", wait=0.2)


def wait_for_progress(counts, threads):
    """Until every thread has done one thing more."""
    before, pause = list(counts), threading.Event()
    for _ in range(60_000):
        if all(now > then for now, then in zip(counts, before)) or not all(one.is_alive() for one in threads):
            return
        pause.wait(0.01)
    raise AssertionError(f"no progress: {counts}")


def test_a_restart_under_load_loses_nothing(make, server, tmp_path):
    """Two threads ask and one writes while the server is killed and comes back, twice."""
    items = make_items(names(200))
    index = make(wait=20.0)
    index.add(items)
    query, stop, errors, counts = items.table["image"][:2], threading.Event(), [], [0, 0, 0]
    expected = as_dict(items)

    def ask(number):
        with Index.open(tmp_path / "index") as opened:
            while not stop.is_set():
                try:
                    assert opened.search(query, "image", 1)[0][0].id == names(1)[0]
                    counts[number] += 1
                except Exception as error:
                    errors.append(error)

    def write():
        for number in range(1000, 9000):
            if stop.is_set():
                return
            one = make_items(names(1, number), seed=number)
            # A write is never done twice: whether one that broke off was stored is asked of the index.
            while one.table.ids[0] not in set(index.ids()):
                try:
                    index.add(one)
                except ConnectionError as error:
                    assert "whole or not at all" in str(error)
            expected.update(as_dict(one))
            counts[2] += 1

    threads = [threading.Thread(target=ask, args=(0,)), threading.Thread(target=ask, args=(1,))]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for _ in range(2):
        wait_for_progress(counts, threads)
        server.stop("immediate")
        server.start()
    wait_for_progress(counts, threads)
    stop.set()
    for thread in threads:
        thread.join(timeout=600)
        assert not thread.is_alive()
    assert errors == [] and min(counts) > 0
    assert len(expected) > 200
    assert_holds(index, expected)
    assert index.verify() == []


def test_a_server_that_stands_still_holds_nobody(as_users_run, make, server):
    index = make(timeout=1.0)
    index.add(make_items(names(3)))
    assert len(index) == 3
    server.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(ConnectionError, match="PostgreSQL at"):
            len(index)
    finally:
        server.signal_all(signal.SIGCONT)
    assert len(index) == 3


def test_what_takes_too_long_is_said(server):
    link = Connection(server.url, timeout=1.0)
    with pytest.raises(ConnectionError, match=r"took longer than 1 s\. Give the option timeout"):
        link.read(lambda connection: connection.execute("SELECT pg_sleep(60)"))
    assert link.read(lambda connection: connection.execute("SELECT 1").fetchone()[0]) == 1
    link.close()


def test_a_writer_waits_for_another_one_no_longer_than_its_limit(make, server):
    index = make(timeout=1.0)
    with psycopg.connect(server.url) as connection:
        connection.execute(f'LOCK TABLE "{index.backend.table}" IN SHARE ROW EXCLUSIVE MODE')
        assert len(index) == 0  # readers read on
        with pytest.raises(ConnectionError, match="another process is writing"):
            index.add(make_items(names(1)))
    index.add(make_items(names(1)))


def test_a_killed_writer_leaves_what_was_there(make, tmp_path):
    index, items = make(), make_items(names(30))
    index.add(items)
    for seconds in (0.002, 0.02):
        if not (child := os.fork()):
            try:
                # The connection of the parent is not ours to use or to end.
                writer = Index.open(tmp_path / "index", writable=True)
                signal.setitimer(signal.ITIMER_PROF, seconds)  # of processor time; then the system kills it
                while True:
                    writer.add(make_items(names(300, 1000), seed=1), replace=True)
                    writer.delete(names(300, 1000))
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGPROF
        assert len(index) in (30, 330)
        assert index.verify() == []
        index.delete(names(300, 1000))
    assert_holds(index, as_dict(items))
