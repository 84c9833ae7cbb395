"""Reports: JSON round trip, versions, and the summary over seeds."""

import json
import math

import pytest

from confu.evaluation.report import Report, ReportRow, summarise, versions


def row(value, seed=0, method="confu", metric="accuracy", query="image"):
    return ReportRow(metric, query, "text", value, 10, method, seed, note="ties averaged")


def test_round_trip(tmp_path):
    report = Report([row(0.1 + 0.2), row(1.0, seed=1)], {"dim": 8, "λ": [1, None, "a"]})
    report.save(tmp_path / "new" / "report.json")
    assert Report.load(tmp_path / "new" / "report.json") == report
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.json"]


def test_intervals_are_kept_and_files_from_before_them_are_read(tmp_path):
    bounded = ReportRow("recall@1", "image", "text", 0.5, 10, low=0.3, high=0.7, confidence=0.95)
    report = Report([bounded, row(0.5)])
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["rows"][0]["low"] == 0.3
    fields = {"metric", "query", "target", "value", "count", "method", "seed", "note"}
    assert set(written["rows"][1]) == fields  # as it has always been
    assert Report.from_dict(written).rows[1].low is None


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ((0.3, None, 0.95), "come together or not at all"),
        ((0.3, 0.7, None), "come together or not at all"),
        ((0.7, 0.3, 0.95), "needs finite low <= high"),
        ((math.nan, 0.3, 0.95), "needs finite low <= high"),
        ((0.3, math.inf, 0.95), "needs finite low <= high"),
        ((0.3, 0.7, 95.0), "a confidence between 0 and 1"),
    ],
)
def test_an_interval_is_whole_and_the_right_way_up(interval, message):
    with pytest.raises(ValueError, match=rf"of recall@1 \(image -> text\) .*{message}|{message}"):
        ReportRow("recall@1", "image", "text", 0.5, 10, "", 0, "", *interval)


def test_versions_name_what_the_numbers_were_made_with():
    found = versions()
    assert {"confu", "torch", "python", "platform"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_wrong_reports_are_refused(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(ValueError, match="there is no report at"):
        Report.load(path)
    good = Report([row(0.5)]).to_dict()
    for text, message in [
        (json.dumps(good)[:-9], r"report\.json is not whole JSON"),
        ("[1]", "holds a list"),
        ('{"rows": []}', "expected a report of confu"),
        (json.dumps({**good, "version": 9}), "version 9, this confu reads 1"),
        (json.dumps({**good, "rows": [{"metric": "x"}]}), "does not have the fields"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Report.load(path)


def test_a_value_must_be_finite():
    with pytest.raises(ValueError, match=r"value of accuracy \(image -> text\) must be finite; got nan"):
        row(math.nan)


def test_settings_that_json_cannot_hold_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Report([], {"loss": math.nan}).save(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_summary_over_seeds():
    values = [0.1, 0.4, 0.7]
    reports = [Report([row(value, seed), row(0.3, seed, query="audio")]) for seed, value in enumerate(values)]
    image, audio = summarise(reports)
    assert (image.query, audio.query) == ("image", "audio")
    assert image.mean == pytest.approx(0.4)
    assert image.std == pytest.approx(math.sqrt(sum((v - 0.4) ** 2 for v in values) / 2))
    assert image.seeds == (0, 1, 2)
    assert audio.std == pytest.approx(0.0)


def test_one_seed_has_no_deviation():
    (only,) = summarise([Report([row(0.5, seed=7)])])
    assert (only.mean, only.std, only.seeds) == (0.5, None, (7,))


def test_methods_are_kept_apart_and_a_seed_counts_once():
    first, second = summarise([Report([row(0.5), row(0.6, method="clip")])])
    assert (first.method, second.method) == ("confu", "clip")
    with pytest.raises(ValueError, match="seed 0 appears twice for confu / accuracy / image / text"):
        summarise([Report([row(0.5)]), Report([row(0.6)])])
