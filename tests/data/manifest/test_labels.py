import pyarrow as pa
import pytest

from confu.data.manifest import WHOLE_COLUMN, Manifest, check_labels


def manifest(**columns):
    return Manifest(
        "/data/clips.csv", "/data", pa.table({"say": ["text"] * len(next(iter(columns.values()))), **columns})
    )


def found(clips, splits=None):
    return [(problem.row, problem.column) for problem in check_labels(clips, splits)]


def test_sound_labels_are_no_problem():
    splits = ["train", "train", "val", "test"]
    clips = manifest(id=["a", "b", "c", "d"], label=["x", "y", "x", "y"], split=splits, group=["1", "1", "2", None])
    assert check_labels(clips, clips.splits) == []
    assert check_labels(clips, None) == []


def test_a_repeated_id_is_listed_and_names_its_first_row():
    clips = manifest(id=["a", "b", "a", "", "a"])
    problems = check_labels(clips, None)
    assert [problem.row for problem in problems] == [2, 3, 4]
    assert problems[0].what == "the id 'a' is that of row 0 already; give every row its own"
    assert problems[0].source == "a"
    assert "has no id" in problems[1].what
    assert check_labels(clips.take([0, 1]), None) == []


@pytest.mark.parametrize(
    ("split", "hint"),
    [("trian", "did you mean 'train'"), ("validaton", "did you mean 'validation'"), ("xx", "not known; Known: train")],
)
def test_an_unknown_split_says_the_nearest(split, hint):
    problems = check_labels(manifest(n=[1, 2]), ["train", split])
    assert [(problem.row, problem.column) for problem in problems] == [(1, "split")]
    assert hint in problems[0].what


def test_what_people_write_for_validation_is_known():
    names = ["train", "val", "valid", "dev", "Validation", "TEST", "training"]
    clips = manifest(split=names)
    assert clips.splits == ["train", *["validation"] * 4, "test", "train"]
    assert check_labels(clips, names) == []


def test_a_row_without_a_split_is_listed():
    assert found(manifest(n=[1, 2]), ["train", None]) == [(1, "split")]


def test_a_group_in_two_splits_is_listed():
    clips = manifest(group=["1", "1", None, "2", "1", None])
    problems = check_labels(clips, ["train", "test", "test", "test", "train", "train"])
    assert [problem.row for problem in problems] == [1]
    assert "the group '1' is in train (row 0) and here in test" in problems[0].what


def test_a_class_seen_only_in_test_is_listed():
    clips = manifest(label=["x", "y", "z", "z", None])
    problems = check_labels(clips, ["train", "validation", "test", "test", "test"])
    assert [(problem.row, problem.source) for problem in problems] == [(2, "z"), (3, "z")]
    assert "the class 'z' is in test, but in no row of train" in problems[0].what


def test_an_empty_column_is_one_problem_of_no_row():
    clips = manifest(audio=["", None, ""], photo=[None, None, "a.png"])
    problems = check_labels(clips, None)
    assert [(problem.row, problem.column) for problem in problems] == [(WHOLE_COLUMN, "audio")]
    problems = check_labels(clips, ["train", "train", "test"])
    assert [problem.column for problem in problems] == ["audio", "photo"]
    assert "every row of train" in problems[1].what


def test_splits_of_another_length_are_refused():
    with pytest.raises(ValueError, match="splits: expected 2, one a row; got 1"):
        check_labels(manifest(n=[1, 2]), ["train"])
