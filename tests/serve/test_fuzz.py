"""Requests that nobody would send on purpose: no failure of the server, no path of this machine, no growing memory."""

import json

import numpy as np
import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from confu.serve import ServeSettings, create_app

from .sending import check_tells_nothing, npy, png, wav

FEW = settings(max_examples=20, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(FEW, max_examples=60)
GOOD = {"image": png(), "audio": wav(), "text": b"a red bird", "sensor": npy(np.ones(4))}
NAMES = [*GOOD, "target", "k", "where", "weights", "singles", "exclude", "id", "subset", "labels", "template", "", "x"]
_SEEDS = [
    *GOOD.values(),
    wav(form="FLAC"),
    wav(form="OGG"),
    b"[1, 2, 3, 4]",
    b"image+audio",
    b"year > 2000",
    b'{"image": 1}',
]


@pytest.fixture(scope="module")
def app(collection):
    limits = ServeSettings(max_upload_mb=1, max_pixels=1_000_000, max_seconds_audio=5, max_text=500, page=False)
    made = create_app(collection, limits)
    with TestClient(made, raise_server_exceptions=False) as client:
        made.state.client = client
        yield made


def check(response) -> None:
    assert response.status_code < 500, response.text
    if "image" not in response.headers.get("content-type", "") and "audio" not in response.headers["content-type"]:
        check_tells_nothing(response.text)
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"code", "message", "field"}


@pytest.mark.parametrize("path", ["/v1/search", "/v1/embed", "/v1/classify", "/v1/map", "/v1/items/{id}/media"])
def test_what_the_schema_allows(app, path):
    """And, of what it does not allow, what schemathesis makes of it."""
    schema, statuses = schemathesis.openapi.from_dict(app.openapi()), []
    operation = schema[path]["GET" if path.endswith(("map", "media")) else "POST"]
    modes = schemathesis.GenerationMode

    @FEW
    @given(case=operation.as_strategy(modes.POSITIVE) | operation.as_strategy(modes.NEGATIVE))
    def send(case):
        try:
            made = requests.Request(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
            headers = [(name, value) for name, value in made.headers.items() if name.lower() != "content-length"]
            request = app.state.client.build_request(made.method, made.url, headers=headers, content=made.body)
        except (TypeError, ValueError):  # what the client itself cannot send
            return
        response = app.state.client.send(request)
        statuses.append(response.status_code)
        check(response)

    send()
    assert len(statuses) >= 10


@st.composite
def damaged(draw) -> bytes:
    """A good file or text with some of its bytes changed, cut out, put twice; or no file at all."""
    content = bytearray(draw(st.sampled_from(_SEEDS) | st.binary(max_size=300)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, min(len(content), 200) - 1)))
        way = draw(st.sampled_from(["set", "cut", "end", "twice", "put"]))
        if way == "set" and content:
            content[place] = draw(st.integers(0, 255))
        elif way == "cut":
            del content[place : place + draw(st.integers(1, 64))]
        elif way == "end":
            del content[place:]
        elif way == "twice":
            content[place:place] = content[place : place + 64]
        else:
            content[place:place] = draw(st.binary(max_size=8))
    return bytes(content)


PARTS = st.lists(st.tuples(st.sampled_from(NAMES), damaged(), st.sampled_from(["../../etc/passwd", "a.png", None])),
                 min_size=1, max_size=5)  # fmt: skip
PATHS = st.sampled_from(["search", "embed", "classify"])


@pytest.mark.parametrize("uploads", [60, pytest.param(200, marks=pytest.mark.heavy)])
def test_damaged_uploads_leave_the_server_as_it_was(app, uploads):
    client, process, statuses = app.state.client, psutil.Process(), set()

    @settings(FEW, max_examples=uploads)
    @given(path=PATHS, parts=PARTS)
    def send(path, parts):
        files = [(name, (filename, content)) for name, content, filename in parts]
        response = client.post(f"/v1/{path}", files=files)
        statuses.add(response.status_code)
        check(response)

    send()
    before = process.memory_info().rss
    send()
    assert process.memory_info().rss - before < 64 * 2**20
    assert {200, 422} <= statuses
    assert (
        app.state.service.admission.requests == app.state.service.admission.bytes == len(app.state.service.batcher) == 0
    )


@MANY
@given(path=PATHS, body=damaged(), boundary=st.sampled_from(["x", "image", "", '"', "x; boundary=y"]))
def test_forms_that_are_none(app, path, body, boundary):
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode()
    for content in (body, start + body, start + body + f"\r\n--{boundary}--\r\n".encode()):
        check(app.state.client.post(f"/v1/{path}", content=content, headers=headers))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@MANY
@given(path=PATHS, body=st.dictionaries(st.sampled_from(NAMES), ANY, max_size=5) | ANY)
def test_json_of_any_kind(app, path, body):
    headers = {"Content-Type": "application/json"}
    check(app.state.client.post(f"/v1/{path}", content=json.dumps(body).encode(), headers=headers))


@MANY
@given(id=st.text(max_size=30), modality=st.text(max_size=10), size=st.integers() | st.none())
def test_items_of_any_name(app, id, modality, size):
    from urllib.parse import quote

    address = f"/v1/items/{quote(id, safe='', errors='replace')}"
    check(app.state.client.get(address))
    params = {"modality": modality.encode("utf-8", "replace").decode(), **({} if size is None else {"size": size})}
    check(app.state.client.get(f"{address}/media", params=params))
    check(app.state.client.get("/v1/map", params={"subset": params["modality"]}))
