"""YAML as people write it."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.runs.run_yaml import parse_yaml, set_value, to_yaml


def test_yaml_numbers_are_numbers_and_words_are_words():
    data, _ = parse_yaml("a: 1e-3\nb: no\nc: 2020-01-01\nd: -.5\ne:\nf: true\ng: 0x10\nh: 12\n", "run.yaml")
    assert data == {
        "a": 0.001, "b": "no", "c": "2020-01-01", "d": -0.5, "e": None, "f": True, "g": "0x10", "h": 12
    }  # fmt: skip


def test_yaml_knows_the_line_of_every_key():
    _, lines = parse_yaml("a: 1\nb:\n  c: {d: 2,\n      e: 3}\n", "run.yaml")
    assert lines["b", "c"] == 3
    assert lines["b", "c", "e"] == 4


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text("abcxyz", min_size=1),
        st.one_of(
            st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8),
            st.sampled_from(["no", "1e3", "null", "2020-01-01", "1_0", "~", "true", "on", ".inf"]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_yaml_that_is_written_is_read_back_here_and_by_others(data):
    for text in (to_yaml(data), to_yaml({"inner": data}), to_yaml({"inner": data}, flow=True)):
        wanted = data if "inner" not in text.partition(":")[0] else {"inner": data}
        assert parse_yaml(text, "x")[0] == wanted
        assert yaml.safe_load(text) == wanted


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\na: 2", r"run\.yaml, line 2: 'a' stands twice, first on line 1"),
        ("a: [1,\nb", r"run\.yaml, line 2: not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "line 1: the tag .* is not read"),
        ("a: &x {b: 1}\nc: *x", "an alias"),
        ("? [a]\n: 1", "a key must be a word"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_yaml_that_is_not_a_run_file_is_refused_with_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text, "run.yaml")


def test_set_value_creates_keys_but_not_in_a_number():
    data = {"train": {"lr": 1}}
    set_value(data, ("data", "gaps"), "drop")
    set_value(data, ("train", "lr"), 2)
    assert data == {"train": {"lr": 2}, "data": {"gaps": "drop"}}
    with pytest.raises(ValueError, match=r"train\.lr is 2 and has no settings"):
        set_value(data, ("train", "lr", "x"), 1)
