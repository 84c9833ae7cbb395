"""The recall of an index measured as a command does: table, numbers and plot."""

import json

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import About, Index, Items
from confu.plan import Subset
from confu.runs.index_recall import measure_recall

TEXT, IMAGE = Subset("text"), Subset("image")
ABOUT = About("by hand", "", 16, (TEXT, IMAGE), {"text": "text", "image": "image"})


def make(folder, backend="exact", n=400, **options):
    with Index.create(folder, ABOUT, backend, **options) as index:
        text, image = (
            normalize(torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), dim=1) for seed in (0, 1)
        )
        if n:
            index.add(Items(EmbeddingTable([str(row) for row in range(n)], {TEXT: text, IMAGE: image})))
    return folder


def test_an_approximate_index(tmp_path):
    pytest.importorskip("faiss")
    folder = make(tmp_path / "index", "faiss", kind="hnsw", least=100, ef=24, m=4, ef_build=8)
    found = measure_recall(folder, queries=50, k=5, out=tmp_path / "plots" / "recall.png")
    assert (found.asked, found.target, found.queries, found.items) == (IMAGE, TEXT, 50, 400)
    assert [one.value for one in found.settings] == [16, 24, 32, 64, 128, 256, 512]
    assert found.settings[-1].recall == 1.0
    assert json.loads((tmp_path / "plots" / "recall.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    svg = (tmp_path / "plots" / "recall.svg").read_text()
    assert "recall@5 (%)" in svg and "in use, ef 24" in svg
    assert (tmp_path / "plots" / "recall.png").stat().st_size > 1000
    table = found.to_rich()
    assert [column.header for column in table.columns][:2] == ["ef", "recall@5"]
    assert table.row_count == 7


def test_an_exact_index_has_one_setting(tmp_path):
    folder = make(tmp_path / "index")
    found = measure_recall(folder, queries=20, target="image", out=tmp_path / "recall")
    assert [one.recall for one in found.settings] == [1.0]
    assert found.target == IMAGE
    assert list(found.to_rich().columns[0].cells) == ["exact"]


def test_bad_input_is_named(tmp_path):
    folder = make(tmp_path / "index")
    with pytest.raises(ValueError, match="target 'sound' is not known"):
        measure_recall(folder, target="sound")
    with pytest.raises(ValueError, match="queries must be a whole number of at least 1; got 0"):
        measure_recall(folder, queries=0)
    with pytest.raises(ValueError, match="holds no items"):
        measure_recall(make(tmp_path / "empty", n=0))
