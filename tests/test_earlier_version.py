"""Files of version 0.1 before the redesign: a finished and a stopped run, an index, a report; all go on as they were.

The archive was written by commit 61da28c: `confu train`, the same stopped at its ninth step, `confu evaluate`, `embed`
of 24 rows, `index` of them, and two answers of `confu search --json`.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import confu
from confu.cli import app

ARCHIVE = Path(__file__).parent / "fixtures" / "earlier_version.tar.gz"
# The numbers were computed on another machine: its products round otherwise in the last bits.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "before"


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def numbers(report):
    rows = json.loads(report.read_text())["rows"]
    return {tuple(row[key] for key in ("metric", "query", "target", "method")): row["value"] for row in rows}


def validation_losses(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record["total"] for record in records if record["kind"] == "validation"]


def test_an_earlier_model_gives_the_same_embeddings(earlier):
    embedder = confu.load(earlier / "runs" / "things")
    rows = [json.loads(line) for line in (earlier / "few.jsonl").read_text().splitlines()]
    expected = confu.EmbeddingTable.load(earlier / "expected" / "embeddings.parquet")
    for subset in expected.subsets:
        complete = [i for i, row in enumerate(rows) if all(row[name] is not None for name in subset)]
        items = {name: [rows[i][name] for i in complete] for name in subset}
        encoded = embedder.encode(items, use=subset)
        np.testing.assert_allclose(encoded.vectors, expected[subset][complete], **CLOSE)


def test_an_earlier_run_is_evaluated_alike(earlier):
    run("evaluate", earlier / "runs" / "things", "--no-progress")
    rows, expected = map(numbers, (earlier / "runs" / "things" / "report.json", earlier / "expected" / "report.json"))
    assert expected.keys() <= rows.keys()
    for key, value in expected.items():
        assert rows[key] == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True), key


def test_a_stopped_earlier_run_goes_on(earlier):
    before = validation_losses(earlier / "runs" / "cut")
    run("train", earlier / "runs" / "cut" / "run.yaml", "--no-progress")
    losses = validation_losses(earlier / "runs" / "cut")
    whole = validation_losses(earlier / "runs" / "things")
    assert losses[: len(before)] == before and len(losses) == len(whole)
    assert losses == pytest.approx(whole, rel=1e-3)


def test_an_earlier_index_is_converted_and_answers_alike(earlier):
    index, model = earlier / "things.index", earlier / "runs" / "things"
    with pytest.raises(ValueError, match=r"earlier version of confu; convert it once with `confu index .* --compact`"):
        confu.Index.open(index)
    run("index", index, "--compact")
    words = ["--words", "a small red thing"]
    for file, query in (("search.json", words), ("search_fused.json", [*words, "--size", "[0.2, 1.0]"])):
        output = run("search", index, "--run", model, *query, "--target", "colour", "-k", "5", "--json")
        hits, expected = json.loads(output)["hits"], json.loads((earlier / "expected" / file).read_text())["hits"]
        assert [(hit["id"], hit["metadata"]) for hit in hits] == [(hit["id"], hit["metadata"]) for hit in expected]
        np.testing.assert_allclose([hit["score"] for hit in hits], [hit["score"] for hit in expected], **CLOSE)
