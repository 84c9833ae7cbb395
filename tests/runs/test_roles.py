"""Columns that are not named as confu names them, from `init` to an index."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import confu
from confu.cli import app
from confu.runs.prepare import open_run

COUNT = 60
KINDS = ("oak", "elm", "⺀")
PARTS = ("train", "train", "train", "val", "test")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A folder with a table, its run file as `init` wrote it, and a run of it."""
    folder = tmp_path_factory.mktemp("trees")
    random = np.random.default_rng(0)
    kinds = [random.permutation(KINDS)[0] for _ in range(COUNT)]
    table = {
        " ID ": [f"tree-{row}" for row in range(COUNT)],
        "leaf": random.standard_normal((COUNT, 4)).tolist(),
        "bark": random.standard_normal((COUNT, 4)).tolist(),
        "text": [f"an {kind} of {row} years" for row, kind in enumerate(kinds)],
        "Species": kinds,
        "Part": [PARTS[row % 5] for row in range(COUNT)],
        "plot": [f"plot {row // 5}" for row in range(COUNT)],
    }
    pq.write_table(pa.table(table), folder / "trees.parquet")
    options = ("--out", folder / "run.yaml", "--split", "Part", "--dim", 8)
    said = run("init", folder / "trees.parquet", *options)
    assert "id:  ID  (its name, and all of its cells differ)" in said
    assert "label: Species (its name, and its cells repeat: 3 values in 60 rows" in said
    assert "split: Part (given as --split)" in said
    assert "not used: plot (a category: 12 values in 60 rows" in said
    run("check", folder / "run.yaml", "--out", folder, "--no-progress")
    run("train", folder / "run.yaml", "--set", "train.epochs=1", "--no-progress")
    return folder, table


def test_training_and_evaluation_honour_the_roles(trees):
    folder, table = trees
    opened = open_run(folder / "runs" / "trees")
    splits = opened.splits
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [36, 12, 12]
    assert list(splits.test.ids) == [name for name, part in zip(table[" ID "], table["Part"]) if part == "test"]
    run("evaluate", folder / "runs" / "trees", "--no-progress")
    report = json.loads((folder / "runs" / "trees" / "report.json").read_text())
    counts = {row["count"] for row in report["rows"] if row["metric"] == "accuracy" and row["query"] == "leaf"}
    assert counts == {12}
    assert report["settings"]["evaluation"]["classification"] == "zero-shot"


def test_several_labels_a_row_are_evaluated_by_any_of_them(trees, tmp_path):
    folder, table = trees
    every = [["oak", "elm", "⺀"]] * COUNT
    several = pa.table({**table, "Species": every})
    pq.write_table(several, tmp_path / "trees.parquet")
    said = run(
        "init", tmp_path / "trees.parquet", "--out", tmp_path / "run.yaml", "--split", "Part", "--label", "Species"
    )
    assert "label: Species" in said
    assert "holds 3 classes, several a row" in (tmp_path / "run.yaml").read_text()
    run("evaluate", folder / "runs" / "trees", "--manifest", tmp_path / "trees.parquet", "--no-progress")
    report = json.loads((folder / "runs" / "trees" / "report.json").read_text())
    assert [row["value"] for row in report["rows"] if row["metric"] == "accuracy"] == pytest.approx([1.0] * 6)
    assert "may have several classes" in (folder / "runs" / "trees" / "report.html").read_text()


def test_embedding_and_index_take_the_roles_of_the_run(trees, tmp_path):
    folder, table = trees
    run("embed", folder / "runs" / "trees", folder / "trees.parquet", "--out", tmp_path / "e", "--no-progress")
    assert list(confu.load_shards(tmp_path / "e").ids) == table[" ID "]
    out = ("--out", tmp_path / "i", "--no-progress")
    run("index", folder / "runs" / "trees", folder / "trees.parquet", *out)
    with confu.Index.open(tmp_path / "i") as index:
        assert sorted(index.ids()) == sorted(table[" ID "])
        item = index.get("tree-3")
        assert (item.metadata["Species"], item.metadata["plot"]) == (table["Species"][3], "plot 0")
    other = pa.table({"id": ["x"], "leaf": [[0.0, 1.0, 2.0, 3.0]]})  # another table, named as confu names columns
    pq.write_table(other, tmp_path / "other.parquet")
    out = ("--out", tmp_path / "o", "--no-progress")
    run("embed", folder / "runs" / "trees", tmp_path / "other.parquet", *out)
    assert list(confu.load_shards(tmp_path / "o").ids) == ["x"]
