"""Overlap: against a count of rows one by one, ties against every way of breaking them, and what may not come in."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.evaluation import ZeroShotResult
from confu.evaluation.overlap import evaluate_overlap
from confu.evaluation.plots import bars, heatmap, to_svg
from confu.evaluation.report import Report, summarise

NAMES = ("image", "audio", "image+audio", "mean(image, audio)")


def count_rows(credit, labels, of=None):
    """The share of each set of right queries, one row and one way of breaking its ties at a time."""
    shares, count = {}, 0
    for row, label in enumerate(labels.tolist()):
        mine = {name: float(values[row]) for name, values in credit.items()}
        if any(value != value for value in mine.values()) or (of is not None and label != of):
            continue
        count += 1
        for outcome in product((True, False), repeat=len(mine)):
            likely = 1.0
            for right, value in zip(outcome, mine.values()):
                likely *= value if right else 1 - value
            who = frozenset(name for right, name in zip(outcome, mine) if right)
            shares[who] = shares.get(who, 0.0) + likely
    return {who: share / count for who, share in shares.items()}, count


def who_of(category, queries):
    if category in ("all", "none"):
        return frozenset(queries if category == "all" else ())
    return frozenset(category.removesuffix(" only").split(" & "))


@settings(max_examples=15)
@given(num_queries=st.integers(2, 4), n=st.integers(1, 30), seed=st.integers(0, 999))
def test_shares_match_a_count_row_by_row(num_queries, n, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([0.0, 1.0, 1.0, 0.5, 1 / 3, float("nan")])
    drawn = torch.randint(len(values), (num_queries, n), generator=generator)
    drawn[:, 0] = 1  # one row is complete
    credit = {name: values[row] for name, row in zip(NAMES, drawn)}
    labels = torch.randint(3, (n,), generator=generator)
    result = evaluate_overlap(credit, labels)
    expected, count = count_rows(credit, labels)
    assert len(result.shares) == 2**num_queries
    assert {who_of(name, result.queries): share for name, share in result.shares.items()} == pytest.approx(
        {who_of(name, result.queries): expected[who_of(name, result.queries)] for name in result.shares}
    )
    assert sum(result.shares.values()) == pytest.approx(1)
    assert (result.count, result.left_out) == (count, n - count)
    assert sum(result.counts.values()) == count
    for label, shares in result.by_class.items():
        expected, count = count_rows(credit, labels, of=int(label))
        assert result.counts[label] == count
        assert sum(shares.values()) == pytest.approx(1)
        assert shares == pytest.approx({name: expected[who_of(name, result.queries)] for name in shares})


def test_order_and_names_are_those_of_the_paper():
    right = {name: torch.ones(2) for name in ("image", "audio", "image+audio")}
    assert list(evaluate_overlap(right, torch.zeros(2).long()).shares) == [
        "image+audio only",
        "image only",
        "audio only",
        "image+audio & image",
        "image+audio & audio",
        "image & audio",
        "all",
        "none",
    ]


def example():
    right = {"image": torch.tensor([1.0, 1, 0, 0, 1]), "audio": torch.tensor([0.0, 1, 0, 0, float("nan")])}
    right["image+audio"] = torch.tensor([1.0, 1, 1, 0, 1])
    return evaluate_overlap(right, torch.tensor([0, 0, 2, 2, 1]), ["wren", "owl", "tit"])


def test_rows_that_lack_a_query_are_left_out_and_counted():
    result = example()
    assert (result.count, result.left_out, result.counts) == (4, 1, {"wren": 2, "tit": 2})
    assert {name: share for name, share in result.shares.items() if share} == {
        "image+audio only": 0.25,
        "image+audio & image": 0.25,
        "all": 0.25,
        "none": 0.25,
    }
    assert result.by_class["tit"]["none"] == 0.5
    assert "owl" not in result.by_class


def test_rows_go_into_a_report_and_the_summary():
    rows = example().to_rows("text", method="confu", seed=3)
    assert len(rows) == 8 + 2 * 8
    found = {row.metric: row for row in rows}
    assert found["share image+audio only"].value == 0.25
    assert found["share none of tit"].count == 2
    assert {(row.query, row.target, row.method, row.seed) for row in rows} == {
        ("image+audio | image | audio", "text", "confu", 3)
    }
    assert {row.note for row in rows} == {"1 rows that are not complete for every query are left out"}
    assert len(summarise([Report(rows)])) == len(rows)


def test_bars_and_heat_map_can_be_drawn():
    result = example()
    assert sum(result.percent()) == pytest.approx(100)
    assert [sum(line) for line in result.matrix()] == pytest.approx([100, 100])
    assert "all" in to_svg(bars(list(result.shares), {"confu": result.percent()}, x_label="share (%)"))
    assert "tit" in to_svg(heatmap(result.matrix(), list(result.by_class), list(result.shares), "share (%)"))


def test_only_right_of_zero_shot_is_one_of_the_categories():
    credit = {name: torch.tensor(values) for name, values in (("a", [0.0, 1, 0]), ("b", [0.0, 0, 1]))}
    credit["a+b"] = torch.tensor([1.0, 1, 0])
    rows = ZeroShotResult([], {}, credit).only_right("a+b")
    assert evaluate_overlap(credit, torch.zeros(3).long()).shares["a+b only"] == pytest.approx(len(rows) / 3)


def test_bad_input_is_refused():
    ones, labels = torch.ones(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="two to six queries; got 1: image"):
        evaluate_overlap({"image": ones}, labels)
    with pytest.raises(ValueError, match="two to six queries; got 7"):
        evaluate_overlap({str(i): ones for i in range(7)}, labels)
    with pytest.raises(ValueError, match=r"credit of audio must have one value per label, 2; got \(3,\)"):
        evaluate_overlap({"image": ones, "audio": torch.ones(3)}, labels)
    with pytest.raises(ValueError, match=r"credit of audio must lie in \[0, 1\], or be NaN; row 1 has 2"):
        evaluate_overlap({"image": ones, "audio": torch.tensor([float("nan"), 2.0])}, labels)
    with pytest.raises(ValueError, match="no row is complete for all of image, audio"):
        evaluate_overlap(
            {"image": torch.tensor([1.0, float("nan")]), "audio": torch.tensor([float("nan"), 1.0])}, labels
        )
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.0, the classes with names; got 0 to 1"):
        evaluate_overlap({"image": ones, "audio": ones}, labels, ["wren"])
    with pytest.raises(ValueError, match=r"class_names must differ.*'wren' is there twice"):
        evaluate_overlap({"image": ones, "audio": ones}, labels, ["wren", "wren"])
