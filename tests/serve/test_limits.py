"""A server in a thread of its own, with more asked of it than it can do."""

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from confu.search import Collection
from confu.serve import ServeSettings, create_app, run, server_of
from confu.serve.limits import Admission
from confu.serve.problems import Problem
from search.tiny_collection import write_collection

from .sending import png, refused, wav

ASK = {"text": "a red bird with a low call", "target": "image"}


class Slow(Collection):
    """A collection whose model takes its time."""

    def __init__(self, collection: Collection, seconds: float) -> None:
        self.__dict__.update(collection.__dict__)
        self.seconds = seconds
        self.answered = 0

    def answer(self, questions):
        time.sleep(self.seconds)
        self.answered += len(questions)
        return super().answer(questions)


@contextmanager
def serving(collection, **settings):
    """The address of a server, and the server."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        server = server_of(collection, ServeSettings(page=False, **settings))
        server.config.log_level = "critical"
        server.config.configure_logging()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


def test_four_times_the_load_loses_nothing(collection):
    """64 clients that never wait, where 8 places are: every request is answered, by 200 or by 503 with a time."""

    async def load(address: str) -> Counter:
        seen: Counter = Counter()
        limits = httpx.Limits(max_connections=200)

        async def one(client: httpx.AsyncClient) -> None:
            for _ in range(4):
                response = await client.post(f"{address}/v1/search", json=ASK)
                seen[response.status_code] += 1
                if response.status_code == 503:
                    assert response.headers["retry-after"].isdecimal()
                    assert response.json()["error"]["code"] == "busy"
                else:
                    assert len(response.json()["hits"]) == 10

        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await asyncio.gather(*(one(client) for _ in range(64)))
        return seen

    slow = Slow(collection, 0.02)
    with serving(slow, queue=8, max_batch=4) as (address, _):
        seen = asyncio.run(load(address))
        assert httpx.get(f"{address}/readyz").status_code == 200
        metrics = httpx.get(f"{address}/metrics").text
    assert set(seen) == {200, 503} and sum(seen.values()) == 256 and seen[200] >= 8
    assert (
        "confu_in_flight 0.0" in metrics and "confu_in_flight_bytes 0.0" in metrics and "confu_waiting 0.0" in metrics
    )


def test_a_stop_answers_what_was_asked_first(collection):
    slow = Slow(collection, 0.3)
    found = []
    with serving(slow, max_batch=1) as (address, server):
        threads = [
            threading.Thread(target=lambda: found.append(httpx.post(f"{address}/v1/search", json=ASK).status_code))
            for _ in range(3)
        ]
        for one in threads:
            one.start()
        while slow.answered < 1:  # the first is answered, the others wait
            time.sleep(0.01)
        server.should_exit = True
        for one in threads:
            one.join(10)
    assert found == [200, 200, 200]


def test_a_client_that_goes_away_is_not_worked_for(collection):
    slow = Slow(collection, 0.4)
    with serving(slow, max_batch=1) as (address, _):
        port = int(address.rsplit(":", 1)[1])
        body = json.dumps(ASK).encode()
        request = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + \
                  b"Content-Length: %d\r\n\r\n%b" % (len(body), body)  # fmt: skip
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        for one in sockets:
            one.sendall(request)
            time.sleep(0.02)
        for one in sockets[1:]:
            one.close()
        assert b"200 OK" in sockets[0].recv(100)
        sockets[0].close()
        assert httpx.post(f"{address}/v1/search", json=ASK).status_code == 200
        text = httpx.get(f"{address}/metrics").text
    assert slow.answered <= 3  # the first, perhaps one that was begun, and the last
    assert "confu_in_flight 0.0" in text and "confu_waiting 0.0" in text


def test_what_takes_too_long_ends(collection):
    slow = Slow(collection, 0.6)
    with serving(slow, timeout_s=0.2) as (address, _):
        begun = time.perf_counter()
        response = httpx.post(f"{address}/v1/search", json=ASK)
        assert "no answer in 0.2 s" in refused(response, 504, "timeout") and time.perf_counter() - begun < 0.5
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as slowly:
            slowly.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: 100\r\n\r\n{")  # fmt: skip
            slowly.settimeout(5)
            assert b" 408 " in slowly.recv(200)


def test_a_body_without_an_end_is_cut_off(collection):
    with serving(collection, max_upload_mb=0.5, max_request_mb=1) as (address, _):
        sent = 0
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as endless:
            endless.settimeout(5)
            endless.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
            try:
                while sent < 2**26:
                    endless.sendall(b"10000\r\n" + b"[" * 2**16 + b"\r\n")
                    sent += 2**16
            except OSError:
                pass
            else:
                pytest.fail("64 MiB were taken in")
        assert httpx.get(f"{address}/readyz").status_code == 200


def test_bodies_of_all_requests_together_are_bounded():
    admission = Admission(2, 1)
    with admission.place() as one, admission.place() as other:
        with pytest.raises(Problem, match="as many as this server takes"), admission.place():
            pass
        for place, count in ((one, 2**19), (other, 2**19)):
            admission.take(count)
            place.bytes += count
        with pytest.raises(Problem, match="as much from others as it can hold") as error:
            admission.take(1)
        assert error.value.status == 503 and error.value.headers == {"Retry-After": "1"}
    assert admission.requests == admission.bytes == 0


def test_a_server_that_stops_is_not_ready(collection):
    from starlette.testclient import TestClient

    app = create_app(collection, ServeSettings(page=False))
    with TestClient(app) as client:
        app.state.service.stop()
        assert "stopping" in refused(client.get("/readyz"), 503, "busy")
        assert "stopping" in refused(client.post("/v1/search", json=ASK), 503, "busy")
        assert client.get("/healthz").status_code == 200


def test_an_error_of_ours_tells_nothing(collection, caplog, as_users_run):
    from starlette.testclient import TestClient

    class Broken(Slow):
        def answer(self, questions):
            raise RuntimeError("/home/secret/index is broken")

    with TestClient(create_app(Broken(collection, 0)), raise_server_exceptions=False) as client:
        response = client.post("/v1/search", json=ASK)
        assert refused(response, 500, "internal") == "the server failed; its log says how"
    assert "/home/secret/index is broken" in caplog.text


def test_settings_are_checked_and_safe_by_default(caplog, collection):
    settings = ServeSettings()
    assert settings.host == "127.0.0.1" and settings.is_local and settings.api_key is None
    assert not ServeSettings(host="0.0.0.0").is_local and not ServeSettings(host="example.org").is_local
    assert ServeSettings(host="localhost").is_local and ServeSettings(host="::1").is_local
    with pytest.raises(ValueError, match="hots"):
        ServeSettings(hots="0.0.0.0")
    server_of(collection, ServeSettings(host="0.0.0.0", page=False)).config.app.state.service.stop()
    assert re.search("0.0.0.0 can be reached from other machines, and no API key", caplog.text)


def test_a_local_server_is_asked_under_names_of_this_machine(collection):
    """Else a page of another host whose name leads to this machine could read the collection."""
    with serving(collection, hosts=("proxy.example",)) as (address, _):
        for name in ("localhost:99", "127.0.0.1", "[::1]:80", "proxy.example"):
            assert httpx.get(f"{address}/v1/about", headers={"Host": name}).status_code == 200
        for name in ("evil.example", "localhost.evil.example:8000", ""):
            refused(httpx.get(f"{address}/v1/about", headers={"Host": name}), 421, "wrong_host")
    assert ServeSettings(host="0.0.0.0").known_hosts is None and ServeSettings(api_key="k").known_hosts is None


def test_run_opens_serves_and_closes(tmp_path, monkeypatch):
    folder, seen = write_collection(tmp_path, rounds=1), []

    def serve(server):
        collection = server.config.app.state.service.collection
        seen.extend([len(collection.index), collection.temperature, server.config.port])
        server.config.app.state.service.stop()

    monkeypatch.setattr(uvicorn.Server, "run", serve)
    run(folder, ServeSettings(port=0, temperature=0.2))
    assert seen == [16, 0.2, 0]
    with pytest.raises(ValueError, match="confu index"):
        run(tmp_path / "none")


def test_real_files_go_through_a_real_server(collection):
    with serving(collection) as (address, _):
        with httpx.Client(base_url=address) as client:
            answer = client.post("/v1/search", files={"image": png(), "audio": wav()}, data={"target": "text"}).json()
            odd = client.get("/v1/items/dir%2F%C3%A4%20b%3F%26%23").json()
        assert answer["hits"][0]["media"]["text"] == "a red bird with a low call" and odd["id"] == "dir/ä b?&#"
