import decimal
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from confu.data.manifest import PANDAS_MISSING, TableOptions, read_manifest

from .stand_ins import write


def read_csv(tmp_path, text):
    return read_manifest(write(tmp_path / "clips.csv", text))


def read_lines(tmp_path, *rows):
    return read_manifest(write(tmp_path / "clips.jsonl", "\n".join(json.dumps(row) for row in rows)))


def read_parquet(tmp_path, table):
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), tmp_path / "clips.parquet")
    return read_manifest(tmp_path / "clips.parquet")


def test_csv_ids_keep_their_zeros_and_labels_stay_names(tmp_path):
    clips = read_csv(tmp_path, "id,label,split,group,n\n007,1,train,1,3\n08,2,val,,4.5\n")
    assert clips.ids == ["007", "08"]
    assert clips.labels == ["1", "2"]
    assert clips.splits == ["train", "validation"]
    assert clips.groups == ["1", None]
    assert clips.columns == ("n",)
    assert clips.sources("n", "number") == [3.0, 4.5]


def test_csv_texts_stay_texts(tmp_path):
    clips = read_csv(tmp_path, 'day,code,say\n2020-01-01,007,"a\nb"\n2020-01-02,1,true\n')
    assert clips.sources("day", "text") == ["2020-01-01", "2020-01-02"]
    assert clips.sources("code", "text") == ["007", "1"]
    assert clips.sources("say", "text") == ["a\nb", "true"]


def test_csv_empty_cells_are_missing(tmp_path):
    clips = read_csv(tmp_path, "photo,n,say\n,,\na.png,nan,NA\nb.png,1,x\n")
    assert clips.sources("photo", "image") == [None, str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert clips.sources("n", "number") == [None, None, 1]
    assert clips.present("say").tolist() == [False, True, True]


def test_csv_with_a_mark_at_its_start_is_read(tmp_path):
    assert read_csv(tmp_path, b"\xef\xbb\xbfid,say\na,hello\n").ids == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", "not readable as CSV.*#3: Expected 2 columns, got 3"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
        (",a\n5,x\n", "column 0 has no name in the header; name every column"),
        ("a, \n0,x\n", "column 1 has no name"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it holds zero bytes, so that it is UTF-16 without its mark"),
        (b"PAR1\0\0\xd0\n1", "it holds zero bytes"),
        (b"a,b\nx,1\ncaf\xe9,2\n", "line 3 has the byte 0xe9, 'é' in Western Windows; save the table as UTF-8"),
        ("", "not readable as CSV"),
        ("a\n", "holds no rows"),
        ("id,label\n1,2\n", "holds no modality, only id, label"),
    ],
)
def test_a_broken_csv_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"clips.csv: .*{message}"):
        read_csv(tmp_path, text)


def test_json_lines_may_lack_keys(tmp_path):
    clips = read_lines(tmp_path, {"id": 3, "v": [1, 2.5]}, {"id": "x", "say": "2020-01-01"}, {"say": "", "v": []})
    assert clips.ids == ["3", "x", "2"]
    assert clips.sources("say", "text") == [None, "2020-01-01", None]
    vectors = clips.sources("v", "vector")
    assert vectors[0].tolist() == [1, 2.5]
    assert vectors[1:] == [None, None]


