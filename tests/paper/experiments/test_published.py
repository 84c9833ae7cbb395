"""The paper's numbers: against one another, where the paper prints one number twice or derives it from others."""

from statistics import fmean

import pytest

from confu_paper.experiments.published import (
    METHODS,
    STATEMENTS,
    VALUES,
    XOR_SMALLEST_DIMENSION,
    by_method,
    published,
    stated,
)


def value_of(*key, **more):
    """The one number that matches."""
    (number,) = published(*key, **more)
    return number.value


def mean_of_cells(mean):
    """A "Mean" of Table 2, recomputed: over six cells 1 -> 1, or over three 2 -> 1."""
    cells = [one for one in published("table2", mean.data, mean.method) if one.target != "mean"]
    size = int(mean.query.split(" -> ")[0])
    return fmean(cell.mean for cell in cells if cell.query.count("+") + 1 == size)


# Sums of means and of deviations over each table, added up from the paper's text apart from the data file.
@pytest.mark.parametrize(
    ("source", "count", "means", "stds"),
    [
        ("table1", 12, 656.0, 4.4),
        ("table2", 111, 2501.57, 213.8),
        ("table3", 15, 967.1, 31.1),
        ("table4", 24, 758.44, 0.0),
        ("table5", 24, 695.4, 25.8),
        ("table6", 5, 174.1, 1.1),
        ("table7", 6, 173.93, 0.0),
        ("table8", 27, 426.04, 39.8),
        ("table9", 36, 1473.68, 0.0),
    ],
)
def test_each_table_holds_all_its_numbers(source, count, means, stds):
    found = published(source)
    assert len(found) == count
    assert sum(one.mean for one in found) == pytest.approx(means, abs=1e-6)
    assert sum(one.std or 0.0 for one in found) == pytest.approx(stds, abs=1e-6)


def test_every_number_has_one_key():
    keys = [(one.source, one.data, one.method, one.metric, one.query, one.target, one.condition) for one in VALUES]
    assert len(set(keys)) == len(keys)
    assert {one.method for one in VALUES} == set(METHODS)
    assert all(-100 <= one.mean <= 100 and (one.std is None or 0 <= one.std < 10) for one in VALUES)


def test_means_of_table_2_that_do_not_follow_from_its_cells():
    means = published("table2", target="mean")
    # Rounding to one digit explains 0.05 of the cells and 0.05 of the mean.
    wrong = {
        (mean.data, mean.method, mean.query): (mean.mean, round(mean_of_cells(mean), 2))
        for mean in means
        if abs(mean.mean - mean_of_cells(mean)) > 0.1 + 1e-9
    }
    assert wrong == {
        ("mosi", "gram", "2 -> 1"): (10.1, 12.07),
        ("mosi", "confu", "1 -> 1"): (19.3, 19.53),
        ("ur-funny", "tri-clip", "1 -> 1"): (6.5, 8.08),
        ("ur-funny", "gram", "1 -> 1"): (2.8, 2.25),
        ("ur-funny", "gram", "2 -> 1"): (3.0, 3.43),
        ("ur-funny", "confu", "1 -> 1"): (8.7, 7.4),
        ("ur-funny", "confu", "2 -> 1"): (10.9, 13.6),
        ("mustard", "gram", "2 -> 1"): (47.9, 60.0),
        ("mustard", "triangle", "2 -> 1"): (29.4, 50.17),
        ("mustard", "confu", "1 -> 1"): (45.7, 45.3),
        ("mustard", "confu", "2 -> 1"): (50.0, 62.57),
    }
    assert len(means) == 21


def test_table_8_without_a_mask_is_table_2_with_another_digit():
    for long in published("table8", condition="mask_ratio=0"):
        mean, std = value_of("table2", "mosi", "confu", "recall@10", long.query, long.target)
        assert abs(long.mean - mean) <= 0.0501 and abs(long.std - std) <= 0.0501


def test_differences_of_table_8_follow_from_its_cells():
    for difference in published("table8", metric="recall@10 difference"):
        with_mask, without = (
            value_of("table8", "mosi", "confu", "recall@10", difference.query, difference.target, condition)
            for condition in ("mask_ratio=0.3", "mask_ratio=0")
        )
        assert with_mask[0] - without[0] == pytest.approx(difference.mean, abs=1e-6)


def test_tables_6_and_9_agree_with_ssw60():
    for short in published("table6"):
        repeated = value_of("table9", method=short.method, query=short.query, condition="image noise 20 dB")
        assert repeated[0] == short.mean
    for level in (10, 15, 20):
        unharmed = {"image": f"audio noise {level} dB", "audio": f"image noise {level} dB"}
        for query, condition in unharmed.items():
            clean = value_of("table4", "ssw60", "tri-clip", query=query)
            assert value_of("table9", method="tri-clip", query=query, condition=condition) == clean


def test_sound_is_the_same_in_tables_4_and_5():
    for long in published("table4", query="audio"):
        assert value_of("table5", long.data, long.method, query="audio") == (long.mean, None)


def test_table7_agrees_with_the_recomputed_mean():
    (mean,) = published("table7", "mustard", query="2 -> 1")
    (printed,) = published("table2", "mustard", "confu", query="2 -> 1")
    assert mean.mean == pytest.approx(mean_of_cells(printed), abs=0.05)


def test_queries_are_found_in_any_order_and_dashes_are_none():
    assert value_of("table2", "mosi", "confu", query="text+audio", target="vision") == (16.7, 1.8)
    assert published("table2", "mosi", "symile", query="text", target="vision") == ()


def test_what_the_paper_does_not_have_is_named():
    with pytest.raises(ValueError, match="data 'av-mnits' is not known; did you mean 'av-mnist'"):
        published("table1", "av-mnits")
    with pytest.raises(ValueError, match="method 'confuu' is not known; did you mean 'confu'"):
        published("table1", method="confuu")


def test_statements_bound_a_value_and_quote_the_paper():
    assert {one.source for one in STATEMENTS} == {"fig3", "fig5", "fig6"}
    assert stated("fig4") == ()
    for one in STATEMENTS:
        assert one.words and (one.low is not None or one.high is not None)
        assert one.low is None or one.high is None or one.low <= one.high
    shares = {one.quantity: (one.low, one.high) for one in stated("fig5")}
    assert sorted(shares.values()) == [(2, 2), (5, 5), (5, 6), (39, 39)]


def test_short_names_for_the_recipes():
    values = by_method(published("table1"))
    assert values["confu"] == {"audio": (39.7, 0.1), "image": (64.6, 0.3), "image+audio": (71.2, 0.2)}
    assert values["triangle"] == {"image+audio": (64.9, 0.3)}
    assert list(values) == list(METHODS)
    assert XOR_SMALLEST_DIMENSION == {"symile": 8, "confu": 64}
