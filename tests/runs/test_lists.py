"""Cells that hold lists of files: the mean of their features, or the first of them."""

from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from starlette.testclient import TestClient

import confu
from confu.data.readers import build_reader
from confu.runs import embed_manifest, index_manifest, init, open_run, train
from confu.runs.page_media import CellView
from confu.search import Collection
from confu.serve import create_app
from runs.own_data import make_rows
from runs.test_train import FrozenMean

SETS = ["train.epochs=1", "train.batch_size=8", "modalities.photos.encoder={kind: conv, channels: [4], out_dim: 8}"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of 24 rows with one to three pictures a row, as paths, and a sound or two, as bytes."""
    folder = tmp_path_factory.mktemp("lists")
    rows = make_rows(folder, 24, gaps=False)
    photos = [[rows[(i + k) % 24]["image"] for k in range(1 + i % 3)] for i in range(24)]
    sounds = [
        [{"bytes": (folder / row["audio"]).read_bytes(), "path": None}] * (1 + i % 2) for i, row in enumerate(rows)
    ]
    photos[3] = None
    texts = [row["text"] for row in rows]
    columns = {"id": [row["id"] for row in rows], "photos": photos, "sounds": sounds, "text": texts}
    pq.write_table(pa.table(columns), folder / "clips.parquet")
    return folder


@pytest.mark.parametrize("use", ["mean", "first"])
def test_lists_are_embedded_alike_everywhere(table, use):
    made = init(table / "clips.parquet", table / f"{use}.yaml", columns=["photos", "text"], folder=str(table / use))
    assert made.run.modalities["photos"].reader["list"] == "mean"
    assert "#   list: mean averages the features of all files of a cell; list: first reads the first" in made.text
    sets = [*SETS, f"modalities.photos.reader.list={use}"]
    train(table / f"{use}.yaml", sets, progress=False)

    model = confu.load(table / use)
    rows = [row for row in pq.read_table(table / "clips.parquet").to_pylist() if row["photos"]]
    files = [[str(table / name) for name in row["photos"]] for row in rows]
    expected = torch.cat([model.encode(photos=[one]).vectors for one in files])
    first = model.encode(photos=[one[0] for one in files]).vectors
    assert torch.allclose(expected, first, atol=1e-6) == (use == "first")
    vectors = [model.encode(photos=files, batch_size=7).vectors]
    vectors.append(
        model.encode(photos=[[(table / name).read_bytes() for name in row["photos"]] for row in rows]).vectors
    )

    embed_manifest(table / use, table / "clips.parquet", table / f"{use}-out", progress=False)
    vectors.append(confu.load_shards(table / f"{use}-out")["photos"][[i for i in range(24) if i != 3]])
    index_manifest(table / use, table / "clips.parquet", table / f"{use}.index", progress=False)
    with (
        closing(Collection.open(table / f"{use}.index")) as collection,
        TestClient(create_app(collection), base_url="http://localhost") as client,
    ):
        vectors.append(collection.index.fetch([row["id"] for row in rows]).table["photos"])
        parts = [[("photos", (table / name).read_bytes()) for name in row["photos"]] for row in rows[:3]]
        answers = [client.post("/v1/embed", files=part).json() for part in parts]
        vectors.append(torch.tensor([answer["vector"] for answer in answers]))
        assert client.get(f"/v1/items/{rows[1]['id']}/media?modality=photos").content == parts[1][0][1]
    for made in vectors:
        assert torch.allclose(made, expected[: len(made)], atol=1e-6)


@pytest.mark.parametrize("use", ["mean", "first"])
def test_the_page_shows_the_first_file(table, use):
    reader = build_reader({"kind": "image", "size": 12, "channels": 1, "list": use})
    files = [str(table / f"images/{number}.png") for number in range(2)]
    shown = CellView("photos", "image", reader, lambda id: files).show("a", "photos")
    alone = CellView("photos", "image", reader.reader, lambda id: files[0]).show("a", "photos")
    assert (shown.label, shown.images) == ("photos, the first of 2", alone.images)


def test_features_of_a_frozen_encoder_are_averaged_once(table):
    init(table / "clips.parquet", table / "frozen.yaml", columns=["photos", "text"], folder=str(table / "frozen"))
    sets = [*SETS, "modalities.photos.encoder=runs.test_train:FrozenMean", "modalities.photos.augment=null"]
    sets += ["modalities.photos.reader={kind: image, size: 12, list: mean}"]
    train(table / "frozen.yaml", sets, progress=False)
    opened = open_run(table / "frozen", allow_custom=True)
    asked = FrozenMean.asked
    inputs = opened.splits.train.batch(torch.arange(4)).inputs["photos"]
    assert FrozenMean.asked == asked
    reader, ids = opened.readers["photos"], opened.splits.train.ids
    rows = {row["id"]: row["photos"] for row in pq.read_table(table / "clips.parquet").to_pylist()}
    network = opened.model.encoders["photos"].encoder
    for row, number in enumerate(inputs.rows.tolist()):
        if number >= 0:
            items = [reader.reader.read(str(table / name)) for name in rows[ids[row]]]
            expected = network.features(reader.reader.collate(items)).mean(0)
            assert torch.allclose(inputs.values["features"][number], expected, atol=1e-6)