def test_json_lines_longer_than_a_block_are_read(tmp_path):
    clips = read_lines(tmp_path, {"v": list(range(400_000))}, {"v": [1]})
    assert len(clips.sources("v", "vector")[0]) == 400_000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"a": 1}\n\n{"a": ', "line 3 is no JSON.*one object a line"),
        ("[1, 2]", "line 1: expected a JSON object"),
        ('{"a": 1}\n{"a": null}\n{"a": "x"}', "row 2, column 'a': expected a number as in row 0; got a text"),
        ('{"a": 123456789012345678901234567890}', "column 'a'"),
        (b'{"a": "\xff"}', "line 1 is no JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, lines, message):
    with pytest.raises(ValueError, match=f"clips.jsonl: {message}"):
        read_manifest(write(tmp_path / "clips.jsonl", lines))


@pytest.mark.parametrize("column", ["list", "large_list", "fixed"])
def test_parquet_lists_become_arrays(tmp_path, column):
    kinds = {
        "list": pa.list_(pa.float32()), "large_list": pa.large_list(pa.float32()), "fixed": pa.list_(pa.float32(), 2),
    }  # fmt: skip
    clips = read_parquet(tmp_path, {"v": pa.array([[1, 2], None, [3, None]], kinds[column])})
    first, second, third = clips.sources("v", "vector")
    assert first.dtype == np.float32
    assert first.flags.writeable
    assert first.tolist() == [1, 2]
    assert second is None
    assert np.isnan(third[1])


def test_parquet_nested_lists_become_sequences(tmp_path):
    rows = [[[1, 2], [3, 4], [5, 6]], [[7, 8]], [], [[1, 2], [3]], None]
    clips = read_parquet(tmp_path, {"s": pa.array(rows, pa.list_(pa.list_(pa.int16())))})
    first, second, third, ragged, last = clips.sources("s", "sequence")
    assert first.tolist() == rows[0]
    assert second.shape == (1, 2)
    assert third is last is None
    assert ragged == rows[3]  # as it is: a reader says what is wrong with it


def test_slices_of_lists_are_their_own_rows(tmp_path):
    clips = read_parquet(tmp_path, {"s": pa.array([[[i, i]] * (i + 1) for i in range(6)])})
    taken = clips.take([5, 2])
    assert [cell.tolist() for cell in taken.sources("s", "sequence")] == [[[5, 5]] * 6, [[2, 2]] * 3]


def test_stored_files_give_bytes_or_paths(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"x", "path": "a.png"}, {"bytes": None, "path": "b.png"}, {"bytes": b"", "path": ""}, None]
    clips = read_parquet(tmp_path, {"image": pa.array(rows, kind)})
    assert clips.sources("image", "image") == [b"x", str(tmp_path / "b.png"), None, None]
    assert clips.present("image").tolist() == [True, True, False, False]


def test_class_numbers_of_hugging_face_become_names(tmp_path):
    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "n": {"dtype": "int64"}}}}
    table = pa.table({"label": [1, 0, -1, None], "n": [1, 0, 1, 0]})
    clips = read_parquet(tmp_path, table.replace_schema_metadata({b"huggingface": json.dumps(info)}))
    assert clips.labels == ["dog", "cat", None, None]
    assert clips.sources("n", "number") == [1, 0, 1, 0]


def test_other_programs_types_are_made_plain(tmp_path):
    table = {
        "say": pa.array(["a", None, "a"]).dictionary_encode(),
        "half": pa.array(np.array([1, np.nan, 3], np.float16)),
        "money": pa.array([1, None, 3], pa.decimal128(5, 2)),
        "empty": pa.nulls(3),
        "label": [1.0, float("nan"), 3.0],
        "__index_level_0__": [0, 1, 2],
    }
    clips = read_parquet(tmp_path, table)
    assert clips.columns == ("say", "half", "money", "empty")
    assert clips.sources("say", "text") == ["a", None, "a"]
    assert clips.sources("half", "number") == clips.sources("money", "number") == [1, None, 3]
    assert not clips.present("empty").any()
    assert clips.labels == ["1", None, "3"]


def test_a_parquet_file_that_was_cut_short_is_named(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "whole.parquet")
    write(tmp_path / "clips.parquet", (tmp_path / "whole.parquet").read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"clips.parquet: not readable as Parquet"):
        read_manifest(tmp_path / "clips.parquet")


def test_lists_and_separated_texts_are_several_labels(tmp_path):
    clips = read_lines(tmp_path, {"label": [1, 3], "n": 1}, {"label": [], "n": 2})
    assert clips.labels is None
    assert clips.label_sets == [("1", "3"), ()]
    path = write(tmp_path / "clips.csv", "label,n\na; b ;a,1\nnan,2\n")
    clips = read_manifest(path, options=TableOptions(missing=["nan"], separator=";"))
    assert clips.label_sets == [("a", "b"), ()]
    clips = read_lines(tmp_path, {"label": [0.5, 1.5], "n": 1})
    with pytest.raises(ValueError, match="a list of the names or numbers of classes; got a list of double"):
        _ = clips.label_sets


