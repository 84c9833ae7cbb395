"""The embedding table: what it refuses, and that the disk changes no bit."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.embeddings import EmbeddingTable
from confu.files import written_whole
from confu.plan import Subset

IMAGE, AUDIO, BOTH = Subset("image"), Subset("audio"), Subset("image", "audio")


def make_table(n=7, dim=5, missing=(1, 4), labels=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = {s: torch.randn(n, dim, generator=generator) for s in (IMAGE, AUDIO, BOTH)}
    mask = torch.ones(n, dtype=torch.bool)
    mask[[i for i in missing if i < n]] = False
    return EmbeddingTable(
        tuple(f"row{i}" for i in range(n)),
        vectors,
        {AUDIO: mask, BOTH: mask.clone()},
        torch.arange(n) % 3 if labels else None,
        model="tiny",
        plan='{"terms": {"image+audio ~ text": 0.5}}',
    )


def assert_same(left, right):
    assert left.ids == right.ids
    assert left.subsets == right.subsets
    assert [str(s) for s in left.subsets] == [str(s) for s in right.subsets]
    for subset in left.subsets:
        assert torch.equal(left[subset].view(torch.int32), right[subset].view(torch.int32))
        assert torch.equal(left.complete[subset], right.complete[subset])
    assert (left.labels is None) == (right.labels is None)
    if left.labels is not None:
        assert torch.equal(left.labels, right.labels)
    assert (left.model, left.plan, left.score) == (right.model, right.plan, right.score)


@settings(max_examples=20)
@given(n=st.integers(0, 9), dim=st.integers(1, 6), missing=st.sets(st.integers(0, 8)), labels=st.booleans())
def test_round_trip_is_bitwise(tmp_path_factory, n, dim, missing, labels):
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    table = make_table(n, dim, tuple(missing), labels)
    table.save(path)
    assert_same(table, EmbeddingTable.load(path))
    assert [file.name for file in path.parent.iterdir()] == ["t.parquet"]


def test_round_trip_keeps_the_bits_of_odd_floats(tmp_path):
    odd = torch.tensor([[0.0, -0.0, 1e-45, 3.4e38, float("nan"), float("inf")]])
    table = EmbeddingTable(("a",), {IMAGE: odd})
    table.save(tmp_path / "t.parquet")
    assert_same(table, EmbeddingTable.load(tmp_path / "t.parquet"))


@pytest.mark.parametrize("score", ["cosine", "multilinear", "volume", "area"])
def test_how_a_method_compares_stays_with_its_embeddings(tmp_path, score):
    full = make_table()
    table = EmbeddingTable(full.ids, {IMAGE: full[IMAGE], AUDIO: full[AUDIO]}, score=score)
    assert table.select(torch.tensor([2, 0])).score == score
    table.save(tmp_path / "t.parquet")
    assert_same(table, EmbeddingTable.load(tmp_path / "t.parquet"))


def test_files_that_do_not_say_how_to_compare_are_of_cosines(tmp_path):
    table = make_table()
    table.save(tmp_path / "t.parquet")
    stored = pq.read_table(tmp_path / "t.parquet")
    about = json.loads(stored.schema.metadata[b"confu"])
    assert about.pop("score") == "cosine"
    pq.write_table(stored.replace_schema_metadata({b"confu": json.dumps(about)}), tmp_path / "old.parquet")
    assert_same(table, EmbeddingTable.load(tmp_path / "old.parquet"))


def test_incomplete_rows_are_null_on_disk_and_zero_in_memory(tmp_path):
    table = make_table()
    assert not table[BOTH][[1, 4]].any()
    assert table[IMAGE].any(dim=1).all()
    table.save(tmp_path / "t.parquet")
    column = pq.read_table(tmp_path / "t.parquet")["image+audio"]
    assert column.null_count == 2
    assert column[1].as_py() is None
    assert table.rows_with(IMAGE, "audio").tolist() == [0, 2, 3, 5, 6]


def test_select_reorders_everything_together():
    table = make_table()
    picked = table.select(torch.tensor([4, 0]))
    assert picked.ids == ("row4", "row0")
    assert torch.equal(picked[IMAGE], table[IMAGE][[4, 0]])
    assert picked.complete[BOTH].tolist() == [False, True]
    assert picked.labels.tolist() == [1, 0]
    assert_same(table.select(table.complete[BOTH]), table.select(table.rows_with(BOTH)))
    with pytest.raises(ValueError, match="ids must be unique; 'row2'"):
        table.select(torch.tensor([2, 2]))


def test_subsets_are_found_by_name_in_any_order():
    table = make_table()
    assert torch.equal(table["audio+image"], table[BOTH])
    assert "audio+image" in table
    assert Subset("text") not in table
    with pytest.raises(ValueError, match=r"no subset 'text'; it has image, audio, image\+audio"):
        table["text"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ("a", "b", "a")}, "ids must be unique; 'a'"),
        ({"ids": ("a", "b")}, r"vectors\['image'\] must be float32 of shape \(2, dim\).*got torch.float32 \(3, 4\)"),
        ({"vectors": {}}, "at least one subset"),
        ({"vectors": {IMAGE: torch.zeros(3, 4, dtype=torch.float64)}}, "must be float32.*float64"),
        ({"vectors": {IMAGE: torch.zeros(3, 4), AUDIO: torch.zeros(3, 5)}}, "same dim.*'image': 4, 'audio': 5"),
        ({"vectors": {IMAGE: torch.zeros(3, 0)}}, "at least 1"),
        ({"vectors": {Subset("id"): torch.zeros(3, 4)}}, "may not be called 'id'"),
        ({"complete": {AUDIO: torch.ones(3, dtype=torch.bool)}}, "without vectors: audio"),
        ({"complete": {IMAGE: torch.ones(2, dtype=torch.bool)}}, r"complete\['image'\] must be bool of shape \(3,\)"),
        ({"labels": torch.zeros(2, dtype=torch.long)}, r"labels must have shape \(3,\)"),
        ({"score": "gram"}, "score must be one of 'cosine', 'multilinear', 'volume', 'area'; got 'gram'"),
        (
            {"score": "volume", "vectors": {IMAGE: torch.zeros(3, 4), BOTH: torch.zeros(3, 4)}},
            r"a table with the score 'volume' holds single modalities only, .*; got image\+audio",
        ),
    ],
)
def test_bad_tables_are_refused(arguments, message):
    good = {"ids": ("a", "b", "c"), "vectors": {IMAGE: torch.zeros(3, 4)}}
    with pytest.raises(ValueError, match=message):
        EmbeddingTable(**{**good, **arguments})


def test_wrong_files_are_refused(tmp_path):
    good = tmp_path / "good.parquet"
    make_table().save(good)

    with pytest.raises(ValueError, match=r"no embedding table at .*absent"):
        EmbeddingTable.load(tmp_path / "absent.parquet")

    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut\.parquet is not a whole Parquet file"):
        EmbeddingTable.load(cut)

    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    with pytest.raises(ValueError, match=r"other\.parquet is a Parquet file but not an embedding table"):
        EmbeddingTable.load(other)

    table = pq.read_table(good)
    about = json.loads(table.schema.metadata[b"confu"])

    def rewrite(name, table, **changes):
        metadata = {b"confu": json.dumps({**about, **changes})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / name)
        return tmp_path / name

    with pytest.raises(ValueError, match="format version 99, this confu reads version 1"):
        EmbeddingTable.load(rewrite("newer.parquet", table, version=99))
    with pytest.raises(ValueError, match="lacks the columns image"):
        EmbeddingTable.load(rewrite("dropped.parquet", table.drop_columns(["image"])))
    with pytest.raises(ValueError, match=r"column 'image' of .* must be a list of 6 float32"):
        EmbeddingTable.load(rewrite("dim.parquet", table, dim=6))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "t.txt"
    with written_whole(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["t.txt"]
