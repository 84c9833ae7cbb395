"""`evaluate` on a run that was trained, from files to the page, which a browser opens where there is one."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

import confu.runs.evaluation as evaluating
from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, evaluate_zero_shot
from confu.evaluation.ranking import usual_ks
from confu.plan import Subset
from confu.runs.evaluation import evaluate, sampled
from confu.runs.measures import class_prompts, embed_texts
from confu.runs.prepare import open_run
from confu.runs.training import train
from runs.own_data import make_rows, write_run, write_table
from runs.test_evaluation_page import check_passive, headings

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(clips, clips_report):
    """The folder of a run and its report."""
    return clips / "runs" / "clips", clips_report


@pytest.fixture(scope="module")
def page(run):
    return (run[0] / "report.html").read_text(encoding="utf-8")


def test_the_files_hold_what_is_returned(run):
    folder, report = run
    assert Report.load(folder / "report.json") == report
    table = EmbeddingTable.load(folder / "test.parquet")
    assert len(table) == report.settings["evaluation"]["rows"] == report.settings["evaluation"]["ranked_rows"] == 24
    assert not table.complete[Subset("audio")].all()
    assert not list(folder.glob("*.partial"))
    assert {row.method for row in report.rows} == {"confu"}


def test_the_page_has_every_section_and_loads_nothing(run, page):
    check_passive(page)
    assert headings(page) == [
        "Training", "Retrieval", "What fusion adds", "What each tells of the others", "Zero-shot classification",
        "Who is right", "The worst queries", "A map of the embeddings", "The data", "Settings",
    ]  # fmt: skip
    for heading in (
        "Recall at 10", "Every query", "Each class, asked with image+audio", "image+audio, by class", "What rows have",
        "Finding text, by what a row has", "Accuracy, by what a row has", "Times",
    ):  # fmt: skip
        assert heading in headings(page, 3)
    assert page.count("<audio controls") == 6
    assert page.count("asked with: image") == 6
    assert "image+audio ~ text" in page or "text ~ image+audio" in page
    assert len(page) < 1_500_000


def test_the_numbers_follow_from_the_stored_table(run):
    folder, report = run
    table = EmbeddingTable.load(folder / "test.parquet")
    found = {(row.metric, row.query, row.target): row for row in report.rows}
    assert len(found) == len(report.rows)
    for query, target in ((Subset("image", "audio"), Subset("text")), (Subset("text"), Subset("image"))):
        rows = table.rows_with(query, target)
        scores = table[query][rows] @ table[target][rows].T
        own = scores.diagonal()[:, None]
        better, tied = (scores > own + 1e-6).sum(1), ((scores - own).abs() <= 1e-6).sum(1)
        for k in (k for k in usual_ks([24]) if k <= len(rows)):
            row = found[f"recall@{k}", str(query), str(target)]
            expected = ((k - better) / tied).clamp(0, 1).double().mean()  # equal texts share their places
            assert (row.value, row.count) == (pytest.approx(float(expected)), len(rows))
            assert row.note == f"chance {k / len(rows):.4g}, gallery {len(rows)}"


def test_zero_shot_is_by_prompts_of_the_class_names(run):
    folder, report = run
    opened = open_run(folder)
    names = opened.splits.test.class_names
    texts, numbers = class_prompts(names, evaluating.TEMPLATES)
    prompts = embed_texts(opened.model, opened.readers["text"], "text", texts)
    table = EmbeddingTable.load(folder / "test.parquet")
    assert torch.equal(table.labels, opened.splits.test.labels)
    expected = {row.query: row.value for row in evaluate_zero_shot(table, prompts, numbers, Subset("text")).rows}
    found = {row.query: row.value for row in report.rows if row.metric == "accuracy" and row.query in expected}
    assert found == pytest.approx(expected)
    assert report.settings["evaluation"]["classification"] == "zero-shot"


def test_rows_answer_with_what_they_have(run):
    rows = [row for row in run[1].rows if row.query.startswith("rows with") and row.target == "text"]
    asked = {row.query: row.note for row in rows if row.metric == "recall@1"}
    assert asked == {"rows with image+audio": "asked with image+audio", "rows with image": "asked with image"}


@pytest.mark.skipif(BROWSER is None, reason="there is no browser")
def test_a_browser_opens_the_page(run, tmp_path):
    address = (run[0] / "report.html").resolve().as_uri()
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path}", address],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert headings(done.stdout)[-1] == "Settings"
    assert not re.search(r"CONSOLE.*(Refused|Error|violates)", done.stderr)


def test_large_tests_are_ranked_on_a_sample_that_is_told(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run[0], tmp_path / "runs" / "again")
    monkeypatch.setattr(evaluating, "write_page", lambda path, found, report: pages.append(found))
    pages = []
    first = evaluate(
        folder, progress=False, max_rows=10, part="validation", manifest=run[0].parent.parent / "clips.csv"
    )
    assert first.settings["evaluation"]["ranked_rows"] == 10
    assert first.settings["notes"][0].startswith("Ranked among 10 of 16 validation rows, drawn at random with seed 0")
    assert pages[0].notes[0] == first.settings["notes"][0]
    assert max(row.count for row in first.rows if row.metric == "recall@1") <= 10
    assert max(row.count for row in first.rows if row.metric == "accuracy") == 16
    assert len(EmbeddingTable.load(folder / "validation.parquet")) == 16
    again = evaluate(
        folder, progress=False, max_rows=10, part="validation", manifest=run[0].parent.parent / "clips.csv"
    )
    assert again.rows == first.rows
    assert sampled(16, 10).tolist() == sorted(set(sampled(16, 10).tolist()))


def test_without_texts_classes_are_centroids(tmp_path, monkeypatch):
    rows = make_rows(tmp_path, 60)
    for row in rows[::9]:
        row["label"] = ""
    for row in rows:
        row["group"] = f"g{int(row['id'][5:]) % 10}"
    write_table(tmp_path, rows)
    text = re.sub(r"\n  text:.*", "", write_run(tmp_path).read_text()).replace("epochs: 2", "epochs: 1")
    (tmp_path / "run.yaml").write_text(text + "data: {shares: [0.5, 0.2, 0.3]}\n")
    folder = train(tmp_path / "run.yaml", progress=False)
    pages = []
    monkeypatch.setattr(evaluating, "write_page", lambda path, found, report: pages.append(found))
    report = evaluate(folder, progress=False)
    assert report.settings["evaluation"]["classification"] == "nearest class centroid"
    assert {row.target for row in report.rows if row.metric == "accuracy"} == {"label"}
    assert any("have no known class" in note for note in report.settings["notes"]) == bool((pages[0].labels < 0).any())
    assert pages[0].retrieval.main == (Subset("image"), Subset("audio"))


def test_bad_arguments_are_found_before_anything_is_computed(run, tmp_path):
    with pytest.raises(ValueError, match="part 'tset' is not known; did you mean 'test'"):
        evaluate(run[0], part="tset")
    with pytest.raises(ValueError, match="map_method 'umap' is not known"):
        evaluate(run[0], map_method="umap")
    with pytest.raises(ValueError, match="max_rows must be at least 2; got 1"):
        evaluate(run[0], max_rows=1)
    with pytest.raises(ValueError, match="templates must each hold the class name's place once"):
        evaluate(run[0], templates=["a photo"])
    with pytest.raises(ValueError, match="expected a run folder"):
        evaluate(tmp_path)


def test_a_part_without_rows_says_what_to_do(run, monkeypatch):
    opened = open_run(run[0])
    nobody = type(opened.splits.test)(opened.splits.test.dataset, torch.empty(0, dtype=torch.long))
    empty = replace(opened, splits=replace(opened.splits, test=nobody))
    monkeypatch.setattr(evaluating, "open_run", lambda *arguments: empty)
    with pytest.raises(ValueError, match=r"the test split has no rows.*part='validation'"):
        evaluate(run[0], progress=False)