@pytest.mark.parametrize("mark, name", [(";", "clips.csv"), ("\t", "clips.csv"), ("\t", "clips.tsv")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_semicolons_tabs_and_utf16_are_read(tmp_path, mark, name, encoding):
    rows = [["id", "say, in words", "n"], ["a", "one; two" if mark != ";" else "one, two", "1.5"], ["b", "é", "2"]]
    text = "\n".join(mark.join(row) for row in rows) + "\n"
    clips = read_manifest(write(tmp_path / name, text.encode(encoding)))
    assert clips.ids == ["a", "b"]
    assert clips.sources("say, in words", "text") == [rows[1][1], "é"]
    assert clips.sources("n", "number") == [1.5, 2.0]


def test_decimal_commas_go_with_semicolons(tmp_path):
    clips = read_csv(tmp_path, "n;say\n1,5;x\n-2;y\n;z\n")
    assert clips.table["n"].to_pylist() == [1.5, -2.0, None]


def test_spaces_around_numbers_do_not_make_them_texts(tmp_path):
    clips = read_csv(tmp_path, "a, b, c\n 1, 1.5, x\n2 , NA, y\n , 2, 3\n")
    assert clips.table.to_pydict() == {"a": [1, 2, None], " b": [1.5, None, 2], " c": [" x", " y", " 3"]}


def test_codes_keep_their_digits(tmp_path):
    columns = {
        "long": ["12345678901234567000", "12345678901234567001"],
        "hash": ["12e34", "99e1"],
        "zero": ["007", "12"],
        "int": ["-9223372036854775808", "9223372036854775807"],
        "real": ["1e-05", "2.5e+10"],
    }
    clips = read_csv(tmp_path, "\n".join([",".join(columns), *(",".join(row) for row in zip(*columns.values()))]))
    for name in ("long", "hash", "zero"):
        assert clips.table[name].to_pylist() == columns[name]
    assert clips.table["int"].to_pylist() == [-(2**63), 2**63 - 1]
    assert clips.table["real"].to_pylist() == [1e-05, 2.5e10]


def test_texts_for_missing_cells_are_missing_where_asked(tmp_path):
    text = "id,photo,say,n,label\nnan,a.png,nan,1,NaN\nb,None,a cat,#N/A,cat\nc,c.png,<NA>,2,null\nd,d.png,-,3,None\n"
    write(tmp_path / "clips.csv", text)
    clips = read_manifest(tmp_path / "clips.csv", options=TableOptions(missing=PANDAS_MISSING))
    assert clips.ids == ["nan", "b", "c", "d"]  # a name is a name
    assert clips.labels == [None, "cat", None, None]
    assert clips.sources("say", "text") == [None, "a cat", None, "-"]
    assert clips.sources("n", "number") == [1, None, 2, 3]
    assert clips.present("photo").tolist() == [True, False, True, True]
    assert clips.emptied["photo", "None"] == 1
    other = read_manifest(tmp_path / "clips.csv", options=TableOptions(missing=["-"]))
    assert other.sources("say", "text") == ["nan", "a cat", "<NA>", None]
    assert read_manifest(tmp_path / "clips.csv").labels == ["NaN", "cat", "null", "None"]  # as earlier versions


def test_the_missing_texts_are_those_of_arrow_and_two_of_pandas():
    more = {"<NA>", "None", "NaT", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"}  # errors of spreadsheets
    assert {"", *PANDAS_MISSING} == {*csv.ConvertOptions().null_values, *more}


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nid;say;n\na;x, y;1,5\n",
        "\ufeffsep=|\r\nid|say|n\r\na|x, y|1.5\r\n",
        "id|say|n\na|x, y|1.5\n",
        'id,say,n,\na,"x, y",1.5,\n',
        ',id,say,n\n0,a,"x, y",1.5\n',
        'id,say,n\ra,"x, y",1.5\r',
        '\n\nid,say,n\n\na,"x, y",1.5\n\n',
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tab"])
def test_tables_of_spreadsheets_and_pandas_are_read(tmp_path, text, suffix):
    clips = read_manifest(write(tmp_path / f"clips{suffix}", text.encode()))
    assert clips.table.to_pylist() == [{"id": "a", "say": "x, y", "n": 1.5}]


def test_compressed_tables_and_lists_of_objects_are_read(tmp_path):
    rows = [{"id": "a", "say": "x"}, {"id": "b", "say": None}]
    lines = "\n".join(map(json.dumps, rows))
    files = {"a.json": json.dumps(rows), "b.json": lines, "c.jsonl": lines, "d.csv": "id,say\na,x\nb,\n"}
    for name, text in files.items():
        write(tmp_path / name, text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            assert read_manifest(path).sources("say", "text") == ["x", None]
    feather.write_feather(pa.table({"say": ["x"]}), tmp_path / "e.feather")
    assert read_manifest(tmp_path / "e.feather").sources("say", "text") == ["x"]
    with pytest.raises(
        ValueError, match=r"f.json: expected a list of objects, \[\{\.\.\.\}, \.\.\.\], or one object a line"
    ):
        read_manifest(write(tmp_path / "f.json", '{"say": ["x"]}'))
    with pytest.raises(ValueError, match=r"g.csv.gz: "):
        read_manifest(write(tmp_path / "g.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-9]))
    with pytest.raises(ValueError, match=r"h.xlsx: expected a manifest, .*got '.xlsx'. Convert it, e.g. by pandas"):
        read_manifest(write(tmp_path / "h.xlsx", b"PK\x03\x04"))


def test_cells_of_spaces_are_missing_and_paths_are_trimmed(tmp_path):
    write(tmp_path / "clips.csv", "photo,say\n a.png ,x\n , \nb.png\t, NA \n")
    clips = read_manifest(tmp_path / "clips.csv", options=TableOptions(missing=PANDAS_MISSING))
    assert clips.sources("photo", "image") == [str(tmp_path / "a.png"), None, str(tmp_path / "b.png")]
    assert clips.sources("say", "text") == ["x", None, None]
    assert clips.emptied == {("photo", " "): 1, ("say", " "): 1, ("say", " NA "): 1}


def test_decimals_without_a_fraction_keep_their_digits(tmp_path):
    long = [decimal.Decimal(12345678901234567000 + i) for i in range(2)]
    table = {
        "id": pa.array(long, pa.decimal128(20, 0)),
        "label": pa.array(map(decimal.Decimal, range(2)), pa.decimal128(38, 0)),
        "n": pa.array([decimal.Decimal("0.125"), None], pa.decimal256(40, 4)),
    }
    clips = read_parquet(tmp_path, table)
    assert (clips.ids, clips.labels) == (list(map(str, long)), ["0", "1"])
    assert clips.sources("n", "number") == [0.125, None]


@pytest.mark.parametrize("kind", [pa.list_view(pa.float64()), pa.large_list_view(pa.float64())])
def test_views_of_lists_are_lists(tmp_path, kind):
    table = pa.table({"v": pa.array([[1.0, 2.0], None, [3.0]], kind)})
    with pa.ipc.new_file(tmp_path / "clips.arrow", table.schema) as file:
        file.write_table(table)
    first, second, third = read_manifest(tmp_path / "clips.arrow").sources("v", "vector")
    assert (first.tolist(), second, third.tolist()) == ([1.0, 2.0], None, [3.0])


def test_stored_files_may_hold_more_than_bytes_and_path(tmp_path):
    rows = [{"path": "a.png", "bytes": None, "width": 3}, {"path": None, "bytes": b"x", "width": 4}]
    assert read_parquet(tmp_path, {"photo": rows}).sources("photo", "image") == [str(tmp_path / "a.png"), b"x"]
