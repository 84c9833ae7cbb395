"""What the server answers: the same as a collection, as JSON, and the files of items."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from confu.serve import ServeSettings, create_app
from search.tiny_collection import open_collection

from .sending import npy, png, refused, wav

ODD = "dir%2F%C3%A4%20b%3F%26%23"


def test_a_search_is_that_of_the_collection(client, collection):
    files = {"image": ("a.png", png()), "audio": ("b.wav", wav())}
    fields = {"target": "text", "k": "4", "singles": "true", "where": ["year >= 2001", "colour in red,blue"]}
    answer = client.post("/v1/search", files=files, data=fields).json()
    direct = collection.ask(
        {"image": png(), "audio": wav()}, "text", 4, ["year >= 2001", "colour in red,blue"], singles=True
    )
    assert (answer["query"], answer["target"]) == ("image+audio", "text") and answer["took_ms"] > 0
    for found, hits in [
        (answer["hits"], direct.hits),
        (answer["mean"], direct.mean),
        *((answer["singles"][name], direct.singles[name]) for name in ("image", "audio")),
    ]:
        assert [hit["id"] for hit in found] == [hit.id for hit in hits] and len(hits) == 4
        assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-5)
        assert [hit["metadata"] for hit in found] == [hit.metadata for hit in hits]
    places = collection.places(direct)
    assert answer["point"] == pytest.approx(places[None], abs=1e-4)
    assert answer["hits"][0]["point"] == pytest.approx(places[direct.hits[0].id], abs=1e-4)
    first = answer["hits"][0]
    assert first["media"]["text"] == direct.hits[0].media["text"]
    assert client.get(first["media"]["audio"]).content[8:12] == b"WAVE"


def test_json_asks_as_a_form_does(client):
    form = client.post(
        "/v1/search", files={"image": png(), "audio": wav()}, data={"target": "text", "weights": '{"image": 1}'}
    ).json()
    inputs = {name: {"base64": base64.b64encode(content).decode()} for name, content in
              (("image", png()), ("audio", wav()))}  # fmt: skip
    plain = client.post("/v1/search", json={**inputs, "target": "text", "weights": {"image": 1}, "where": None}).json()
    assert plain["hits"] == form["hits"] and plain["query"] == "image+audio"


def test_vectors_come_as_numbers_or_files(client):
    numbers = [0.5, -1.0, 0.25, 1.0]
    ways = [
        client.post("/v1/embed", json={"sensor": numbers}),
        client.post("/v1/embed", files={"sensor": (None, json.dumps(numbers))}),
        client.post("/v1/embed", files={"sensor": ("v.json", json.dumps(numbers).encode())}),
        client.post("/v1/embed", files={"sensor": ("v.npy", npy(np.array(numbers)))}),
    ]
    for way in ways:
        assert way.json() == ways[0].json() and way.json()["subset"] == "sensor"
    assert np.linalg.norm(ways[0].json()["vector"]) == pytest.approx(1, abs=1e-5)
    part = client.post("/v1/embed", files={"image": png(), "audio": wav()}, data={"subset": "audio"}).json()
    assert part == client.post("/v1/embed", files={"audio": wav()}).json() and part["dim"] == 16


def test_an_item_asks(client, collection):
    answer = client.post("/v1/search", json={"id": "item-07", "subset": "image+audio", "target": "text", "k": 3}).json()
    direct = collection.similar("item-07", "image+audio", "text", 3)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in direct.hits]
    refused(client.post("/v1/search", json={"id": "none", "subset": "image"}), 404, "unknown_item", "id")
    refused(client.post("/v1/search", json={"id": "item-07", "text": "a"}), 422, "bad_id", "id")
    refused(client.post("/v1/search", json={"id": "item-07"}), 422, "bad_subset", "subset")


def test_a_text_that_is_too_long_for_the_model_is_cut_and_said(client):
    short, long = ({"text": text, "target": "image"} for text in ("a red bird", "a red bird " * 40))
    with pytest.warns(UserWarning, match="text: 1 text is longer than"):
        answer = client.post("/v1/search", json=long).json()
    assert answer["cut"] == ["text"] and len(answer["hits"]) == 10
    assert client.post("/v1/search", json=short).json()["cut"] == []


def test_labels_of_the_clients_own(client, collection):
    fields = {"labels": "red\ngreen\n\nblue", "template": "a {} bird"}
    answer = client.post("/v1/classify", files={"image": png("green")}, data=fields).json()
    assert answer["query"] == "image" and answer["labels"][0]["label"] == "green"
    assert sum(label["probability"] for label in answer["labels"]) == pytest.approx(1)
    given = {"image": {"base64": base64.b64encode(png("green")).decode()}, "template": "a {} bird"}
    for labels in (["red", "green", "blue"], {"red": ["red"], "green": ["green"], "blue": ["blue"]}):
        assert client.post("/v1/classify", json={**given, "labels": labels}).json() == answer
    same = {"labels": '["red", "green", "blue"]', "template": "a {} bird"}
    assert client.post("/v1/classify", files={"image": png("green")}, data=same).json() == answer


def test_about_says_what_can_be_asked(client, collection):
    about = client.get("/v1/about").json()
    assert about["modalities"] == {"image": "image", "audio": "audio", "text": "text", "sensor": "vector"}
    assert about["stored"] == about["subsets"] == ["image", "audio", "text", "sensor", "image+audio"]
    assert about["items"] == len(collection.index) == 48 and about["read_only"] is True
    assert about["columns"] == {"label": "text", "colour": "text", "hertz": "integer", "year": "integer",
                                "loud": "boolean", "weight": "number"}  # fmt: skip
    assert len(about["labels"]) == 16 and about["limits"]["max_text"] == 500
    assert about["inputs"]["sensor"] == {"kind": "vector", "shape": [4], "dim": 4}


def test_items_and_their_files(client):
    item = client.get(f"/v1/items/{ODD}").json()
    assert item["id"] == "dir/ä b?&#" and item["subsets"] == ["image", "audio", "text", "sensor", "image+audio"]
    assert item["metadata"]["hertz"] == 700 and item["media"]["image"] == f"/v1/items/{ODD}/media?modality=image"
    for modality, kind in (("image", "image/png"), ("audio", "audio/wav"), ("sensor", "application/json")):
        response = client.get(item["media"][modality])
        assert response.status_code == 200 and response.headers["content-type"] == kind
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in response.headers["content-security-policy"]
    assert len(client.get(item["media"]["sensor"]).json()) == 4
    text = client.get(f"/v1/items/{ODD}/media?modality=text")
    assert text.text == item["media"]["text"] == "a red bird with a high call"
    refused(client.get("/v1/items/none"), 404, "unknown_item", "id")
    refused(client.get("/v1/items/none/media?modality=image"), 404, "unknown_item", "id")
    message = refused(client.get("/v1/items/item-00/media?modality=audio"), 404, "no_media", "modality")
    assert "it has" in message and "image" in message


def test_sounds_are_given_in_ranges(client):
    address = "/v1/items/item-07/media?modality=audio"
    whole = client.get(address).content
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    head = client.head(address)
    assert head.status_code == 200 and not head.content and int(head.headers["content-length"]) == len(whole)
    assert client.get(address, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416


def test_thumbnails_fit(client):
    response = client.get("/v1/items/item-07/media?modality=image&size=16")
    assert max(Image.open(io.BytesIO(response.content)).size) == 16
    for size in ("0", "15", "1025", "x"):
        refused(client.get(f"/v1/items/item-07/media?modality=image&size={size}"), 422, "bad_size", "size")


def test_a_file_that_is_gone_or_damaged_is_not_found(tmp_path):
    collection = open_collection(tmp_path, rounds=1)
    files = Path(collection.index.get("item-03").media["image"]).parent
    (files / "3.png").unlink()
    (files / "4.png").write_bytes(b"<html><script>alert(1)</script>")
    (files / "4.npy").write_bytes(b"\x93NUMPY")
    with TestClient(create_app(collection)) as client:
        for size in ("", "&size=32"):
            message = refused(client.get(f"/v1/items/item-03/media?modality=image{size}"), 404, "file_is_gone")
            assert "no longer where it was" in message
        raw = client.get("/v1/items/item-04/media?modality=image")
        assert raw.headers["content-type"] == "application/octet-stream"  # no browser runs it
        refused(client.get("/v1/items/item-04/media?modality=image&size=32"), 404, "file_is_damaged")
        refused(client.get("/v1/items/item-04/media?modality=sensor"), 404, "file_is_damaged")
    collection.close()


def test_a_store_that_is_away_means_come_again(client, collection, monkeypatch):
    def away(*_, **__):
        raise ConnectionError("PostgreSQL at db.example:5432 does not answer")

    monkeypatch.setattr(collection.index.backend, "search", away)
    monkeypatch.setattr(collection.index.backend, "fetch", away)
    for answer in (client.post("/v1/search", json={"text": "a red dot", "target": "image"}), client.get("/v1/items/0")):
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "5"
        assert answer.json()["error"]["code"] == "store_away" and "db.example" not in answer.text


def test_the_map_and_its_errors(client, collection):
    found = client.get("/v1/map?subset=text").json()
    assert found["subset"] == "text" and found["method"] == "pca" and len(found["items"]) == 48
    id, x, y, label = found["items"][7]
    assert (id, label) == ("item-07", "green shrill") and (x, y) == pytest.approx(collection.plane("text").places[id])
    assert client.get("/v1/map").json()["subset"] == "image"
    refused(client.get("/v1/map?subset=sound"), 422, "unknown_target", "target")


def test_health_metrics_and_docs(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/search", json={})
    text = client.get("/metrics").text
    assert 'confu_requests_total{method="POST",route="/v1/search",status="422"}' in text
    assert "confu_items 48.0" in text and "confu_batch_size_bucket" in text and "item-07" not in text
    docs = client.get("/docs")
    assert "openapi.json" in docs.text and "http" not in docs.text.replace("https://example", "")
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/v1/search"]["post"]["requestBody"]["content"]
    assert set(body["multipart/form-data"]["schema"]["properties"]) >= {"image", "audio", "text", "sensor", "where"}
    refused(client.get("/nothing"), 404, "not_found")
    refused(client.put("/v1/search"), 405, "method_not_allowed")


def test_api_key_guards_all_but_health_and_page(collection, monkeypatch):
    monkeypatch.setenv("CONFU_API_KEY", "ünsaid")
    settings = ServeSettings()
    assert "ünsaid" not in repr(settings)
    with TestClient(create_app(collection, settings)) as client:
        assert client.get("/healthz").status_code == 200 and client.get("/").status_code == 200
        for address in ("/v1/about", "/metrics", "/openapi.json", "/v1/items/item-07/media?modality=image", "/readyz"):
            response = client.get(address)
            refused(response, 401, "no_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        key = "ünsaid".encode()
        for headers in ({"Authorization": b"Bearer " + key}, {"authorization": b"bearer " + key}, {"X-API-Key": key}):
            assert client.get("/v1/about", headers=headers).status_code == 200
        for wrong in (b"", b"unsaid", key + b"x", key[:-1]):
            assert client.get("/v1/about", headers={"X-API-Key": wrong}).status_code == 401
        assert client.post("/v1/search", files={"image": png()}).status_code == 401


def test_other_origins_are_named(collection):
    with TestClient(create_app(collection, ServeSettings(cors=("https://a.example",)))) as client:
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
            found = client.get("/v1/about", headers={"Origin": origin}).headers.get("access-control-allow-origin")
            assert found == allowed
    with TestClient(create_app(collection)) as client:
        found = client.get("/v1/about", headers={"Origin": "https://a.example"})
        assert "access-control-allow-origin" not in found.headers


def test_a_modality_named_like_a_field_is_refused(collection, monkeypatch):
    monkeypatch.setattr(collection, "modalities", ("image", "target"))
    with pytest.raises(ValueError, match="the modality 'target' has the name of a field of the requests"):
        create_app(collection)
