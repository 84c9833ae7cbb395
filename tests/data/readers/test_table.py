"""Records of several columns: what each column is, its numbers, its gaps, and values that are new."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest
import torch

from confu.data.readers import TableReader, build_reader, table_settings
from confu.data.readers.reader import read_checked, reading_settings

NAN = float("nan")
ROWS = [
    {"age": 20, "sex": "f", "ward": "a", "seen": "2024-01-01", "smokes": "yes", "dose": "0.5"},
    {"age": 40, "sex": "m", "ward": "a", "seen": "2024-01-11", "smokes": "no", "dose": None},
    {"age": NAN, "sex": "f", "ward": "b", "seen": "2024-01-06T00:00", "smokes": "no", "dose": "1.5"},
    {"age": 30, "sex": "m", "ward": "", "seen": "2024-01-06", "smokes": "yes", "dose": "1"},
]


def reader_of(rows, **options):
    """A reader of these rows, through JSON as in a model's folder."""
    settings = {"kind": "table", **table_settings(rows, **options)}
    return build_reader(json.loads(json.dumps(settings)))


def test_each_column_is_read_as_what_it_is():
    reader = reader_of(ROWS)
    assert [one["kind"] for one in reader.settings["columns"].values()] == [
        *("number", "category", "category", "date", "boolean", "number")
    ]
    batch = reader.collate([read_checked(reader, row) for row in ROWS])
    spread = (200 / 3) ** 0.5
    age = [(20 - 30) / spread, 10 / spread, 0, 0]
    seen = [-(2**0.5), 2**0.5, 0, 0]
    smokes, dose = [1, -1, -1, 1], [-(1.5**0.5), 0, 1.5**0.5, 0]
    numbers = [age, seen, smokes, dose, [0, 0, 1, 0], [0, 1, 0, 0]]  # the last two: gaps of age and dose
    sex = [[1, 0, 1, 0], [0, 1, 0, 1]]
    ward = [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]  # a, other ("b" is in one row), missing
    assert torch.allclose(batch, torch.tensor([*numbers, *sex, *ward]).T.float(), atol=1e-6)


def test_a_date_is_one_in_every_form():
    reader = reader_of(ROWS)
    forms = ["2024-01-06", date(2024, 1, 6), datetime(2024, 1, 6, tzinfo=UTC), np.datetime64("2024-01-06")]
    assert {reader.read({"seen": form})[3].item() for form in forms} == {19728}
    dated = [{"seen": date(2024, 1, day)} for day in (1, 2)]
    assert table_settings(dated)["columns"]["seen"]["mean"] == 19723.5


def test_what_data_frames_call_missing_is_a_gap():
    class NAType:
        def __bool__(self):
            raise TypeError("boolean value of NA is ambiguous")

    for missing in ("", None, NAN, NAType(), np.datetime64("NaT")):
        assert reader_of(ROWS).read({"age": 20, "seen": missing}).isfinite().tolist() == [True] + [False] * 5


def test_new_values_and_new_gaps_do_not_touch_untrained_weights():
    reader = reader_of(ROWS)
    (known, strange) = reader.collate([reader.read({"age": 30, "sex": "f"}), reader.read({"age": 30, "sex": "x"})])
    assert (known - strange).nonzero().flatten().tolist() == [6]  # the place of "f"; no other place is for "x"
    wards = reader.collate([reader.read({"age": 30, "ward": ward}) for ward in ("b", "new")])
    assert torch.equal(*wards)  # a trained place is there for "other"
    far = reader.collate([reader.read({"age": 1e30})])
    assert float(far[0, 0]) == 5


def test_columns_with_one_value_have_no_place():
    rows = [{"a": 1, "b": "x", "c": None, "d": number} for number in range(4)]
    reader = reader_of(rows)
    assert isinstance(reader, TableReader)
    assert reader.constant == ["a", "b", "c"]
    batch = reader.collate([reader.read({"a": a, "b": b, "c": c, "d": 1}) for a, b, c in ((1, "x", None), (9, "y", 3))])
    assert torch.equal(*batch)


def test_the_cached_items_do_not_depend_on_the_numbers():
    first, second = reader_of(ROWS), reader_of([*ROWS, {**ROWS[0], "age": 90}])
    assert first.settings != second.settings
    assert reading_settings(first) == reading_settings(second)
    codes = reader_of(ROWS, kinds={"age": "category"})
    assert reading_settings(codes) != reading_settings(first)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"agee": 3}, "column 'agee' is not known; expected age, sex"),
        ({"age": None, "sex": ""}, "every column of the record is missing"),
        ({"age": "old"}, "age: expected a number; got 'old'"),
        ({"age": float("inf")}, "age: expected a finite number"),
        ({"age": [1]}, "age: expected a number"),
        ({"age": np.ones(2)}, "age: expected a number"),
        ({"sex": ["f"]}, "sex: expected a text or a number"),
        ({"seen": "2024-13-01"}, "seen: expected a date such as 2024-05-31 .*; got '2024-13-01'"),
        ({"seen": 3}, "seen: expected a date"),
        ({"smokes": "perhaps"}, "smokes: expected true or false; got 'perhaps'"),
        ([1, 2], "expected a record, column -> value; got list"),
    ],
)
def test_records_that_cannot_be_used_are_named(record, message):
    with pytest.raises(ValueError, match=message):
        reader_of(ROWS).read(record)


def test_a_broken_cell_does_not_change_what_a_column_is():
    rows = [{"seen": f"2024-01-{day:02}", "dose": str(day)} for day in range(1, 31)]
    rows[3] = {"seen": "soon", "dose": "much"}
    columns = table_settings(rows)["columns"]
    assert [columns[name]["kind"] for name in ("seen", "dose")] == ["date", "number"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"name": f"patient {n}"} for n in range(40)],
            {},
            "'name': 40 of 40 values differ, such as 'patient 0': no cat",
        ),
        (
            [{"a": np.ones(2)}, {"a": np.zeros(2)}],  # as a column of lists is read
            {},
            "column 'a': expected numbers, .* got ndarray. Make it a modality of its own",
        ),
        ([{"a": 1, "b": "x"}] * 3, {}, "each of the columns a, b has one value in all rows"),
        (ROWS, {"kinds": {"aeg": "number"}}, "'aeg' is not known; did you mean 'age'"),
        (ROWS, {"kinds": {"age": "numbr"}}, "columns.age 'numbr' is not known; did you mean 'number'"),
    ],
)
def test_columns_that_make_no_table_are_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        table_settings(rows, **options)
