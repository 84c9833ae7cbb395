import os

import pytest

from confu_paper.collecting.step_log import StepLog, read_records


def test_items_survive_in_their_order(tmp_path):
    log = StepLog(tmp_path / "a" / "photos.jsonl", {"k": 2})
    for key in ("b", "a", "c"):
        log.add(key, {"outcome": "kept" if key != "a" else "too large", "name": "Grünspecht\n"})
    again = StepLog(log.file, {"k": 2})
    assert (
        [record["key"] for record in again] == ["b", "a", "c"] == [record["key"] for record in read_records(log.file)]
    )
    assert again.counts == log.counts == {"kept": 2, "too large": 1}
    assert again.done("a") and not again.done("d") and len(again) == 3
    assert again.get("a") == {"key": "a", "outcome": "too large", "name": "Grünspecht\n"}
    with pytest.raises(KeyError, match="no item 'd'"):
        again.get("d")


def test_every_cut_of_the_file_goes_on(tmp_path):
    whole = StepLog(tmp_path / "whole.jsonl", {"k": 2})
    for key in ("a", "b"):
        whole.add(key, {"outcome": "kept"})
    content = whole.file.read_bytes()
    for cut in range(len(content) + 1):
        file = tmp_path / "cut.jsonl"
        file.write_bytes(content[:cut])
        log = StepLog(file, {"k": 2})
        for key in ("a", "b"):
            if not log.done(key):
                log.add(key, {"outcome": "kept"})
        assert file.read_bytes() == content


def test_settings_that_differ_are_named(tmp_path):
    StepLog(tmp_path / "x.jsonl", {"k": 2, "seed": 0}).add("a", {})
    StepLog(tmp_path / "x.jsonl", {"seed": 0, "k": 2})
    with pytest.raises(ValueError, match=r"x\.jsonl: .*k was 2, is 3; new was 'not set', is \(?\[?1.*same settings"):
        StepLog(tmp_path / "x.jsonl", {"k": 3, "seed": 0, "new": (1,)})


def test_a_tuple_in_the_settings_is_the_same_after_a_restart(tmp_path):
    StepLog(tmp_path / "x.jsonl", {"sizes": (1, 2)}).add("a", {})
    assert len(StepLog(tmp_path / "x.jsonl", {"sizes": (1, 2)})) == 1


def test_what_is_not_a_log_is_refused(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"key": "a"}\n')
    with pytest.raises(ValueError, match=r"line 1: expected \{\"settings\""):
        StepLog(file, {})
    file.write_text('{"settings": {}}\n{"key"\n{"key": "b"}\n')
    with pytest.raises(ValueError, match="line 2: expected one JSON object"):
        StepLog(file, {})
    with pytest.raises(ValueError, match="run that step first"):
        read_records(tmp_path / "none.jsonl")


def test_bad_records_are_refused_and_leave_nothing(tmp_path):
    log = StepLog(tmp_path / "x.jsonl", {})
    log.add("a", {})
    before = log.file.read_bytes()
    with pytest.raises(ValueError, match="'a' is there already"):
        log.add("a", {})
    with pytest.raises(ValueError, match="item 'b': expected texts, finite numbers"):
        log.add("b", {"score": float("nan")})
    assert log.file.read_bytes() == before and not log.done("b")


def test_a_second_process_is_noticed(tmp_path):
    log, other = StepLog(tmp_path / "x.jsonl", {}), StepLog(tmp_path / "x.jsonl", {})
    log.add("a", {})
    with pytest.raises(ValueError, match="another process is writing to it"):
        other.add("a", {})


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    log = StepLog(tmp_path / "x.jsonl", {})
    log.add("a", {})
    before = log.file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        log.add("b", {})
    monkeypatch.undo()
    assert log.file.read_bytes() == before
    log.add("b", {})
    assert [record["key"] for record in StepLog(log.file, {})] == ["a", "b"]
