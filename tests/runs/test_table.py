"""A modality of several columns, from the table to the search."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from starlette.testclient import TestClient
from typer.testing import CliRunner

import confu
from confu.cli import app
from confu.runs import check, embed_manifest
from confu.runs.indexing import index_manifest
from confu.runs.prepare import open_run
from confu.runs.proposal import init
from confu.runs.run_yaml import read_run_file
from confu.runs.training import train
from confu.search import Collection
from confu.serve import create_app
from runs.own_data import write_run, write_table

RUN = """
manifest: clips.csv
out: runs/clips
modalities:
  blood: {columns: [age, sex, seen], kind: table, encoder: mlp}
  build: {columns: [mass, height], kind: table, encoder: {kind: mlp, hidden_dims: [8], out_dim: 8}}
model: {dim: 8}
train: {epochs: 2, batch_size: 16, lr: 1e-3}
"""


def make_rows(count=60):
    """Rows of a study: ages with gaps, some without any blood sample, a sex that test rows alone have."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        age = int(random.integers(20, 90))
        row = {"id": f"p{number}", "age": str(age), "sex": "fm"[number % 2], "seen": f"2024-01-{1 + number % 28:02}"}
        row |= {"mass": f"{age + random.normal():.2f}", "height": f"{1.6 + 0.001 * age:.4f}"}
        if number % 7 == 3:
            row["age"] = ""
        if number % 10 == 9:
            row |= {"age": "", "sex": "", "seen": ""}
        rows.append({**row, "split": "train" if number < 40 else "validation" if number < 50 else "test"})
    rows[55] |= {"sex": "x", "height": ""}
    return rows


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_table(folder, make_rows())
    train(write_run(folder, RUN), progress=False)
    return folder


def record(row, names):
    """What a user gives of a row; an empty cell is left out."""
    return {name: row[name] for name in names if row[name]} or None


def test_a_row_lacks_a_table_only_if_all_its_columns_are_empty(study):
    rows = pq.read_table(study / "runs" / "clips" / "rows.parquet").to_pydict()
    assert rows["has_blood"] == [number % 10 != 9 for number in range(60)]
    assert all(rows["has_build"])
    columns = json.loads((study / "runs" / "clips" / "inputs.json").read_text())["readers"]["blood"]["columns"]
    assert [one["kind"] for one in columns.values()] == ["number", "category", "date"]
    assert columns["sex"] == {"kind": "category", "values": ["f", "m"], "other": False, "gaps": False}
    ages = [float(row["age"]) for row in make_rows()[:40] if row["age"]]
    assert columns["age"]["mean"] == pytest.approx(np.mean(ages))


def test_records_are_encoded_embedded_and_found_as_in_training(study):
    folder, rows = study / "runs" / "clips", make_rows()[50:]
    opened = open_run(folder)
    with torch.no_grad():
        expected = opened.model(opened.splits.test.batch(torch.arange(10)))
    model = confu.load(folder)
    known = [row for row in range(10) if row != 9]
    sources = [record(rows[row], ("age", "sex", "seen")) for row in known]
    assert np.allclose(model.encode(blood=sources).vectors, expected["blood"][known], atol=1e-6)
    sources = [{"mass": float(row["mass"]), "height": row["height"]} for row in rows]
    assert np.allclose(model.encode(build=sources).vectors, expected["build"], atol=1e-6)

    embed_manifest(folder, study / "clips.csv", study / "shards", progress=False)
    table = confu.load_shards(study / "shards")
    where = [table.ids.index(row["id"]) for row in rows]
    assert np.allclose(table["build"][where], expected["build"], atol=1e-6)

    index_manifest(folder, study / "clips.csv", study / "index", progress=False)
    asked = ["search", str(study / "index"), "--blood", '{"age": 61, "sex": "f"}', "--target", "build", "--json"]
    hits = json.loads(CliRunner().invoke(app, [*asked, "--where", "age >= 20", "-k", "3"]).stdout)["hits"]
    assert len(hits) == 3
    assert json.loads(hits[0]["media"]["build"]).keys() == {"mass", "height"}

    with TestClient(create_app(Collection.open(study / "index"))) as client:
        body = {"blood": {"age": 61, "sex": "f"}, "target": "build", "k": 3, "where": "age >= 20"}
        found = client.post("/v1/search", json=body).json()["hits"]
        assert [hit["id"] for hit in found] == [hit["id"] for hit in hits]
        assert client.get(found[0]["media"]["build"]).json() == json.loads(hits[0]["media"]["build"])
        for wrong, words in (({"aeg": 61}, "column 'aeg' is not known"), ({"age": [61]}, "send a record as JSON")):
            refused = client.post("/v1/search", json={**body, "blood": wrong})
            assert refused.status_code == 422
            assert words in refused.json()["error"]["message"]


def test_broken_cells_and_columns_of_a_table_are_named(tmp_path):
    rows = make_rows()
    rows[4]["seen"] = "2024-13-01"
    write_table(tmp_path, rows)
    run = write_run(tmp_path, RUN)
    problems = check(run, tmp_path, progress=False).problems.broken
    assert [(one.row, one.column) for one in problems] == [(4, "age+sex+seen")]
    assert "seen: expected a date such as 2024-05-31" in problems[0].what
    with pytest.raises(
        ValueError, match=r"modalities.blood.column: .* has the column 'aeg' is not known; did you mean"
    ):
        train(write_run(tmp_path, RUN.replace("age", "aeg")), progress=False)
    train(write_run(tmp_path, RUN.replace("[mass, height]", "[height]")), ["data.on_error=skip"], progress=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("columns: [age, sex, seen]", "column: age, columns: [age, sex]", "give column, or columns"),
        ("[age, sex, seen], kind: table", "[age, sex, seen], kind: vector", "read by kind: table; got 'vector'"),
        ("[age, sex, seen]", "[age, age]", "expected different names without '+'; got 'age'"),
        ("[age, sex, seen]", "[]", "expected a list of names"),
    ],
)
def test_a_run_file_that_names_no_table_is_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_run_file(write_run(tmp_path, RUN.replace(old, new)))


def test_init_proposes_tables_and_the_run_file_trains(tmp_path):
    rows = [{**row, "note": f"note {number % 50}"} for number, row in enumerate(make_rows())]
    address = write_table(tmp_path, rows)
    columns = ["blood=age+sex", "note", "build=mass+height"]
    found = init(address, tmp_path / "run.yaml", columns=columns, dim=8)
    assert "columns: [age, sex]" in found.text
    assert {name: one.kind for name, one in found.run.modalities.items()} == {
        "note": "text", "blood": "table", "build": "table"
    }  # fmt: skip
    folder = train(found.file, ["train.epochs=1"], progress=False)
    assert open_run(folder).readers["build"].settings["columns"].keys() == {"mass", "height"}
    alone = init(address, tmp_path / "all.yaml", dim=8)
    assert alone.run.modalities["numbers"].column == "age+mass+height"
