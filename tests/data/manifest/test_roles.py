"""Which columns are ids, labels, splits and groups, and which are categories, codes or row numbers."""

import pyarrow as pa
import pytest

from confu.data.manifest import Manifest, TableOptions, check_labels, find_roles, why_no_modality

N = 60
COUNT = list(range(N))


def manifest(options=None, **columns):
    return Manifest("/data/clips.csv", "/data", pa.table(columns), options=options or TableOptions())


def roles_of(given=None, **columns):
    return {role: found.column for role, found in find_roles(manifest(**columns), given).items()}


NAMES = [f"n{i}" for i in COUNT]
CLASSES = [("cat", "dog", "cow")[i % 3] for i in COUNT]
SPLITS = [("train", "val", "test")[i % 3] for i in COUNT]


@pytest.mark.parametrize(
    "column, cells, role",
    [
        ("ID", NAMES, "id"),
        (" id ", NAMES, "id"),
        ("ID", CLASSES, None),  # a name that many rows have is no id of one
        ("Label", CLASSES, "label"),
        (" label ", NAMES, "label"),
        ("label", NAMES, "label"),
        ("Class", CLASSES, "label"),
        ("class-name", CLASSES, "label"),
        ("Species", CLASSES, "label"),
        ("target", [f"a sentence of number {i}" for i in COUNT], None),
        ("target", [i / 7 for i in COUNT], None),
        ("target", [i % 4 for i in COUNT], "label"),
        ("Split", SPLITS, "split"),
        ("subset", SPLITS, "split"),
        ("fold", [i % 5 for i in COUNT], None),
        ("Group", NAMES, "group"),
    ],
)
def test_names_are_understood_if_the_cells_agree(column, cells, role):
    found = roles_of(**{"say": [f"a sentence of number {i}" for i in COUNT], column: cells})
    others = {"label": column} if role is None and cells is CLASSES else {}  # the one text column with few values
    assert found == ({role: column} if role else others)


def test_the_name_of_the_role_itself_comes_first():
    assert roles_of(**{"Class": CLASSES, "Label": CLASSES, "label": CLASSES})["label"] == "label"
    assert roles_of(**{"Class": CLASSES, "Label": CLASSES})["label"] == "Label"


def test_one_column_of_few_words_is_the_label_and_several_are_none():
    opinion = ["positive", "negative"] * (N // 2)
    assert roles_of(opinion=opinion, n=[i / 2 for i in COUNT]) == {"label": "opinion"}
    assert roles_of(opinion=opinion, animal=CLASSES) == {}
    assert roles_of({"label": "animal"}, opinion=opinion, animal=CLASSES) == {"label": "animal"}
    assert roles_of({"label": ""}, opinion=opinion) == {}


def test_columns_that_are_given_wrongly_are_named():
    with pytest.raises(ValueError, match=r"--label: .*column 'specis' is not known; did you mean 'species'"):
        roles_of({"label": "specis"}, species=CLASSES)
    with pytest.raises(ValueError, match=r"--split: the column 'fold' .* has 5 values in 60 rows, .*expected train"):
        roles_of({"split": "fold"}, fold=[i % 5 for i in COUNT])


@pytest.mark.parametrize(
    "cells, why",
    [
        (["positive", "negative"] * 30, "a category: 2 values in 60 rows, 'positive', 'negative'"),
        ([bool(i % 2) for i in COUNT], "a category: 2 values"),
        ([float(i % 4) for i in COUNT], "a category: 4 values in 60 rows, such as '0'"),
        (["same"] * N, "the same value in every row, 'same'"),
        ([7] * N, "the same value in every row"),
        ([i + 3 for i in COUNT], "counts the rows, from 3 to 62"),
        ([2**60 + 2 * i for i in COUNT], "its numbers are names"),
        (NAMES, "codes, such as 'n0', all of which differ"),
        ([f"{i:064x}" for i in COUNT], "codes"),
        ([f"captions/{i}.txt" for i in COUNT], "names of .txt files"),
        ([f"{'QUJD' * 12}{chr(65 + i // 8)}{chr(65 + i % 8)}==" for i in COUNT], "codes"),
        ([f"a sentence of number {i}" for i in COUNT], None),
        ([f"这是第{i}个" for i in COUNT], None),
        ([("ash", "oak", "elm", "fir", "yew")[i % 5] + "s" * (i // 5) for i in COUNT], None),
        ([i * i for i in COUNT], None),
        ([i / 7 for i in COUNT], None),
        (["a", *[None] * 59], None),
    ],
)
def test_what_is_no_modality_is_named(cells, why):
    found = why_no_modality(manifest(x=cells), "x")
    assert (why or "") in (found or "") and (found is None) == (why is None), found


def test_few_texts_stay_text_in_a_column_that_says_so():
    for name in ("text", "Caption", "combined_caption", "text.en"):
        assert why_no_modality(manifest(**{name: CLASSES}), name) is None


def test_problems_name_the_columns_as_the_table_does():
    roles = {"id": "ID", "label": "Kind", "split": "Part", "group": "Scene"}
    columns = {"ID": ["a", "b", "a", "c"], "Kind": ["x", "x", "x", "y"], "Part": ["train", "test", "tst", "test"]}
    clips = manifest(TableOptions(roles), **columns, Scene=["1", "1", "2", "3"], label=["no"] * 4)
    assert clips.columns == ("label",)
    assert clips.labels == columns["Kind"]
    assert [(one.row, one.column) for one in check_labels(clips, clips.splits)] == [
        (1, "Scene"),
        (2, "ID"),
        (2, "Part"),
        (3, "Kind"),
    ]
    assert clips.take([3, 1]).ids == ["c", "b"]


def test_rows_keep_their_number_beside_a_column_named_id():
    clips = manifest(TableOptions({"id": None}), id=["x", "y", "z"], n=[1, 2, 3]).take([2, 0])
    assert clips.ids == ["2", "0"]
    assert clips.table["id"].to_pylist() == ["z", "x"]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([f"{i} kg" for i in range(20)], "numbers with 'kg', such as '0 kg': write them without it"),
        ([f"${i}.50" for i in range(20)], "numbers with '$'"),
        ([f"{i}%" for i in range(20)], "numbers with '%'"),
        (["-" if i % 3 == 0 else f"{i}.5" for i in range(20)], "numbers, but for '-': if these are missing values"),
        ([f"{i} {['cats', 'dogs', 'cows', 'hens'][i % 4]}" for i in range(20)], None),
        ([f"{i % 28 + 1:02d}.03.2024" for i in range(40)], "its cells are codes, such as '01.03.2024'"),
    ],
)
def test_numbers_that_are_written_as_texts_are_named(cells, why):
    found = why_no_modality(manifest(x=cells), "x")
    assert (why or "") in (found or "") and (found is None) == (why is None), found
