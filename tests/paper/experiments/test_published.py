"""The paper's numbers: against one another, where the paper prints one number twice or derives it from others."""

import pytest

from confu_paper.experiments.published import (
    AV_MNIST,
    METHODS,
    STATEMENTS,
    VALUES,
    XOR_SMALLEST_DIMENSION,
    printed_means,
    published,
    published_value,
    stated,
)


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
    wrong = {
        (mean.data, mean.method, mean.direction): (mean.printed, round(mean.recomputed, 2))
        for mean in printed_means()
        if not mean.agrees
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
    assert len(printed_means()) == 21


def test_table_8_without_a_mask_is_table_2_with_another_digit():
    for long in published("table8", condition="mask_ratio=0"):
        mean, std = published_value("table2", "mosi", "confu", long.query, long.target, "recall@10")
        assert abs(long.mean - mean) <= 0.0501 and abs(long.std - std) <= 0.0501


def test_differences_of_table_8_follow_from_its_cells():
    for difference in published("table8", metric="recall@10 difference"):
        with_mask, without = (
            published_value("table8", "mosi", "confu", difference.query, difference.target, "recall@10", condition)
            for condition in ("mask_ratio=0.3", "mask_ratio=0")
        )
        assert with_mask[0] - without[0] == pytest.approx(difference.mean, abs=1e-6)


def test_tables_6_and_9_agree_and_their_clean_values_are_those_of_ssw60():
    for short in published("table6"):
        repeated = published_value("table9", "ssw60", short.method, short.query, condition="image noise 20 dB")
        assert repeated[0] == short.mean
    for level in (10, 15, 20):
        unharmed = {"image": f"audio noise {level} dB", "audio": f"image noise {level} dB"}
        for query, condition in unharmed.items():
            clean = published_value("table4", "ssw60", "tri-clip", query)
            assert published_value("table9", "ssw60", "tri-clip", query, condition=condition) == clean


def test_sound_is_the_same_in_tables_4_and_5():
    for long in published("table4", query="audio"):
        assert published_value("table5", long.data, long.method, "audio") == (long.mean, None)


def test_table_7_agrees_with_the_recomputed_mean_and_not_with_the_printed_one():
    recomputed = {(m.data, m.direction): m.recomputed for m in printed_means() if m.method == "confu"}
    (mean,) = published("table7", "mustard", query="2 -> 1")
    assert mean.mean == pytest.approx(recomputed["mustard", "2 -> 1"], abs=0.05)


def test_queries_are_found_in_any_order_and_dashes_are_none():
    assert published_value("table2", "mosi", "confu", "text+audio", "vision", "recall@10") == (16.7, 1.8)
    assert published_value("table2", "mosi", "symile", "text", "vision", "recall@10") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table1", "av-mnits", "confu", "audio"), "data 'av-mnits' is not known; did you mean 'av-mnist'"),
        (("table1", "av-mnist", "confuu", "audio"), "method 'confuu' is not known; did you mean 'confu'"),
        (
            ("table9", "ssw60", "confu", "image+audio"),
            "several numbers of confu on ssw60.*audio noise 10 dB.*condition",
        ),
    ],
)
def test_what_the_paper_does_not_have_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        published_value(*arguments)


def test_statements_bound_a_value_and_quote_the_paper():
    assert {one.source for one in STATEMENTS} == {"fig3", "fig5", "fig6"}
    assert stated("fig4") == ()
    for one in STATEMENTS:
        assert one.words and (one.low is not None or one.high is not None)
        assert one.low is None or one.high is None or one.low <= one.high
    shares = {one.quantity: (one.low, one.high) for one in stated("fig5")}
    assert sorted(shares.values()) == [(2, 2), (5, 5), (5, 6), (39, 39)]


def test_short_names_for_the_recipes():
    assert AV_MNIST["confu"] == {"audio": (39.7, 0.1), "image": (64.6, 0.3), "image+audio": (71.2, 0.2)}
    assert AV_MNIST["triangle"] == {"image+audio": (64.9, 0.3)}
    assert list(AV_MNIST) == list(METHODS)
    assert XOR_SMALLEST_DIMENSION == {"symile": 8, "confu": 64}
