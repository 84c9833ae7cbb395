"""A server in a thread of its own, with more asked of it than it can do."""

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
import uvicorn

from confu.search import Collection
from confu.serve import ServeSettings, create_app, run, server_of
from confu.serve.errors import RequestError
from confu.serve.limits import Admission
from search.tiny_collection import write_collection

from .sending import png, refused, wav

PATIENCE = 600
"""Seconds, which only a server that is broken needs."""
get, post = (partial(send, timeout=PATIENCE) for send in (httpx.get, httpx.post))
ASK = {"text": "a red bird with a low call", "target": "image"}


class Gated(Collection):
    """A collection whose model answers only while its gate is open."""

    def __init__(self, collection: Collection) -> None:
        self.__dict__.update(collection.__dict__)
        self.gate, self.started = threading.Event(), threading.Event()
        self.answered = 0

    def search(self, queries):
        self.started.set()
        assert self.gate.wait(PATIENCE)
        self.answered += len(queries)
        return super().search(queries)


def wait_until(condition):
    """Poll with a limit that only a broken server reaches."""
    for _ in range(100 * PATIENCE):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"the server did not get there in {PATIENCE} s")


@contextmanager
def serving(collection, **settings):
    """The address of a server, and the server."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        server = server_of(collection, ServeSettings(**{"page": False, "timeout_s": PATIENCE, **settings}))
        server.config.log_level = "critical"
        server.config.timeout_keep_alive = PATIENCE
        server.config.configure_logging()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_four_times_the_load_loses_nothing(collection):
    """64 clients where 8 places are: while the model is held 56 are refused, and then all go on."""
    gated = Gated(collection)

    async def load(address: str) -> Counter:
        statuses: Counter = Counter()

        async def ask_twice(client: httpx.AsyncClient) -> None:
            for _ in range(2):
                response = await client.post(f"{address}/v1/search", json=ASK)
                statuses[response.status_code] += 1
                if statuses[503] == 56:
                    gated.gate.set()
                if response.status_code == 503:
                    assert response.headers["retry-after"].isdecimal()
                    assert response.json()["error"]["code"] == "busy"
                else:
                    assert len(response.json()["hits"]) == 10

        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200), timeout=PATIENCE) as client:
            await asyncio.gather(*(ask_twice(client) for _ in range(64)))
        return statuses

    with serving(gated, queue=8, max_batch=4) as (address, _):
        statuses = asyncio.run(load(address))
        assert get(f"{address}/readyz").status_code == 200
        metrics = get(f"{address}/metrics").text
    assert set(statuses) == {200, 503} and sum(statuses.values()) == 128
    assert statuses[200] >= 8 and statuses[503] >= 56
    for gauge in ("confu_in_flight", "confu_in_flight_bytes", "confu_waiting"):
        assert f"{gauge} 0.0" in metrics


def test_a_stop_answers_requests_in_flight_first(collection):
    gated, statuses = Gated(collection), []
    with serving(gated, max_batch=1) as (address, server):
        threads = [
            threading.Thread(target=lambda: statuses.append(post(f"{address}/v1/search", json=ASK).status_code))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        batcher = server.config.app.state.service.batcher
        wait_until(lambda: gated.started.is_set() and len(batcher) == 2)
        server.should_exit = True
        gated.gate.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert statuses == [200, 200, 200]


def test_a_client_that_goes_away_is_not_worked_for(collection):
    gated = Gated(collection)
    with serving(gated, max_batch=1) as (address, server):
        batcher = server.config.app.state.service.batcher
        body = json.dumps(ASK).encode()
        request = (
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        port = int(address.rsplit(":", 1)[1])
        first, *others = (socket.create_connection(("127.0.0.1", port)) for _ in range(5))
        first.sendall(request)
        assert gated.started.wait(PATIENCE)
        for other in others:
            other.sendall(request)
        wait_until(lambda: len(batcher) == 4)
        for other in others:
            other.close()
        wait_until(lambda: len(batcher) == 0)
        gated.gate.set()
        assert b"200 OK" in first.recv(100)
        first.close()
        assert post(f"{address}/v1/search", json=ASK).status_code == 200
        metrics = get(f"{address}/metrics").text
    assert gated.answered == 2
    assert "confu_in_flight 0.0" in metrics and "confu_waiting 0.0" in metrics


def test_what_takes_too_long_ends(collection):
    gated = Gated(collection)
    with serving(gated, timeout_s=0.2) as (address, _):
        # The model is held until the response is here: only the time limit can have ended the request.
        response = post(f"{address}/v1/search", json=ASK)
        assert "no answer in 0.2 s" in refused(response, 504, "timeout") and gated.answered == 0
        gated.gate.set()
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as slow_client:
            slow_client.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            slow_client.settimeout(PATIENCE)
            assert b" 408 " in slow_client.recv(200)


def test_a_body_without_an_end_is_cut_off(collection):
    with serving(collection, max_upload_mb=0.5, max_request_mb=1) as (address, _):
        sent = 0
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as endless:
            endless.settimeout(PATIENCE)
            endless.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            try:
                while sent < 2**26:
                    endless.sendall(b"10000\r\n" + b"[" * 2**16 + b"\r\n")
                    sent += 2**16
            except OSError:
                pass
            else:
                pytest.fail("64 MiB were taken in")
        assert get(f"{address}/readyz").status_code == 200


def test_bodies_of_all_requests_together_are_bounded():
    admission = Admission(2, 1)
    with admission.reserve() as one, admission.reserve() as other:
        with pytest.raises(RequestError, match="as many as this server takes"), admission.reserve():
            pass
        for place, count in ((one, 2**19), (other, 2**19)):
            admission.take(count)
            place.bytes += count
        with pytest.raises(RequestError, match="as much from others as it can hold") as error:
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


def test_an_internal_error_reveals_nothing(collection, caplog, as_users_run):
    from starlette.testclient import TestClient

    class Broken(Gated):
        def search(self, queries):
            raise RuntimeError("/home/secret/index is broken")

    with TestClient(create_app(Broken(collection)), raise_server_exceptions=False) as client:
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


def test_a_local_server_refuses_other_host_names(collection):
    """Else a page of another host whose name leads to this machine could read the collection."""
    with serving(collection, hosts=("proxy.example",)) as (address, _):
        for name in ("localhost:99", "127.0.0.1", "[::1]:80", "proxy.example"):
            assert get(f"{address}/v1/about", headers={"Host": name}).status_code == 200
        for name in ("evil.example", "localhost.evil.example:8000", ""):
            refused(get(f"{address}/v1/about", headers={"Host": name}), 421, "wrong_host")
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
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            answer = client.post("/v1/search", files={"image": png(), "audio": wav()}, data={"target": "text"}).json()
            odd = client.get("/v1/items/dir%2F%C3%A4%20b%3F%26%23").json()
        assert answer["hits"][0]["media"]["text"] == "a red bird with a low call" and odd["id"] == "dir/ä b?&#"


def test_addresses_begin_with_the_path_of_a_proxy(collection):
    """The proxy takes the path off before it asks, as most do; without one nothing changes."""
    with serving(collection, page=True, root_path="/birds", api_key="secret") as (address, _):
        headers = {"X-API-Key": "secret"}
        item = get(f"{address}/v1/items/item-07", headers=headers).json()
        assert item["media"]["image"] == "/birds/v1/items/item-07/media?modality=image"
        as_proxy = get(address + item["media"]["image"].removeprefix("/birds"), headers=headers)
        assert as_proxy.status_code == 200 and as_proxy.headers["content-type"] == "image/png"
        for public in ("/", "/page/app.js", "/healthz"):
            assert get(address + public).status_code == 200
        assert get(f"{address}/v1/about").status_code == 401
        assert get(f"{address}/openapi.json", headers=headers).json()["servers"] == [{"url": "/birds"}]
    with pytest.raises(ValueError, match="root_path"):
        ServeSettings(root_path="birds/")
